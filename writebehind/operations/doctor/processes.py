"""The processes: workers by what they do, beat by the last sweep, and what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from writebehind.consistency.tally import UNOBSERVED_S
from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor.findings import Finding, failure, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.reach import told_away
from writebehind.redis.shared.attendance import BEAT, Outage
from writebehind.redis.shared.metrics import SWEEP
from writebehind.redis.shared.pauses import told
from writebehind.redis.shared.workers import BusyWorker, SilentWorker
from writebehind.remedies import (
    LATE,
    RUNBOOK,
    of_beat,
    of_exporter,
    of_listener,
    of_tasks,
    of_worker,
)
from writebehind.settings.names import FLUSH_QUEUE, MAINTENANCE_QUEUE, REFRESH_QUEUE
from writebehind.silence import LISTENER_UNHEARD_S, is_beat_away, is_missing

#: The first sweep may come so much later than its interval says, and is waited for so long at most, seconds.
STARTING_S, MOST_PATIENCE_S = 3.0, 10.0
#: Between two looks whether it has come, seconds.
_LOOK_EVERY_S = 0.1
#: From here on a document is far behind the time at which it should have been persisted, seconds.
OVERDUE_S = 30.0
_BEHIND = "#writebehinddrainslowerthanarrival"
_NO_ANSWER = "MongoDB does not answer: "
#: Loss while nobody consumes a queue.
_WITHOUT = {
    FLUSH_QUEUE: "nothing is persisted",
    REFRESH_QUEUE: "stale documents stay so",
    MAINTENANCE_QUEUE: "what is lost is not found, and nothing is reconciled or warmed",
}


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything about processes that can be seen in Redis."""
    try:
        yield from _check(pipeline)
    except RedisUnavailableError as error:
        yield failure("processes", f"nothing is known of them: {error}", "see to Redis first")
        yield from _backlog_answered(pipeline)


def _check(pipeline: Pipeline) -> Iterator[Finding]:
    _await_sweep(pipeline)
    crew, status = pipeline.store.workers.look(), pipeline.status()
    if status["unknown"]:
        found = f"not known, as a server of Redis does not answer: {', '.join(status['unknown'])}"
        yield failure("processes", found, "see to Redis first")
        yield backlog(status)
        return
    if crew.alive:
        yield ok("workers", ", ".join(crew.alive))
    else:
        found = "none has done anything lately: nothing is persisted"
        yield failure("workers", found, "start them as in the Procfile")
    yield from busy(crew.busy)
    yield from silent(crew.silent)
    yield from ended(crew.ended_lately)
    yield from consumers(status["consumers"], crew.silent)
    yield beat(status["beat"], status["consumers"], pipeline.settings.sweep_interval)
    if not status["beat"]["is_silent"]:
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


def consumers(workers: Mapping[str, Sequence[str]], silent: Sequence[SilentWorker] = ()) -> Iterator[Finding]:
    """Some worker consumes each queue."""
    for queue, names in workers.items():
        if names:
            yield ok(f"queue {queue}", f"consumed by {', '.join(names)}")
            continue
        found = f"no worker consumes it: {_WITHOUT[queue]}"
        start = f"start a worker with -Q {queue}, or add it to one of yours"
        if quiet := [one.worker for one in silent if queue in one.queues]:
            start = f"see to {', '.join(quiet)}, which consumed it and is silent; or {start}"
        yield failure(f"queue {queue}", found, start)


def busy(workers: Sequence[BusyWorker]) -> Iterator[Finding]:
    """A worker whose pool is full is at work, and can prove no more."""
    for one in workers:
        yield ok(f"worker {one.worker}", f"busy for {one.seconds:.0f} s: its pool is full and takes no other task")


def silent(workers: Sequence[SilentWorker]) -> Iterator[Finding]:
    """No worker has fallen silent that has not ended."""
    for one in workers:
        remedy = of_worker(asdict(one))
        yield warning(remedy.about, remedy.found, remedy.advice)


def ended(workers: Sequence[SilentWorker]) -> Iterator[Finding]:
    """A worker that was killed is no fault by itself: that nobody consumes its queues is one."""
    for one in workers:
        found = f"it has ended without a word, and did nothing for {one.seconds_ago:.0f} s: it was killed"
        yield ok(f"worker {one.worker}", found)


def listener(status: Mapping[str, Any] | None) -> Finding:
    """Somebody brings the changes of other writers to the cache."""
    if status is None:
        advice = f"start `writebehind listen` as in the Procfile: {LATE}"
        return warning("listener", "none has ever run", advice)
    if status["is_silent"]:
        remedy = of_listener(status)
        return warning(remedy.about, remedy.found, remedy.advice)
    return _hears(status)


def _hears(status: Mapping[str, Any]) -> Finding:
    """A listener that is at work hears of MongoDB."""
    heard_s = status["heard_seconds_ago"]
    since = "" if heard_s is None else f", for {heard_s:.0f} s"
    if status["error"]:
        unheard = status["error"].removeprefix(_NO_ANSWER)
        if unheard != status["error"]:
            found = f"the listener runs and MongoDB does not answer it{since}: {unheard}"
            return warning("listener", found, f"see to MongoDB: {LATE}")
        return warning("listener", f"the listener runs and cannot listen: {status['error']}", f"see to it: {LATE}")
    if is_unanswered(status):
        found = f"the listener runs and MongoDB does not answer it{since}"
        return warning("listener", found, f"see to MongoDB: {LATE}")
    return ok("listener", f"{status['leader']}, {status['lag_s']:.1f} s behind")


def exporter(status: Mapping[str, Any], *, observes: bool, outage: Outage | None = None) -> Finding:
    """Somebody records the last hour and looks what readers see: else green figures are those of long ago.

    One that was never started may not be wanted; of one that is gone or frozen nobody hears otherwise.
    """
    recorded_s, seen_s = (
        status["exporter"]["recorded_seconds_ago"],
        status["consistency"]["observed_seconds_ago"],
    )
    if recorded_s is None:
        found = "none has ever run: nobody records the last hour, or looks whether readers see what is right"
        return warning("exporter", found, "start `writebehind run exporter` as in the Procfile")
    if status["exporter"]["is_silent"]:
        remedy = of_exporter(status["exporter"])
        return failure(remedy.about, remedy.found, remedy.advice)
    if not observes or (seen_s is not None and not is_missing(seen_s, UNOBSERVED_S, outage)):
        return ok("exporter", f"recorded the history {recorded_s:.0f} s ago")
    since = "yet" if seen_s is None else f"for {seen_s:.0f} s"
    found = f"it records the history, and has not looked what readers see {since}"
    if status["breaker"] != "closed":
        return warning("exporter", found, "see to MongoDB, without which nobody can look")
    if seen_s is None:  # one that has just begun
        return warning("exporter", found, "look again in a while: if nothing has changed, see its log")
    return failure("exporter", found, "see its log, and start it anew")


def is_unanswered(listener: Mapping[str, Any]) -> bool:
    """Whether a listener that runs, of which this is the status, waits for MongoDB, which is quick otherwise."""
    heard_s = listener["heard_seconds_ago"]
    return heard_s is None or heard_s - listener["alive_seconds_ago"] > LISTENER_UNHEARD_S


def beat(told: Mapping[str, Any], consumers: Mapping[str, Any], interval_s: float) -> Finding:
    """The sweep runs, so both beat and the maintenance worker do."""
    swept_s = told["swept_seconds_ago"]
    if not told["is_silent"]:
        return ok("beat", f"the last sweep was {swept_s:.0f} s ago")
    remedy = of_beat(told, consumers)
    if swept_s is None and not told["is_stopped"] and interval_s > MOST_PATIENCE_S - STARTING_S:
        # Nobody waits for it here.
        found = f"{remedy.found}: a system that has just begun has its first one after {interval_s:g} s"
        return warning("beat", found, "look again then: if nothing has changed, start beat as in the Procfile")
    return failure(remedy.about, remedy.found, remedy.advice)


def tasks(periodic: Mapping[str, Mapping[str, Any]], consumers: Mapping[str, Any]) -> Iterator[Finding]:
    """The other periodic tasks run as often as they should."""
    for remedy in of_tasks(periodic, consumers):
        yield warning(remedy.about, remedy.found, remedy.advice)


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
            yield failure("back-pressure", one["found"], f"{one['advice']}: {one['runbook']}")


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
        return warning("backlog", f"{found}; {told_away(away)}", advice)
    if status["breaker"] != "closed":
        return warning("backlog", found, f"see to MongoDB: {status['breaker_reason']}")
    to_do = {one["about"]: one for one in status["to_do"]}
    of_mongodb = failure if status["mongodb_refuses"] else warning  # or the breaker is still closed
    for about, level in (("mongodb", of_mongodb), ("backlog", failure)):
        if one := to_do.get(about):
            return level("backlog", f"{found}; {one['found']}", f"{one['advice']}: {one['runbook']}")
    if status["overdue_seconds"] > OVERDUE_S:
        return _overdue(status, f"{found}; one is overdue for {status['overdue_seconds']:.0f} s")
    if status["dead_letters"]:
        return warning("backlog", found, "see to the dead letters: writebehind dead-letters list")
    return ok("backlog", found)


def _overdue(status: Mapping[str, Any], found: str) -> Finding:
    """Documents are far behind the time at which they should have been persisted, though nothing stands still."""
    if of_all := [one for one in status["paused"] or () if one["collection"] is None]:
        return warning("backlog", f"{found}, as {told(of_all)}", "`writebehind resume` lets it drain")
    if (drained_s := status["seconds_until_drained"]) is not None:
        return warning(
            "backlog", f"{found}; at this rate it is drained in {drained_s:.0f} s", "wait, and look again then"
        )
    return warning("backlog", found, f"see what holds MongoDB up, and the logs of the workers: {RUNBOOK}{_BEHIND}")
