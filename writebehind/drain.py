"""Bring everything that is pending to MongoDB now: before a deploy, or before Redis is divided anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from writebehind.errors import UnavailableError
from writebehind.flusher import FlushSummary
from writebehind.pipeline import Pipeline

#: Partitions that are flushed at the same time.
THREADS = 4
#: How long one partition is flushed before the others have their turn, seconds.
TURN_S = 1.0
#: Between two looks when nothing could be persisted, seconds.
REST_S = 0.2


@dataclass(frozen=True, slots=True)
class Drained:
    """What came of it: documents persisted here and still pending, dead letters, and what went wrong last."""

    persisted: int
    pending: int
    dead_letters: int
    seconds: float
    error: str = ""


def drain(pipeline: Pipeline, *, timeout_s: float, report: Callable[[int], None] = lambda _: None) -> Drained:
    """Flush every partition, whatever its due times, until nothing is pending or the time is over.

    Workers and other writers may be at work meanwhile. It ends when nothing is pending at a moment.

    Args:
        pipeline: whose documents to persist.
        timeout_s: limit, seconds.
        report: takes the number of pending documents from time to time.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    began = time.monotonic()
    deadline = began + timeout_s
    persisted, error = 0, ""

    def flush(partition: int) -> FlushSummary | UnavailableError:
        try:
            return pipeline.flusher.drain(partition, budget_s=min(TURN_S, max(0.0, deadline - time.monotonic())))
        except UnavailableError as failure:
            return failure

    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            backlog = pipeline.store.status()
            waiting = [one.partition for one in backlog if one.pending]
            pending = sum(one.pending for one in backlog)
            report(pending)
            if not waiting or time.monotonic() >= deadline:
                dead = sum(one.dead for one in backlog)
                return Drained(persisted, pending, dead, time.monotonic() - began, error if pending else "")
            outcomes = list(threads.map(flush, waiting))
            done = sum(one.persisted + one.deleted for one in outcomes if isinstance(one, FlushSummary))
            failures = [one for one in outcomes if isinstance(one, UnavailableError)]
            error = str(failures[-1]) if failures else ""
            persisted += done
            if not done:  # others own the partitions, or MongoDB does not answer
                time.sleep(REST_S)
