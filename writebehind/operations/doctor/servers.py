"""Redis servers with names: whether each answers, and has what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from writebehind.errors import ConfigurationError, RedisUnavailableError, told
from writebehind.operations.doctor.findings import Finding, failure, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.topology.assigned import parsed
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.record import Assignment, fair, left_over
from writebehind.remedies import DROP_COPIES

_CHECK = "redis servers"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Findings about the servers that REDIS_URL names; none where it gives no names.

    Raises:
        RedisUnavailableError: none of them answers.
    """
    store = pipeline.store
    names = store.rebalancing.names
    try:
        store.assigned.check()
    except ConfigurationError as error:
        found, _, advice = str(error).removeprefix("REDIS_URL: ").partition(": ")
        yield failure(_CHECK, found, advice, fatal=True)
        return
    if not names:
        return
    answers = store.assigned.answers()
    records = parsed(answers)
    if silent := [name for name in names if name not in records]:
        advice = "see that it runs and can be reached: its partitions are unavailable, and no others"
        yield failure(_CHECK, "; ".join(_silent(name, answers[name]) for name in silent), advice)
        return
    if not any(records.values()):
        yield ok(_CHECK, "not recorded yet: nobody has written")
        return
    assignment = Assignment.of(names, records)
    yield _shares(assignment, pipeline.settings.partitions)
    yield from _unfinished(assignment, names)


def _silent(name: str, answer: Exception) -> str:
    """The words for a server that does not say what is on it."""
    if isinstance(answer, RedisUnavailableError):
        return f"{name} does not answer{': ' * bool(answer.inner)}{answer.inner or ''}"
    return f"{name} refuses to say what is on it: {told(answer)}"


def _shares(assignment: Assignment, partitions: int) -> Finding:
    places = [assignment.server_of(str(one)) for one in range(partitions)]
    shares = [f"{name} has {counted(places.count(name), 'partition')}" for name in assignment.servers]
    return ok(_CHECK, f"{', '.join(shares)}; {assignment.server_of(HOME)} has what belongs to none")


def _unfinished(assignment: Assignment, names: Sequence[str]) -> Iterator[Finding]:
    if unused := [name for name in names if name not in assignment.servers]:
        yield warning(
            _CHECK,
            f"{', '.join(unused)} has no partition yet",
            "to use it, run writebehind rebalance once all processes have it in REDIS_URL; else take it out",
        )
    misplaced = [one for one, name in assignment.claims.items() if name != fair(one, assignment.servers)]
    if assignment.gone or (misplaced and not unused):
        count = len(assignment.gone) + len(misplaced)
        yield warning(
            _CHECK,
            f"{counted(count, 'partition is', 'partitions are')} not where they belong, as a move was interrupted",
            "run writebehind rebalance, with --without as before",
        )
    if told := left_over(assignment):
        yield warning(_CHECK, told, DROP_COPIES)
