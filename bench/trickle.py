"""How many bulk writes documents take that trickle in, how long they wait, and how often a hot one is written.

`python -m bench.trickle`, with Valkey and SecantusDB: the flush tasks run in threads of this process, at the time
that their hints name. The last lines are of many writes a second, of documents of which some are written much
more often: `python -m bench.trickle RATE…` measures these only. Beside the operations per write stands the least
that there could be at the rate that was reached, if each document were flushed as late as it may be. A process in
Python writes no 8,000 documents a second. So these are measured in slow motion: so many times fewer come, and are
due so many times later, which makes the same batches. What is printed is as without; and nobody is in the place of
MongoDB, so that it is not measured how fast that is.
"""

from __future__ import annotations

import heapq
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from bench.rows import Row
from tests.sizes import LARGE, LIMIT, sized
from writebehind import BulkOperation, Pipeline, load_settings
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.pending import Hint

SECONDS, DELAY_MS, WORKERS = 10, 1_000, 2
PARTITIONS = 16
#: Writes a second, and among how many documents they fall; 0 for a new document each.
LOADS = [(10, 0), (30, 0), (100, 0), (300, 0), (300, 2_000)]
ZIPF = 1.1
#: One of how many documents is large.
ONE_IN = 20
#: Many writes a second among many documents, of which so many are acknowledged together; none may wait for longer.
RATES, MANY, TOGETHER, LONGEST_S = (10_000,), 20_000, 20, 2.0
#: Their flush delay, and partitions as there are by default.
LATE_MS, LATE_PARTITIONS, SLOWER = 1_800, 64, 10
#: How long they are written before anything is counted, and then, seconds as without slow motion.
BEFORE_S, COUNTED_S = 4, 6
#: Between two looks at how old what is pending is, seconds.
LOOK_S = 0.25


class Worker:
    """Runs flush tasks at their time, as a Celery worker does."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Hint]] = []
        self._changed = threading.Condition()
        self._count = 0
        self.pipeline: Pipeline
        self._over = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(WORKERS)]
        for one in self._threads:
            one.start()

    def __call__(self, hint: Hint) -> None:
        with self._changed:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() + hint.delay_ms / 1000, self._count, hint))
            self._changed.notify()

    def stop(self) -> None:
        """Run no more tasks."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for one in self._threads:
            one.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._over and (not self._due or (wait := self._due[0][0] - time.monotonic()) > 0):
                    self._changed.wait(wait if self._due else None)
                if self._over:
                    return
                hint = heapq.heappop(self._due)[2]
            self.pipeline.flusher.flush(hint.partition, ticket=hint.ticket)


def ids(documents: int) -> Iterator[str]:
    """Ids of documents: new ones, or those of a few that are written again and again."""
    count = 0
    weights = list(accumulate((rank + 1) ** -ZIPF for rank in range(documents)))
    while True:
        count += 1
        yield f"d{random.choices(range(documents), cum_weights=weights)[0] if documents else count}"


@contextmanager
def system(mongodb_url: str, delay_ms: int, partitions: int) -> Iterator[Pipeline]:
    """A pipeline, whose flush tasks run in this process."""
    worker = Worker()
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(name) as redis:
        settings = load_settings(
            redis_url=redis.url,
            mongodb_url=mongodb_url,
            hot_samples=0,
            partitions=partitions,
            collections={"docs": {"flush_delay_ms": delay_ms}},
        )
        with Pipeline(settings, hints=worker) as pipeline:
            worker.pipeline = pipeline
            try:
                yield pipeline
            finally:
                worker.stop()


def measure(rate: int, documents: int) -> str:
    """Write for some seconds; what it took."""
    first, waited = {}, []
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedMongo(name) as mongo,
        system(mongo.url, DELAY_MS, PARTITIONS) as pipeline,
    ):
        write = pipeline.sink.write

        def noted(collection, batch, **more):
            began = time.monotonic()
            waited.extend(began - first.pop(one.id.member) for one in batch if one.id.member in first)
            return write(collection, batch, **more)

        pipeline.sink.write = noted
        docs, began, written = pipeline.collection("docs"), time.monotonic(), 0
        for one in ids(documents):
            due = began + written / rate
            if due - began > SECONDS:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            first.setdefault(f"docs/s:{one}", time.monotonic())
            size = random.choice((*LARGE, LIMIT))
            docs.put(one, {"n": written} if written % ONE_IN else sized(one, size, n=written))
            written += 1
        drained(pipeline)
        totals = pipeline.status()["totals"]
    waited.sort()
    return (
        f"{rate:4} writes/s of {documents or 'new'} documents: {totals['batches']:5} bulk writes, "
        f"{totals['operations'] / written:.2f} operations per write, "
        f"waited {waited[len(waited) // 2]:.2f} s (median), {waited[-1]:.2f} s (most)"
    )


def drained(pipeline: Pipeline) -> None:
    """Wait until nothing is pending."""
    while pipeline.status()["pending"]:
        time.sleep(0.05)


def many(rate: int) -> Row:
    """Write many documents a second for some seconds; what it took."""
    operations, ages = [0], [0.0]

    def taken(_, batch, **__):
        operations[0] += len(batch)
        return [Outcome(one, Result.PERSISTED) for one in batch]

    with system("mongodb://127.0.0.1:9/", LATE_MS * SLOWER, LATE_PARTITIONS) as pipeline:
        pipeline.sink.write = taken
        docs, names = pipeline.collection("docs"), ids(MANY)
        began, written, looked, before = time.monotonic(), 0, 0.0, None
        while (now := time.monotonic() - began) < (BEFORE_S + COUNTED_S) * SLOWER:
            docs.bulk([BulkOperation("put", next(names), {"n": written + at}) for at in range(TOGETHER)])
            written += TOGETHER
            if now > BEFORE_S * SLOWER and before is None:
                before = now, written, operations[0]
            elif before is not None and now - looked > LOOK_S * SLOWER:
                looked = now
                ages.append(pipeline.status()["oldest_pending_seconds"] / SLOWER)
            time.sleep(max(0.0, began + written / rate * SLOWER - time.monotonic()))
        reached = (written - before[1]) / (now - before[0]) * SLOWER
        each = (operations[0] - before[2]) / (written - before[1])
    print(
        f"  {reached:6,.0f} writes/s of {MANY:,} documents: {each:.3f} operations per write, "
        f"{least(reached, MANY, LONGEST_S):.3f} at the least, oldest pending {max(ages):.2f} s",
        flush=True,
    )
    return Row(f"Zipf({ZIPF})", f"{rate:,} writes/s", "operations per write", "operations", each)


def least(rate: float, documents: int, longest_s: float) -> float:
    """The least operations per write if each document is written to MongoDB so long after its first write since.

    A document that is written r times a second has 1 + r * longest_s writes for each operation.
    """
    weights = [(rank + 1) ** -ZIPF for rank in range(documents)]
    every = sum(weights)
    return sum(weight / (every + rate * longest_s * weight) for weight in weights)


def main() -> list[Row]:
    """Print a line for each load; operations per write of many."""
    given = [int(rate) for rate in sys.argv[1:]] if __name__ == "__main__" else []
    if not given:
        print(
            f"\nDocuments that trickle in for {SECONDS} s, a flush delay of {DELAY_MS} ms, {PARTITIONS} partitions"
        )
        for rate, documents in LOADS:
            print(f"  {measure(rate, documents)}")
    print(f"\nZipf({ZIPF}), {SLOWER} times slower, a flush delay of {LATE_MS} ms, {LATE_PARTITIONS} partitions")
    return [many(rate) for rate in given or RATES]


if __name__ == "__main__":
    main()
