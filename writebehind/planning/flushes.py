"""The chain of flush tasks of a partition, in expected values: how often documents go to MongoDB.

A flush claims what is due, and what has waited for at least half of its flush delay (`flusher.EARLY_PART`). What
is left decides when the next one runs. With writes that come by chance, evenly over time:

- The oldest document that is left was first written 1/r after the moment that lies half a flush delay before the
  claim, where r is how many documents a second become pending in the partition; or after the claim, where all are
  written all the time. It is due a whole flush delay after that. So flushes are `delay / 2 + 1/r + latency` apart.
- A document that is first written u after a claim goes along with the k-th next one, the first for which k periods
  are at least u and half a flush delay. One that is written while it is being flushed is due a flush delay after
  that: u is the time that a flush takes, then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from writebehind.planning.popularity import Group

_ROUNDS = 50
#: Writes for which a document is written more than once in a flush delay so seldom that each is an operation.
_NEVER_TWICE = 1e-9


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of a flush.

    Attributes:
        delay_s: the flush delay.
        latency_s: how much later than it is due a task runs.
        batch_s: time of a bulk write, whatever it has.
        document_s: and for each document in it.
        batch_size: most documents in it.
    """

    delay_s: float
    latency_s: float
    batch_s: float
    document_s: float
    batch_size: int

    def seconds(self, documents: float) -> float:
        """The time in which so many documents of a partition are flushed."""
        return max(1.0, documents / self.batch_size) * self.batch_s + documents * self.document_s

    def most_per_second(self) -> float:
        """Documents that one partition flushes in a second, with full batches."""
        return self.batch_size / self.seconds(self.batch_size)


@dataclass(frozen=True, slots=True)
class Flushing:
    """Flushes of all partitions.

    Attributes:
        operations: documents that go to MongoDB in a second.
        tasks: flush tasks in a second.
        batches: bulk writes in a second, where there is one collection.
        batch: documents in one.
        pending: documents that wait, on average.
        busy: part of the time in which a partition is being flushed; from 1 on it does not keep up.
    """

    operations: float
    tasks: float
    batches: float
    batch: float
    pending: float
    busy: float


def flushing(groups: Sequence[Group], writes: float, created: float, partitions: int, pace: Pace) -> Flushing:
    """The flushes for so many writes a second to documents of these groups, and so many that create one.

    The groups and what is created are spread over the partitions.
    """
    if not writes + created:
        return Flushing(0, 0, 0, 0, 0, 0)
    rates = [(group.documents, group.part * writes) for group in groups if group.part * writes > 0]
    operations, scattered, took = writes + created, writes + created, 0.0
    for _ in range(_ROUNDS):
        # Until the oldest one that is left; until the first one after the claim, at the latest.
        gap = min(
            partitions / max(scattered, _NEVER_TWICE), pace.delay_s / 2 + took + partitions / (writes + created)
        )
        took = pace.seconds(operations * _period(pace, gap, 0) / partitions)
        period = _period(pace, gap, took)
        left = period - pace.delay_s / 2
        each = [(count / _cycle(rate, period, left, took), rate) for count, rate in rates]
        before, operations = operations, created + sum(often for often, _ in each)
        # Others are pending again once they were flushed, all at that moment: none of them is left by the next.
        scattered = created + sum(often * math.exp(-rate * pace.delay_s / 8) for often, rate in each)
        if math.isclose(operations, before, rel_tol=1e-6):
            break
    documents = max(1.0, operations * period / partitions)
    # One of them has waited for the whole delay, the others for three quarters of it on average.
    seldom_s = pace.delay_s * (1 + (documents - 1) * 0.75) / documents + pace.latency_s + took
    pending = created * seldom_s + sum(
        count * _pending(rate, period, left, took, seldom_s) for count, rate in rates
    )
    batches = max(1.0, documents / pace.batch_size)
    return Flushing(
        operations=operations,
        tasks=partitions / period,
        batches=partitions / period * batches,
        batch=documents / batches,
        pending=pending,
        busy=pace.seconds(documents) / period,
    )


def _period(pace: Pace, gap: float, took: float) -> float:
    """Seconds between two flushes of a partition; where it does not keep up, one follows the other."""
    return max(pace.delay_s / 2 + gap, took) + pace.latency_s


def _cycle(rate: float, period: float, left: float, took: float) -> float:
    """Seconds between two flushes of a document that is written so often.

    The expected value of k is the sum of the probabilities that u is above `left` and j periods: 1 as long as that
    is less than what the flush takes, else that no write comes before it.
    """
    if rate * period < _NEVER_TWICE:
        return 1 / rate
    certain = max(0, math.ceil((took - left) / period))
    none_by_then = math.exp(-rate * (left + certain * period))
    return period * (1 + certain + none_by_then / -math.expm1(-rate * period))


def _pending(rate: float, period: float, left: float, took: float, seldom_s: float) -> float:
    """Part of the time for which such a document is pending; with `seldom_s` for one that is hardly written."""
    # It is clean from the end of a flush until the next write, if none came during the flush.
    clean = math.exp(-rate * took) / rate / _cycle(rate, period, left, took)
    return min(1 - clean, rate * seldom_s)
