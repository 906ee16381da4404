"""The processes: workers by what they do, beat by the last sweep, and what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from writebehind.conditions import Remedy
from writebehind.consistency.tally import UNOBSERVED_S
from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor.findings import Finding, failure, of, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.process_remedies import (
    LATE,
    of_beat,
    of_exporter,
    of_listener,
    of_queue,
    of_tasks,
    of_unheard,
    of_worker,
)
from writebehind.redis.reach import told_away
from writebehind.redis.shared.attendance import BEAT, Outage
from writebehind.redis.shared.metrics import SWEEP
from writebehind.redis.shared.pauses import told
from writebehind.remedies import OVERDUE_S, is_mongodb_away
from writebehind.settings.names import MAINTENANCE_QUEUE
from writebehind.silence import is_beat_away, is_missing

#: The first sweep may come so much later than its interval says, and is waited for so long at most, seconds.
STARTING_S, MOST_PATIENCE_S = 3.0, 10.0
#: Between two looks whether it has come, seconds.
_LOOK_EVERY_S = 0.1
#: Why nobody knows what a worker does, or consumes.
_REFUSED: Final = "Redis refuses to record heartbeats"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything about processes that can be seen in Redis.

    Raises:
        RedisUnavailableError: not all of it can be seen.
    """
    try:
        yield from _check(pipeline)
    except RedisUnavailableError:
        yield from _backlog_answered(pipeline)
        raise


def lost_data(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Documents that were only in data that Redis has lost, until an operator has seen it."""
    for one in status["to_do"]:
        if one["about"] == "lost_data":
            yield failure("lost data", one["found"], f"{one['advice']}; more at {one['runbook']}")


def _check(pipeline: Pipeline) -> Iterator[Finding]:
    _await_sweep(pipeline)
    status = pipeline.status()
    yield from lost_data(status)
    if status["unknown"]:
        found = f"not known, as a server of Redis does not answer: {', '.join(status['unknown'])}"
        yield failure("processes", found, "see to Redis first")
        yield backlog(status)
        return
    alive = pipeline.store.workers.alive()
    if alive:
        yield ok("workers", ", ".join(alive))
    elif not status["awaited_workers"]:
        found = "none has done anything lately: nothing is persisted"
        yield failure("workers", found, "start them as in the Procfile")
    yield from busy(status["busy_workers"])
    yield from silent(status["silent_workers"])
    yield from awaited(status["awaited_workers"], is_refused=status["heartbeats_refused"])
    yield from ended(status["ended_workers"])
    yield from consumers(status)
    yield beat(status["beat"], status["consumers"], pipeline.settings.sweep_interval)
    if not (status["beat"]["is_silent"] or status["beat"]["is_awaited"]):
        yield from tasks(status["periodic"], status["consumers"])
    yield from paused(status["paused"])
    yield backlog(status)
    yield from refused(status["to_do"])
    yield from caps(status["caps"])
    yield listener(status["listener"])
    outage = pipeline.store.attendance.look(pipeline.store.now_ms()).outage
    yield exporter(status, observes=bool(pipeline.settings.consistency_cpu_percent), outage=outage)


def _backlog_answered(pipeline: Pipeline) -> Iterator[Finding]:
    """The backlog of the servers that answer; none where no one does."""
    with suppress(RedisUnavailableError):
        yield backlog(pipeline.status())


def _await_sweep(pipeline: Pipeline) -> None:
    """Give a system that has just begun the time for its first sweep, where beat and a worker could run it."""
    store, interval_s = pipeline.store, pipeline.settings.sweep_interval
    until = time.monotonic() + min(interval_s + STARTING_S, MOST_PATIENCE_S)
    while time.monotonic() <= until:
        attendant = store.attendance.look(store.now_ms()).by_role.get(BEAT)
        asks = {"swept_seconds_ago": store.metrics.since_run(SWEEP), "is_stopped": False}
        if (attendant and attendant.is_stopped) or not is_beat_away(asks, interval_s):
            return
        if not store.workers.consumers().get(MAINTENANCE_QUEUE):
            return
        time.sleep(_LOOK_EVERY_S)


def consumers(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Some worker consumes each queue, or is waited for."""
    awaited = status["awaited_workers"]
    for queue, names in status["consumers"].items():
        if names:
            yield ok(f"queue {queue}", f"consumed by {', '.join(names)}")
            continue
        if queue not in status["unconsumed"]:
            waits_for = ", ".join(_of_queue(awaited, queue))
            yield ok(f"queue {queue}", f"waits for {waits_for}" if waits_for else f"not known: {_REFUSED}")
            continue
        yield of(of_queue(queue, status))


def _of_queue(workers: Sequence[Mapping[str, Any]], queue: str) -> list[str]:
    return [one["worker"] for one in workers if queue in one["queues"]]


def busy(workers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A worker whose pool is full is at work, and can prove no more."""
    for one in workers:
        found = f"busy for {one['seconds']:.0f} s: its pool is full and takes no other task"
        yield ok(f"worker {one['worker']}", found)


def silent(workers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """No worker has fallen silent that has not ended."""
    for one in workers:
        yield of(of_worker(one))


def awaited(workers: Sequence[Mapping[str, Any]], *, is_refused: bool) -> Iterator[Finding]:
    """A worker that could prove nothing while Redis was away, or refuses that, is given time."""
    why = _REFUSED if is_refused else "Redis was away until just now"
    for one in workers:
        yield ok(f"worker {one['worker']}", f"{why}, and it is waited for: it goes on by itself")


def ended(workers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A worker that was killed is no fault by itself: that nobody consumes its queues is one."""
    for one in workers:
        found = f"it has ended without a word, and did nothing for {one['seconds_ago']:.0f} s: it was killed"
        yield ok(f"worker {one['worker']}", found)


def listener(status: Mapping[str, Any] | None) -> Finding:
    """Somebody brings the changes of other writers to the cache."""
    if status is None:
        advice = f"start `writebehind listen` as in the Procfile: {LATE}"
        return warning("listener", "none has ever run", advice)
    if status["is_silent"]:
        return of(of_listener(status))
    if unheard := of_unheard(status):
        return of(unheard)
    return ok("listener", f"{status['leader']}, {status['lag_s']:.1f} s behind")


def exporter(status: Mapping[str, Any], *, observes: bool, outage: Outage | None = None) -> Finding:
    """Somebody records the last hour and looks what readers see: else green figures are those of long ago.

    One that was never started may not be wanted; of one that is gone or frozen nobody hears otherwise.
    """
    recorded_s, consistency = status["exporter"]["recorded_seconds_ago"], status["consistency"]
    seen_s = consistency["observed_seconds_ago"]
    if recorded_s is None:
        found = "none has ever run: nobody records the last hour, or looks whether readers see what is right"
        return warning("exporter", found, "start `writebehind run exporter` as in the Procfile")
    if status["exporter"]["is_silent"]:
        return of(of_exporter(status["exporter"]))
    is_away = is_mongodb_away(status["mongodb_error"], status["breaker"])
    is_awaited = seen_s is not None and not is_away and not is_missing(seen_s, UNOBSERVED_S, outage)
    if not observes or consistency["is_observed"] or is_awaited:
        return ok("exporter", f"recorded the history {recorded_s:.0f} s ago")
    since = "yet" if seen_s is None else f"for {seen_s:.0f} s"
    found = f"it records the history, and has not looked what readers see {since}"
    if is_away:
        return warning("exporter", found, "see to MongoDB, without which nobody can look")
    if seen_s is None:  # one that has just begun
        return warning("exporter", found, "look again in a while: if nothing has changed, see its log")
    return warning("exporter", found, "see its log, and start it anew")


def beat(told: Mapping[str, Any], consumers: Mapping[str, Any], interval_s: float) -> Finding:
    """The sweep runs, so both beat and the maintenance worker do."""
    swept_s = told["swept_seconds_ago"]
    if told["is_awaited"]:
        return ok(
            "beat", f"Redis was away until just now: the last sweep was {swept_s:.0f} s ago, and one is awaited"
        )
    if not told["is_silent"]:
        return ok("beat", f"the last sweep was {swept_s:.0f} s ago")
    remedy = of_beat(told, consumers)
    if swept_s is None and not told["is_stopped"] and interval_s > MOST_PATIENCE_S - STARTING_S:
        # Nobody waits for it here.
        found = f"{remedy.found}: a system that has just begun has its first one after {interval_s:g} s"
        return warning("beat", found, "look again then: if nothing has changed, start beat as in the Procfile")
    return of(remedy)


def tasks(periodic: Mapping[str, Mapping[str, Any]], consumers: Mapping[str, Any]) -> Iterator[Finding]:
    """The other periodic tasks run as often as they should."""
    for remedy in of_tasks(periodic, consumers):
        yield of(remedy)


def caps(told: Mapping[str, Any]) -> Iterator[Finding]:
    """All processes refuse documents from the same caps on."""
    if told["differ"]:
        found = (
            "processes that take writes have different caps, of which the lowest are "
            f"{counted(told['max_pending_per_partition'], 'document')} waiting in a partition and "
            f"{told['max_memory_percent']:g} % of Redis's memory"
        )
        advice = "give all of them the same max_pending_per_partition and max_memory_percent, and restart them"
        yield warning("caps", found, advice)


def refused(to_do: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """No cap is met, from which new documents are refused."""
    for one in to_do:
        if one["about"] == "refused":
            yield _told(one, "back-pressure")


def _told(remedy: Mapping[str, str], check: str) -> Finding:
    """The finding of a remedy of a status, with its chapter of the runbook."""
    return of(Remedy(**{**remedy, "advice": f"{remedy['advice']}: {remedy['runbook']}"}), check)


def paused(pauses: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Flushing is not paused, by somebody who may have forgotten it."""
    if pauses:
        yield warning("paused", told(pauses), "`writebehind resume` once MongoDB is to be written to again")


def backlog(status: Mapping[str, Any]) -> Finding:
    """Documents that wait for MongoDB, or were refused by it; and whether they go there in time."""
    found = (
        f"{status['pending']} pending, the oldest for {status['oldest_pending_seconds']:.0f} s; "
        f"{counted(status['dead_letters'], 'dead letter')}; breaker {status['breaker'] or 'not known'}"
    )
    if away := {one["server"]: one["partitions"] for one in status["away"]}:
        advice = "see to that server: what it has is in no figure"
        return failure("backlog", f"{found}; {told_away(away)}", advice)
    to_do = {one["about"]: one for one in status["to_do"]}
    for about in ("mongodb", "backlog"):  # the breaker may still be closed
        if one := to_do.get(about):
            return _told({**one, "found": f"{found}; {one['found']}"}, "backlog")
    if status["breaker"] != "closed":
        return failure("backlog", found, f"see to MongoDB: {status['breaker_reason']}")
    pauses = [one for one in status["paused"] or () if one["collection"] is None]
    if pauses and status["overdue_seconds"] > OVERDUE_S:
        return warning("backlog", f"{found}, as {told(pauses)}", "`writebehind resume` lets it drain")
    if status["dead_letters"]:
        return warning("backlog", found, "see to the dead letters: writebehind dead-letters list")
    return ok("backlog", found)
