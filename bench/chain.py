"""Flush tasks of one partition, event by event, by a clock that is not real.

The formulas of the plan say the same in expected values. `python -m bench.chain` compares both, up to a million
writes a second.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat

from writebehind.planning.flushes import Flushing, Pace, flushing
from writebehind.planning.popularity import Group, zipf

PACE = Pace(delay_s=1.0, latency_s=0.005, batch_s=0.004, document_s=0.000_1, batch_size=1_000)
#: Writes a second, documents, skew, partitions.
LOADS = (
    *((10, 10**6, 0.0, 16), (300, 2_000, 1.1, 16), (3_000, 20_000, 1.1, 16), (8_000, 20_000, 1.1, 16)),
    *((30_000, 10**6, 0.8, 16), (100_000, 10**7, 1.0, 32), (10**6, 10**8, 1.0, 256), (10**6, 10**6, 1.0, 256)),
)


@dataclass
class Seen:
    """Counts of a run, from its first flush that counts to its last, which does not."""

    operations: int = 0
    tasks: int = 0
    batches: int = 0
    waited_s: float = 0.0
    first: float = 0.0
    last: float = 0.0


class Partition:
    """One partition, to whose documents is written by chance."""

    def __init__(self, groups: Sequence[Group], writes: float, pace: Pace, seed: int = 1) -> None:
        self._pace = pace
        self._arrivals = _arrivals(groups, writes, random.Random(seed))
        self._at, self._document = next(self._arrivals)
        self._pending: dict[int, float] = {}  # to when the document became pending
        self._queue: deque[tuple[float, int]] = deque()  # in the order of due times, as all wait equally long
        self.now = 0.0

    def run(self, seconds: float) -> Seen:
        """Flush for so long; what comes in the first three flush delays does not count."""
        seen, begin = Seen(), 3 * self._pace.delay_s
        while True:
            if not self._queue:
                self._take_until(self._at)
            self.now = max(self.now, self._queue[0][0]) + self._pace.latency_s
            self._take_until(self.now)
            if self.now < begin:
                seen = Seen(first=self.now)
            elif self.now >= begin + seconds:
                seen.last = self.now
                return seen
            seen.tasks += 1
            while self._queue and self._queue[0][0] <= self.now:  # claims go on until nothing is due
                self._flush(seen)

    def _flush(self, seen: Seen) -> None:
        """Flush a batch of what is due, and what goes along."""
        batch, soon = [], self.now + self._pace.delay_s / 2
        while self._queue and len(batch) < self._pace.batch_size and self._queue[0][0] <= soon:
            batch.append(self._queue.popleft()[1])
        self.now += self._pace.batch_s + len(batch) * self._pace.document_s
        again = self._take_until(self.now)
        seen.operations += len(batch)
        seen.batches += 1
        for one in batch:
            seen.waited_s += self.now - self._pending[one]
            if one in again:
                self._pending[one] = self.now
                self._queue.append((self.now + self._pace.delay_s, one))
            else:
                del self._pending[one]

    def _take_until(self, when: float) -> set[int]:
        """Take the writes until then; the documents that they are of."""
        written = set()
        while self._at <= when:
            written.add(self._document)
            if self._document not in self._pending:
                self._pending[self._document] = self._at
                self._queue.append((self._at + self._pace.delay_s, self._document))
            self._at, self._document = next(self._arrivals)
        return written


def _arrivals(groups: Sequence[Group], writes: float, chance: random.Random) -> Iterator[tuple[float, int]]:
    """Times of writes, and which document each is of."""
    weights = list(accumulate(group.documents * group.part for group in groups))
    firsts = [0, *accumulate(max(1, round(group.documents)) for group in groups)]
    sizes = [max(1, round(group.documents)) for group in groups]
    at = 0.0
    for _ in repeat(None):
        for which in chance.choices(range(len(groups)), cum_weights=weights, k=1_000):
            at += chance.expovariate(writes)
            yield at, firsts[which] + int(chance.random() * sizes[which])


def of_partition(groups: Sequence[Group], partitions: int, seed: int) -> list[Group]:
    """The groups of documents that lie in one of so many partitions, as chance has it."""
    chance = random.Random(seed)
    found = [Group(int(group.documents / partitions + chance.random()), group.part) for group in groups]
    return [group for group in found if group.documents]


def simulated(writes: float, documents: int, skew: float, partitions: int, *, most: int = 300_000) -> Flushing:
    """The flushes of all partitions, from some of them; with about so many writes."""
    pace = PACE
    groups = zipf(documents, skew)
    numbers = range(min(partitions, 8))
    # As long as that makes so many writes, but no longer than an hour, nor shorter than four flush delays.
    seconds = min(max(most * partitions / writes / len(numbers), 4 * pace.delay_s), 3_600.0)
    total, factor = dict.fromkeys(("operations", "tasks", "batches", "waited_s"), 0.0), partitions / len(numbers)
    for number in numbers:
        here = of_partition(groups, partitions, number)
        part = sum(group.documents * group.part for group in here)
        seen = Partition(here, writes * part, pace, seed=number).run(seconds)
        for name in total:
            total[name] += getattr(seen, name) / (seen.last - seen.first) * factor
    return Flushing(
        operations=total["operations"],
        tasks=total["tasks"],
        batches=total["batches"],
        batch=total["operations"] / total["batches"],
        pending=total["waited_s"],
        busy=0,
    )


def main() -> None:
    """Print a line for each load."""
    print(
        f"\n{'writes/s':>9} {'documents':>10} skew partitions | operations, bulk writes, pending: formula, events"
    )
    for writes, documents, skew, partitions in LOADS:
        began = time.monotonic()
        told = flushing(zipf(documents, skew), writes, 0, partitions, PACE)
        seen = simulated(writes, documents, skew, partitions)
        pairs = ((getattr(told, name), getattr(seen, name)) for name in ("operations", "batches", "pending"))
        shown = "  ".join(f"{a:9.0f} {b:9.0f} {a / b - 1:+6.1%}" for a, b in pairs)
        print(f"{writes:>9} {documents:>10} {skew:4} {partitions:10} | {shown}  {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
