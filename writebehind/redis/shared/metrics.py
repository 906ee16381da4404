"""Figures of an installation: backlog, counters, rates, and the runs of periodic tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.exceptions import ResponseError

from writebehind.errors import RedisFullError
from writebehind.redis import keys
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.reach import known
from writebehind.redis.scripts import Script, script
from writebehind.redis.shared import persisted as flushes
from writebehind.redis.shared import totals, workers
from writebehind.redis.shared.persisted import REMEMBERED_S, Persisted
from writebehind.redis.shared.totals import Totals
from writebehind.redis.shared.workers import Crew
from writebehind.redis.strays import whole
from writebehind.redis.topology.dividing import steadily
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs

#: The name of sweeping among the periodic tasks.
SWEEP = "sweep"
#: No run of a task has taken longer.
_MOST_SECONDS = 1e9

_RECORD_RUN, _RECORD_PASS = script("record_run"), script("record_pass")
_COUNT_UNSETTLED, _COUNT_FLUSHED = script("count_unsettled"), script("count_flushed")


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition's backlog.

    Attributes:
        partition: its number.
        pending: documents that wait for MongoDB.
        dead: dead letters.
        head: the member that has waited longest, and when it is due, ms.
        tail_ms: when the member is due that is due last.
        claim_left_ms: life that the claim of a flusher has left; `None` where nobody has claimed it.
        ticket_ms: when the flush task is to run that is on its way; 0 where a flusher has said that none is
            wanted, `None` where none is.
        ticket_left_ms: life that its ticket has left.
        aside: of the members that are set aside, as their collection is paused, the one that is due first, and
            when, ms; `head` and `tail_ms` are of the others.
        tried_ms: since when MongoDB was given `head`, or since when it was written where MongoDB did not take it,
            ms; `None` where it was not given it yet. Other than when it is due, this does not move.
    """

    partition: int
    pending: int
    dead: int
    head: tuple[str, float] | None
    tail_ms: float | None = None
    claim_left_ms: int | None = None
    ticket_ms: int | None = None
    ticket_left_ms: int = 0
    aside: tuple[str, float] | None = None
    tried_ms: float | None = None


@dataclass(slots=True)
class Run:
    """The last run of a periodic task.

    Attributes:
        at_ms: when it ended, by the clock of Redis.
        seconds: how long it took.
        outcome: what it did, by name.
        error: why it failed, '' if it did not.
    """

    at_ms: int = 0
    seconds: float = 0.0
    outcome: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def parse(cls, noted: bytes) -> Run | None:
        """Read what was recorded; `None` for what is no record."""
        at, _, text = noted.partition(b" ")
        try:
            told = orjson.loads(text)
        except ValueError:
            return None
        match told:
            case {"seconds": int() | float() as took, "outcome": dict() as outcome, "error": str() as error}:
                return cls(whole(at), took, outcome, error) if 0 <= took <= _MOST_SECONDS else None
        return None

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """For a status."""
        return {
            "seconds_ago": max(0.0, (now_ms - self.at_ms) / 1000),
            "seconds": self.seconds,
            "outcome": self.outcome,
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True)
class Activity:
    """Work that is done, and who does it.

    Attributes:
        crew: the workers.
        persisted: documents that were persisted in the last minute.
        runs: the last run of each periodic task that has run, by name.
    """

    crew: Crew
    persisted: Persisted
    runs: dict[str, Run]

    def swept_ago_s(self, now_ms: int) -> float | None:
        """The time since the last sweep, seconds; `None` where there was none."""
        run = self.runs.get(SWEEP)
        return None if run is None else max(0.0, (now_ms - run.at_ms) / 1000)


class Metrics:
    """Figures in Redis that nothing of the protocol depends on. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Look at a server that is divided so."""
        self._wire = wire
        self._layout = layout

    @steadily
    def backlog(self) -> list[PartitionStatus]:
        """Every partition's backlog, each at one moment, in one round trip; in two where nothing is pending.

        What is brought home between looks at two partitions is there at the second look.

        Raises:
            RedisUnavailableError: Redis does not answer, or one of several servers does not.
        """
        return self._look_twice(self._wire.run_many)

    @steadily
    def backlog_answered(self) -> list[PartitionStatus]:
        """`backlog` of the partitions whose server answers.

        Raises:
            RedisUnavailableError: none does.
        """
        return self._look_twice(self._wire.run_many_answered)

    def _look_twice(self, run_many: Callable[[Script, Sequence[Call]], list[Any]]) -> list[PartitionStatus]:
        found = self._look(run_many)
        return found if any(one.pending for one in found) else self._look(run_many)

    def _look(self, run_many: Callable[[Script, Sequence[Call]], list[Any]]) -> list[PartitionStatus]:
        numbers = self._layout.in_use()
        of_all = map(partition_keys, numbers)
        counted = run_many(
            _COUNT_UNSETTLED, [((of.pending, of.dead, of.lease, of.scheduled, of.sent), ()) for of in of_all]
        )
        return [
            PartitionStatus(
                partition,
                pending,
                dead,
                _first(head),
                float(tail[1]) if tail else None,
                claim_left_ms if claim_left_ms >= 0 else None,
                whole(ticket.partition(b":")[0]) if ticket else None,
                max(0, ticket_left_ms),
                _first(aside),
                float(head[2]) if head and head[2] else None,
            )
            for partition, answer in zip(numbers, counted, strict=True)
            if answer is not None
            for pending, dead, head, tail, claim_left_ms, (ticket, ticket_left_ms), aside in [answer]
        ]

    def count(self, counters: Mapping[str, int], *, persisted: int = 0) -> None:
        """Add to the counters, and to the flush rate, as nothing depends on them.

        Not while Redis is full, or the server that has them is away while others are not.
        """
        known(self._wire, lambda: self._count(counters, persisted), None)

    def _count(self, counters: Mapping[str, int], persisted: int) -> None:
        commands: list[tuple[Any, ...]] = [
            ("HINCRBY", keys.COUNTERS, name, number) for name, number in counters.items() if number
        ]
        flushed = ((keys.FLUSHED,), (persisted, REMEMBERED_S))
        with suppress(RedisFullError):  # in which flushes are counted all the same
            answers = (
                self._wire.run_before(_COUNT_FLUSHED, flushed, commands)
                if persisted
                else self._wire.calls(commands)
            )
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, ResponseError):  # other hands have made it no number: it begins anew
                    self._wire.call("HDEL", keys.COUNTERS, command[2])

    def counters(self) -> dict[str, int]:
        """The counters since the first start. Raises as `totals`."""
        return dict(self.totals().by_name)

    def totals(self) -> Totals:
        """The counters since the first start, and how long writes took until MongoDB had them.

        Those of a server that does not answer while others do are missing in them, which they say.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return totals.read(self._wire, self._layout.partitions)

    def activity(self, now_ms: int | None = None) -> Activity:
        """Work that is done, in one round trip; with another one for the clock of Redis, where it is not given.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        now = self._wire.now_ms() if now_ms is None else now_ms
        runs, flushed, *crew = self._wire.calls(
            (("HGETALL", keys.RUNS), ("HGETALL", keys.FLUSHED), *workers.commands(now))
        )
        told = ((name, Run.parse(noted)) for name, noted in pairs(runs))
        return Activity(
            workers.read(crew, now),
            flushes.read(flushed, now / 1000),
            {task.decode(errors="replace"): run for task, run in told if run is not None},
        )

    @contextmanager
    def record_run(self, task: str) -> Iterator[Callable[..., None]]:
        """Record a run of a periodic task: how long it took, what it says that it did, or why it failed.

        Nothing is recorded while the server that has the record is away and others are not.

        Yields:
            What takes the figures of the outcome, by name.
        """
        run, began = Run(), time.monotonic()
        try:
            yield run.outcome.update
        except Exception as error:
            run.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            run.seconds = round(time.monotonic() - began, 3)
            self._record_run(task, run)

    def _record_run(self, task: str, run: Run) -> None:
        told = {"seconds": run.seconds, "outcome": run.outcome, "error": run.error}
        known(self._wire, lambda: self._wire.run(_RECORD_RUN, (keys.RUNS,), (task, orjson.dumps(told))), None)

    def runs(self) -> dict[str, Run]:
        """The last run of each periodic task that has run, by name."""
        return self.activity().runs

    def since_run(self, task: str) -> float | None:
        """The time since a periodic task last ran, seconds; `None` if it never has."""
        run = self.runs().get(task)
        return None if run is None else max(0.0, (self._wire.now_ms() - run.at_ms) / 1000)


class Journal:
    """Conflicts with other writers, and reconciling passes. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def add_conflict(self, conflict: bytes, *, most: int) -> None:
        """Add a conflict, and forget the oldest of more than `most`; not while Redis is full."""
        with suppress(RedisFullError):
            self._wire.calls([("LPUSH", keys.CONFLICTS, conflict), ("LTRIM", keys.CONFLICTS, 0, most - 1)])

    def conflicts(self, first: int, last: int) -> list[bytes]:
        """Conflicts, the last one being the first."""
        found: list[bytes] = self._wire.call("LRANGE", keys.CONFLICTS, first, last)
        return found

    def pass_under_way(self) -> bytes | None:
        """The reconciling pass under way, as it was noted."""
        noted: bytes | None = self._wire.call("GET", keys.RECONCILE)
        return noted

    def add_pass(self, told: bytes, *, drift: bool, most: int, remembered_ms: int, token: str) -> bool:
        """Add a pass to those that found drift, or did not.

        Args:
            told: the pass.
            drift: whether it found any.
            most: passes that are kept.
            remembered_ms: for so long.
            token: of whoever made the pass under way, which ends by this; '' for another pass.

        Returns:
            False when somebody else has the lease by now: then it is not remembered.
        """
        history = keys.DRIFT if drift else keys.DRIFT_FREE
        places = (history, keys.RECONCILE_LEASE, keys.RECONCILE)
        return bool(self._wire.run(_RECORD_PASS, places, (told, most, remembered_ms, token)))

    def passes(self, limit: int) -> list[bytes]:
        """The last passes that found drift, and as many that did not."""
        some = self._wire.calls([("LRANGE", one, 0, limit - 1) for one in (keys.DRIFT, keys.DRIFT_FREE)])
        return [one for history in some for one in history]


def _first(found: Sequence[bytes]) -> tuple[str, float] | None:
    """A member, and when it is due, ms."""
    return (found[0].decode(errors="replace"), float(found[1])) if found else None
