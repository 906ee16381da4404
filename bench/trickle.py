"""How many bulk writes documents take that trickle in, how long they wait, and how often a hot one is written.

`python -m bench.trickle`, with Valkey and SecantusDB: the flush tasks run in threads of this process, at the time
that their hints name.
"""

from __future__ import annotations

import heapq
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from tests.sizes import LARGE, LIMIT, sized
from writebehind import Pipeline, load_settings
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.redis.pending import Hint

SECONDS, DELAY_MS, WORKERS = 10, 1_000, 2
PARTITIONS = 16
#: Writes a second, and among how many documents they fall; 0 for a new document each.
LOADS = [(10, 0), (30, 0), (100, 0), (300, 0), (300, 2_000)]
ZIPF = 1.1
#: One of how many documents is large.
ONE_IN = 20


class Worker:
    """Runs flush tasks at their time, as a Celery worker does."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Hint]] = []
        self._changed = threading.Condition()
        self._count = 0
        self.pipeline: Pipeline
        for _ in range(WORKERS):
            threading.Thread(target=self._run, daemon=True).start()

    def __call__(self, hint: Hint) -> None:
        with self._changed:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() + hint.delay_ms / 1000, self._count, hint))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or (wait := self._due[0][0] - time.monotonic()) > 0:
                    self._changed.wait(wait if self._due else None)
                hint = heapq.heappop(self._due)[2]
            self.pipeline.flusher.flush(hint.partition, ticket=hint.ticket)


def ids(documents: int) -> Iterator[str]:
    """Ids of documents: new ones, or those of a few that are written again and again."""
    count = 0
    weights = list(accumulate(1 / (rank + 1) ** ZIPF for rank in range(documents)))
    while True:
        count += 1
        yield f"d{random.choices(range(documents), cum_weights=weights)[0] if documents else count}"


def measure(rate: int, documents: int) -> str:
    """Write for some seconds; what it took."""
    worker, first, waited = Worker(), {}, []
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedRedis(name) as redis,
        EmbeddedMongo(Path(name) / "m") as mongo,
    ):
        settings = load_settings(
            redis_url=redis.url,
            mongodb_url=mongo.url,
            hot_samples=0,
            partitions=PARTITIONS,
            collections={"docs": {"flush_delay_ms": DELAY_MS}},
        )
        with Pipeline(settings, hints=worker) as pipeline:
            worker.pipeline = pipeline
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
            while pipeline.status()["pending"]:
                time.sleep(0.05)
            totals = pipeline.status()["totals"]
    waited.sort()
    return (
        f"{rate:4} writes/s of {documents or 'new'} documents: {totals['batches']:5} bulk writes, "
        f"{totals['operations'] / written:.2f} operations per write, "
        f"waited {waited[len(waited) // 2]:.2f} s (median), {waited[-1]:.2f} s (most)"
    )


def main() -> None:
    """Print a line for each load."""
    print(f"\nDocuments that trickle in for {SECONDS} s, a flush delay of {DELAY_MS} ms, {PARTITIONS} partitions")
    for rate, documents in LOADS:
        print(f"  {measure(rate, documents)}")


if __name__ == "__main__":
    main()
