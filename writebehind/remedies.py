"""Remedies: for what a status shows to be wrong, what to do about it, and where the runbook says more.

`writebehind doctor`, `writebehind status` and the console say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from writebehind.conditions import MOST_FULL, Remedy, remedy
from writebehind.errors import (
    ForeignRedisError,
    ForeignServerError,
    NoReplicasError,
    RedisNotReadyError,
    RedisUnavailableError,
    ReplicaError,
)
from writebehind.plurals import counted
from writebehind.process_identity import age_s, is_stopped, mark
from writebehind.process_remedies import (
    of_beat,
    of_exporter,
    of_listener,
    of_queue,
    of_tasks,
    of_unheard,
    of_worker,
)
from writebehind.times import duration

_NO_ANSWER: Final = "MongoDB does not answer"
_NO_SIGN: Final = "MongoDB gives no sign of life"
#: Words about a MongoDB that answers with an error: of this process, and of a server that has lost its data.
_ERRORS: Final = ("MongoDB refuses", "internal server error")
_RAISE: Final = (
    "raise WRITEBEHIND_MAX_PENDING_PER_PARTITION as far as Redis has memory, and restart the web processes"
)
_GIVE_MEMORY: Final = "give Redis memory (`CONFIG SET maxmemory`): it is what ends first"
_ADD: Final = (
    "look at what a batch takes and at MongoDB's load: add workers if it has time for more; else clients have to "
    "send less"
)
_FILED: Final = "the same in its configuration file at its next start"
_RESUME: Final = "`writebehind resume`"
_FLUSH: Final = "flush"
_PERMIT: Final = "permit it to the user in REDIS_URL: `ACL LOG` names what it was, `writebehind doctor --acl` all"
#: What to do about a Redis that refuses what is written, by the code of its words.
_REFUSALS: Final = {
    "NOREPLICAS": (
        "see that its replicas run and reach it, as it takes no writes without `min-replicas-to-write` of them; "
        "where it is to have none, `CONFIG SET min-replicas-to-write 0`, and the same in its configuration file"
    ),
    "READONLY": "it is a replica by now: name its primary in REDIS_URL, or `REPLICAOF NO ONE` if it is to be that",
    "OOM": f"{_GIVE_MEMORY}; then see what fills it",
    "MISCONF": "make room on its disk, which is full as a rule: its log says what it could not write",
    "NOPERM": _PERMIT,
    "CLUSTERDOWN": "see which node of the cluster is away: `CLUSTER INFO`",
}
#: A server is perhaps not ready before it has run for so long, seconds; one whose port refuses is not yet, ever.
_STARTS_S: Final = 30.0
_REFUSED: Final = "refused"
#: So many full partitions are named.
_MOST_NAMED: Final = 5
#: From here on a document is far behind the time at which it should have been persisted, seconds.
OVERDUE_S: Final = 30.0
#: Nobody has mended it for so long, seconds.
LONG_OVERDUE_S: Final = 600.0
#: Advice about copies that a move has left behind.
DROP_COPIES: Final = (
    "unless writebehind rebalance runs just now, run it, with --without as before: it drops them. Some may be "
    "used again where the server that has the partition loses its data"
)
#: In less than this, that documents will be refused cannot wait, seconds.
SOON_S: Final = 600.0


def is_mongodb_away(error: str | None, breaker: str | None) -> bool:
    """Whether MongoDB is away, be it that the breaker does not know it yet.

    Args:
        error: why it gives no sign of life; `None` or '' if it does.
        breaker: the state of the breaker; `None` where that is not known.
    """
    return bool(error) or breaker not in {"closed", None}


def remedies(
    figures: Mapping[str, Any],
    *,
    is_stalled: bool,
    is_back: bool,
    could_evict: bool,
    file_fails: bool = False,
    left_over: str = "",
    mongodb_pid: int | None = None,
) -> Iterator[Remedy]:
    """Remedies for what is wrong by the figures of a status, the most urgent first.

    Args:
        figures: as `/admin/status` has them.
        is_stalled: whether nothing is persisted though documents are overdue.
        is_back: whether MongoDB was away until just now: workers take up by themselves what waits.
        mongodb_pid: the process of MongoDB, where `writebehind up` runs it here.
        file_fails: whether Redis could not write its append-only file.
        left_over: copies of partitions that have moved which nobody has dropped, in words; '' for none.
        could_evict: whether Redis is full of what MongoDB has too, and evicts nothing.
    """
    is_away = is_mongodb_away(figures["mongodb_error"], figures["breaker"])
    yield from _of_redis(figures, file_fails=file_fails)
    is_refused = bool(figures["redis_refuses"])  # so nobody can persist anything, or note that it is at work
    if figures["paused"] and (figures["pending"] or _is_paused(figures)):
        yield _paused(figures["paused"])
    if is_away:
        yield _mongodb(figures, mongodb_pid)
    if figures["seconds_until_cap"] == 0:
        can_drain = not is_away and not _is_paused(figures)
        yield _refused(figures, could_evict=could_evict, can_drain=can_drain)
    if not is_away and not is_refused:
        yield from _of_backlog(figures, mongodb_pid, is_stalled=is_stalled, is_back=is_back)
    yield from _of_consistency(figures["consistency"] or {})
    yield from _of_workers(figures, is_told=is_stalled and not is_away)
    yield from _of_single(figures, is_away=is_away or is_refused)
    if figures["dead_letters"]:
        yield of_dead_letters(figures["dead_letters"])
    if left_over:
        yield remedy("copies", "redis", left_over, DROP_COPIES)


def _of_redis(figures: Mapping[str, Any], *, file_fails: bool) -> Iterator[Remedy]:
    """The remedies for a Redis that answers in part."""
    is_told = file_fails or (figures["seconds_until_cap"] == 0 and figures["cap"] == "memory")
    if file_fails:
        yield _of_file()
    if figures["redis_refuses"] and not is_told:
        part = told_refusing(figures["refusing"], figures["partitions"])
        yield of_refusal(figures["redis_refuses"], figures["redis_refuses_seconds"], part)
    for one in figures["away"]:
        yield _of_server(one["server"], one["partitions"])


def _of_backlog(
    figures: Mapping[str, Any], mongodb_pid: int | None, *, is_stalled: bool, is_back: bool
) -> Iterator[Remedy]:
    """The remedy for what waits, and for a cap that it meets soon, while MongoDB answers."""
    until_s, late_s = figures["seconds_until_cap"], figures["overdue_seconds"]
    is_late = late_s > OVERDUE_S and not _is_paused(figures)
    if is_stalled:
        refuses = figures["mongodb_refuses"]
        yield _refusing(refuses, mongodb_pid) if refuses else _stalled(figures, is_back=is_back)
    elif until_s and until_s < SOON_S:
        yield _soon(figures)
    elif figures["grows_per_second"] and late_s <= LONG_OVERDUE_S:
        yield _outrun(figures)
    elif is_late:
        yield _overdue(figures)


def _is_paused(figures: Mapping[str, Any]) -> bool:
    """Whether nothing of any collection is flushed, because somebody wants it so."""
    return any(one["collection"] is None for one in figures["paused"] or ())


def _of_workers(figures: Mapping[str, Any], *, is_told: bool) -> Iterator[Remedy]:
    """The remedies for queues that nobody consumes, unless it is told that nothing is persisted; and workers."""
    for queue in figures["unconsumed"] or ():
        if not (queue == _FLUSH and is_told):
            yield of_queue(queue, figures)
    for one in figures["silent_workers"] or ():
        yield of_worker(one)


def _of_single(figures: Mapping[str, Any], *, is_away: bool) -> Iterator[Remedy]:
    """The remedies for processes of which there is one; of MongoDB it is told already that it is away."""
    beat, listener, exporter = figures["beat"], figures["listener"], figures["exporter"]
    if beat and beat["swept_seconds_ago"] is not None and beat["is_silent"]:
        yield of_beat(beat, figures["consumers"])
    elif beat and figures["periodic"] and not beat["is_awaited"]:
        yield from of_tasks(figures["periodic"], figures["consumers"])
    if listener and listener["is_silent"]:
        yield of_listener(listener)
    elif listener and not is_away and (unheard := of_unheard(listener)):
        yield unheard
    if exporter and exporter["is_silent"]:
        yield of_exporter(exporter)


def of_redis(error: RedisUnavailableError, pid: int | None) -> Remedy:
    """The remedy for a Redis that is away.

    Args:
        error: how that was seen.
        pid: its process, where `writebehind up` runs it here.
    """
    if isinstance(error, RedisNotReadyError):
        advice = of_not_ready(error)
    elif pid:
        advice = f"{runs_here(pid, error.inner)}; start no other in its place, as what is pending is only there"
    else:
        advice = (
            "look on its host whether its process is stopped (`kill -CONT` lets it go on), busy or has ended, or "
            "makes writes wait (`CLIENT UNPAUSE` ends that): start it with its data, or not at all, as what is "
            "pending is only there; `writebehind doctor` says more"
        )
    return remedy("redis", "redis", error.public, advice)


def of_foreign(error: ForeignRedisError) -> Remedy:
    """The remedy for a process that does not fit its Redis."""
    advice = f"{error.inner}. `writebehind doctor` with the settings of that process says the same"
    return remedy("redis", "redis", error.public, advice)


def of_not_ready(error: RedisNotReadyError) -> str:
    """Advice about a Redis that answers that it cannot serve now: nobody is to start it."""
    if isinstance(error, ForeignServerError):
        return f"{error.inner}: see that REDIS_URL leads to the servers of this installation"
    if isinstance(error, ReplicaError):
        return f"{_REFUSALS['READONLY']}. All goes on by itself then"
    if isinstance(error, NoReplicasError):
        return f"{_REFUSALS['NOREPLICAS']}. All goes on by itself then; have one replica more than that"
    if error.inner.startswith("BUSY"):
        return (
            "a script keeps it busy: `SCRIPT KILL`, or `FUNCTION KILL`, ends one that has written nothing, and "
            "Redis goes on by itself then; look for whose it is"
        )
    goes_on = "it goes on by itself once it has loaded its data, or what it waits for is back"
    return f"{goes_on}: its log says how far it is"


def _of_file() -> Remedy:
    found = "Redis could not write its append-only file, and refuses all writes, also those of workers"
    advice = "make room on its disk, which is full as a rule: it goes on by itself. Its log says what was wrong"
    return remedy("redis-file", "redis", found, advice)


def of_refusal(words: str, lasts_s: float | None = None, part: str = "") -> Remedy:
    """The remedy for a Redis that answers, and refuses whatever is written.

    Args:
        words: by which it does.
        lasts_s: for how long it has, at least, seconds; `None` where that is not known.
        part: the partitions of which it does, in words; '' for all.
    """
    since = f", for {duration(lasts_s)} at least" if lasts_s else ""
    to = f" to {part}" if part else ""
    found = f"Redis answers, and refuses whatever is written{to}, also by workers{since}: {words}"
    advice = next((told for code, told in _REFUSALS.items() if code in words), "see its log")
    return remedy("redis-refuses", "redis", found, f"{advice}. All goes on by itself then, without a restart")


def told_refusing(refusing: Sequence[Mapping[str, Any]], of: int) -> str:
    """The partitions that are refused, of so many, as a status has the servers that do; '' where all do."""
    if not refusing:
        return ""
    refused = sum(len(one["partitions"]) for one in refusing)
    names = [str(one["server"]) for one in refusing if one["server"]]
    on = f", on server{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""
    return f"{refused} of {counted(of, 'partition')}{on}"


def of_lost_data(lost: Iterable[str]) -> Remedy:
    """The remedy for data that Redis has lost: what was only in it, in words."""
    found = f"Redis has lost data, and acknowledged writes with it: {'; '.join(lost)}"
    advice = (
        "keep its old files, as these may have them; see who wrote then, and have them write again; "
        "`writebehind doctor --loss-seen` ends this line"
    )
    return remedy("lost-data", "lost_data", found, advice)


def of_lost_keys() -> Remedy:
    """The remedy for API keys that Redis has lost, all of them."""
    found = "Redis has lost all API keys: nobody is let in but with the root key or a token of an issuer"
    advice = (
        "make others by `writebehind keys create`, on the command line, which needs none; see who emptied Redis "
        "or started it without its files; where there are to be no keys any more, `writebehind doctor` says how"
    )
    return remedy("lost-keys", "lost_keys", found, advice)


def _of_consistency(figures: Mapping[str, Any]) -> Iterator[Remedy]:
    """The remedies for what Redis and MongoDB differ in, and readers see."""
    if figures.get("vanished"):
        yield _vanished(figures["vanished"])
    windows = figures.get("windows") or {}
    longest = windows[max(windows, key=int)] if windows else {"ratio": None}
    if longest["ratio"] is not None and longest["ratio"] < 1:
        yield _inconsistent(longest)


def _inconsistent(seen: Mapping[str, Any]) -> Remedy:
    looks = counted(seen["looks"], "look")
    found = f"readers saw something wrong for more than a minute: {seen['wrong']} of {looks} of the last hour"
    advice = (
        "`writebehind consistency` names the documents: see whether the listener runs, and whether MongoDB has "
        "what Redis has (`writebehind reconcile --all --dry-run`)"
    )
    return remedy("inconsistent", "readers", found, advice)


def _vanished(count: int) -> Remedy:
    found = f"MongoDB has no more {counted(count, 'document')} that Redis has: it may have lost them"
    advice = (
        "`writebehind reconcile --all --vanished restore` writes them again for as long as they are cached; where "
        "others have deleted them `--vanished drop` forgets them. Then look what else MongoDB lacks"
    )
    return remedy("vanished", "vanished", found, advice)


def runs_here(pid: int, reason: str = "") -> str:
    """Advice about a process of this host whose server does not answer, for a reason in the driver's words."""
    if is_stopped(mark(pid)):
        return f"process {pid} runs here and is stopped: `kill -CONT {pid}` lets it go on"
    run_s = age_s(pid)
    if _REFUSED in reason or (run_s is not None and run_s < _STARTS_S):
        return f"process {pid} runs here and is starting, which its log tells more of"
    if run_s is None:
        return f"process {pid} runs here and is frozen or overloaded: `kill -CONT {pid}` lets a frozen one go on"
    return f"process {pid} runs here, is not stopped, and is overloaded or hangs: look at its load and its log"


def _mongodb(figures: Mapping[str, Any], pid: int | None) -> Remedy:
    reason = figures["mongodb_error"] or figures["breaker_reason"] or f"the breaker is {figures['breaker']}"
    longer = _GIVE_MEMORY if figures["cap"] == "memory" else _RAISE
    return _without_mongodb(reason, pid, f"If that takes longer than writes are taken for, {longer}")


def of_mongodb(pid: int | None) -> Remedy:
    """The remedy for a MongoDB that is away as Redis is: nothing else is known, and no address is told.

    Args:
        pid: its process, where `writebehind up` runs it here.
    """
    return _without_mongodb("", pid, "Until either is back there are no reads either")


def answers_with_errors(reason: str) -> bool:
    """Whether MongoDB answers, if only with an error: so its process is neither stopped nor out of reach."""
    return any(one in reason for one in _ERRORS)


def broken(pid: int | None) -> str:
    """Advice about a MongoDB that answers with errors.

    Args:
        pid: its process, where `writebehind up` runs it here.
    """
    advice = (
        "see what its log says: whether its disk is full, its data directory is gone, and what its user may do"
    )
    if pid is None:
        return advice
    return (
        f"{advice}. If it is its disk or its data: it is process {pid}, which runs here and does not get over "
        f"that by itself, so make room, or put them back, then `kill {pid}`, and `writebehind up` starts it anew"
    )


def _without_mongodb(reason: str, pid: int | None, more: str) -> Remedy:
    if answers_with_errors(reason):
        found = f"MongoDB answers with an error: {_bare(reason)}"
        advice = f"{broken(pid)}. What waits drains by itself then. {more}"
        return remedy("mongodb", "mongodb", found, advice)
    see_to_it = runs_here(pid, reason) if pid else "bring MongoDB back"
    advice = f"{see_to_it}: what waits drains by itself, and nothing has to be restarted. {more}"
    why = _bare(reason)
    return remedy("mongodb", "mongodb", f"{_NO_ANSWER}: {why}" if why else _NO_ANSWER, advice)


def _bare(reason: str) -> str:
    """A reason without the words that say only that there is no answer."""
    for words in (_NO_SIGN, _NO_ANSWER):
        reason = reason.removeprefix(words).removeprefix(": ")
    return reason


def _refusing(reason: str, pid: int | None) -> Remedy:
    found = f"MongoDB answers, and takes nothing that is written to {reason}"
    advice = f"{broken(pid)}. What waits drains by itself, and no worker has to be restarted"
    return remedy("mongodb-refuses", "mongodb", found, advice)


def _paused(pauses: Sequence[Mapping[str, Any]]) -> Remedy:
    found = f"flushing of {', '.join(one['collection'] or 'all collections' for one in pauses)} is paused"
    advice = f"{_RESUME} lets it go on, once MongoDB is to be written to again"
    return remedy("paused", "paused", found, advice)


def _refused(figures: Mapping[str, Any], *, could_evict: bool, can_drain: bool) -> Remedy:
    caps = figures["caps"]  # not known while their server is away
    if figures["cap"] == "memory":
        part = f"{caps['max_memory_percent']:g} %" if caps else "as much"
        found = f"Redis has used {part} of its memory{'' if caps else ' as it may'}"
        advice = "give Redis memory at once (`CONFIG SET maxmemory`), then see what fills it"
        if could_evict:
            found = f"{found}, much of it with copies of what MongoDB has, and evicts nothing"
            advice = (
                f"evict these: `CONFIG SET maxmemory-policy volatile-lru` makes room at once, and {_FILED}; "
                "what MongoDB does not have yet stays"
            )
        elif figures["pending"] and can_drain:  # a broker in the same Redis may take no message
            advice = f"`writebehind drain` brings what waits to MongoDB, without workers; {advice}"
        return remedy(
            "memory", "refused", f"new documents are refused now with 503, as a cap is met: {found}", advice
        )
    most = counted(caps["max_pending_per_partition"], "document") if caps else "as many documents as it may have"
    full, partitions = figures["full_partitions"], figures["partitions"]
    drains = f"{_RESUME}, as flushing is paused," if _is_paused(figures) else "see to MongoDB and to the workers,"
    advice = f"{drains} so that they drain; to win time, {_RAISE}"
    where, others = f"in all {counted(partitions, 'partition')}", ""
    if len(full) < partitions:
        named = f" ({', '.join(map(str, full))})" if len(full) <= _MOST_NAMED else ""
        where, others = (
            f"in {len(full)} of {counted(partitions, 'partition')}{named}",
            "; the others take documents",
        )
    condition = "refused" if len(full) >= MOST_FULL * partitions else "refused-in-part"
    found = f"new documents {where} are refused now with 503, as a cap is met: each has {most} waiting, or more"
    return remedy(condition, "refused", f"{found}{others}", advice)


def _stalled(figures: Mapping[str, Any], *, is_back: bool) -> Remedy:
    found = (
        f"nothing is persisted: {counted(figures['pending'], 'document')} pending, of which the oldest is overdue "
        f"for {figures['overdue_seconds']:.0f} s"
    )
    at_work = (figures["consumers"] or {}).get(_FLUSH, [])
    awaited = _of_flush(figures["awaited_workers"])
    silent = _of_flush(figures["silent_workers"])
    drain = "`writebehind drain` persists it from where you are, and says what refuses it"
    soon = "takes up what waits by itself, within 15 s as a rule: look again then"
    if at_work and is_back:
        condition, advice = "resumes", f"MongoDB was away until just now, and {', '.join(at_work)} {soon}"
    elif at_work:
        condition, advice = "stalled", f"look at the logs of {', '.join(at_work)}, and start them anew; {drain}"
    elif awaited:
        condition, advice = "resumes", f"Redis was away until just now, and {', '.join(awaited)} {soon}"
    elif figures["partitions_at_work"]:
        condition, advice = "resumes", f"somebody is at work, as a worker that starts, and {soon}"
    elif silent:
        condition, advice = "no-worker", f"let {', '.join(silent)} go on, or start it anew; {drain}"
    else:
        start = f"start a worker with -Q {_FLUSH}, as in the Procfile, unless `up` does"
        condition, advice = "no-worker", f"{start}; {drain}"
    return remedy(condition, "backlog", found, advice)


def _of_flush(workers: Sequence[Mapping[str, Any]] | None) -> list[str]:
    return [one["worker"] for one in workers or () if _FLUSH in one["queues"]]


def _of_server(server: str, partitions: Sequence[int]) -> Remedy:
    found = f"{server} does not answer: writes to {counted(len(partitions), 'partition')} are refused"
    advice = f"see that {server} runs and can be reached; the other partitions go on, and all figures are theirs"
    return remedy("redis-server", f"redis {server}", found, advice)


def of_dead_letters(count: int) -> Remedy:
    """The remedy for documents that MongoDB has refused."""
    found = f"{counted(count, 'dead letter waits', 'dead letters wait')} for a decision, in Redis only"
    advice = (
        "`writebehind dead-letters list` says which, and why: replay or discard each; with `lookup`, one about a "
        "unique value is replayed by itself once the value is free"
    )
    return remedy("dead-letters", "dead letters", found, advice)


def _soon(figures: Mapping[str, Any]) -> Remedy:
    """The remedy for documents that will be refused."""
    until_s, is_memory = figures["seconds_until_cap"], figures["cap"] == "memory"
    why = "Redis is short of memory" if is_memory else "too much is pending"
    more = f"; {told}" if (told := outrun(figures)) else ""
    found = f"new documents are refused in {duration(until_s)} at this rate, as {why} then{more}"
    drains = f"{_RESUME}, as flushing is paused" if _is_paused(figures) else _ADD
    advice = f"{_GIVE_MEMORY}; then see what fills it" if is_memory else f"{drains}; to win time, {_RAISE}"
    return remedy("refused-soon", "backlog", found, advice)


def _overdue(figures: Mapping[str, Any]) -> Remedy:
    """The remedy for documents that wait for long, though nothing stands still."""
    late_s, drained_s = figures["overdue_seconds"], figures["seconds_until_drained"]
    found = f"{counted(figures['pending'], 'document')} pending, of which one is overdue for {late_s:.0f} s"
    if drained_s is None:
        advice = "see what holds MongoDB up, and the logs of the workers"
    else:
        found, advice = f"{found}; at this rate it is drained in {drained_s:.0f} s", "wait, and look again then"
    return remedy("overdue" if late_s <= LONG_OVERDUE_S else "overdue-for-long", "backlog", found, advice)


def _outrun(figures: Mapping[str, Any]) -> Remedy:
    advice = f"{_ADD}, or writes are refused once a cap is met"
    return remedy("outrun", "backlog", outrun(figures) or "", advice)


def outrun(figures: Mapping[str, Any]) -> str | None:
    """By how much more comes than goes; `None` where it does not."""
    if not (grows := figures["grows_per_second"]):
        return None
    goes = figures["flushed_per_second"] or 0.0
    return f"more comes than goes: {grows + goes:.0f} documents in a second, of which {goes:.0f} are persisted"
