"""Bring everything that is pending to MongoDB now: before a deploy, or before Redis is divided anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from writebehind.errors import ConfigurationError, UnavailableError
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.reach import known, listed_away, told_away
from writebehind.redis.shared.pauses import told

#: Partitions that are flushed at the same time.
THREADS = 4
#: How long one partition is flushed before the others have their turn, seconds.
TURN_S = 1.0
#: Between two looks when nothing could be persisted, seconds.
REST_S = 0.2


@dataclass(frozen=True, slots=True)
class Drained:
    """Outcome of draining.

    Attributes:
        persisted: documents, by this.
        pending: documents that still are.
        dead_letters: how many there are.
        seconds: how long it took.
        reason: why some are pending.
        away: servers of Redis that do not answer while others do, with their partitions: what these have is
            pending as it was, and no part of the figures.
    """

    persisted: int
    pending: int
    dead_letters: int
    seconds: float
    reason: str = ""
    away: Sequence[Mapping[str, object]] = ()


class Progress(NamedTuple):
    """The number of pending documents, and why nothing could be persisted lately; '' if it could."""

    pending: int
    reason: str


class _Round(NamedTuple):
    """Outcome of flushing every partition once."""

    persisted: int
    reason: str


def drain(pipeline: Pipeline, *, timeout_s: float, report: Callable[[Progress], None] = lambda _: None) -> Drained:
    """Flush every partition, whatever its due times, until nothing is pending or the time is over.

    Workers and other writers may be at work meanwhile. It ends when nothing is pending at a moment. A server that
    does not answer while others do is not waited for.

    Args:
        pipeline: whose documents to persist.
        timeout_s: limit, seconds; an operation of MongoDB that is under way then is waited for.
        report: is told how it goes, from time to time.

    Raises:
        ConfigurationError: Redis belongs to another MongoDB database; or the pipeline looks into another number of
            partitions than there are; or something is pending, and flushing is paused.
        RedisUnavailableError: Redis does not answer.
    """
    known(pipeline.store, pipeline.store.check_owner, None)
    _see_all_partitions(pipeline)
    began = time.monotonic()
    deadline = began + timeout_s
    outside = pipeline.store.division.astray(pipeline.store.partitions)
    for partition in outside:
        pipeline.homecoming.of_all_letters(partition)
    persisted, reason = 0, ""
    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            pending_in = pipeline.store.division.pending_in(outside)  # first: from there it is brought home
            backlog = pipeline.store.metrics.backlog_answered()
            pending_in |= {one.partition: one.pending for one in backlog}
            pending = sum(pending_in.values())
            report(Progress(pending, reason))
            if not pending or time.monotonic() >= deadline:
                dead = sum(one.dead for one in backlog)
                away = pipeline.store.standing().away
                why = "; ".join(filter(None, (reason if pending else "", told_away(away))))
                return Drained(persisted, pending, dead, time.monotonic() - began, why, listed_away(away))
            _see_no_pause(pipeline)
            waiting = [partition for partition, count in pending_in.items() if count]
            done, reason = _flush(pipeline, waiting, deadline, threads)
            persisted += done
            if not done:
                time.sleep(REST_S)


def _see_no_pause(pipeline: Pipeline) -> None:
    paused = pipeline.store.pauses.look()
    if paused:
        raise ConfigurationError(
            f"{told(paused.as_list())}: nothing is drained. `writebehind resume` lets it go on"
        )


def _see_all_partitions(pipeline: Pipeline) -> None:
    store = pipeline.store
    division, ours = known(store, store.division.recorded, None), store.partitions
    if division is not None and division.partitions != ours and not division.online:
        raise ConfigurationError(
            f"partitions: this Redis holds data in {counted(division.partitions, 'partition')}, not in {ours}: "
            f"set WRITEBEHIND_PARTITIONS={division.partitions}"
        )


def _flush(pipeline: Pipeline, partitions: list[int], deadline: float, threads: ThreadPoolExecutor) -> _Round:
    def flush(partition: int) -> FlushSummary | UnavailableError:
        try:
            return pipeline.flusher.drain(partition, budget_s=min(TURN_S, max(0.0, deadline - time.monotonic())))
        except UnavailableError as failure:
            return failure

    outcomes = list(threads.map(flush, partitions))
    summaries = [one for one in outcomes if isinstance(one, FlushSummary)]
    failures = [one for one in outcomes if isinstance(one, UnavailableError)]
    busy = sum(one.busy for one in summaries)
    reason = f"{counted(busy, 'partition is', 'partitions are')} being flushed by others" if busy else ""
    return _Round(sum(one.persisted + one.deleted for one in summaries), str(failures[-1]) if failures else reason)
