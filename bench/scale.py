"""Cost of a write, a claim, a settlement and a sweep by how many documents are pending; Redis's bytes for each.

`python -m bench.scale [--pending 1000 100000 1000000] [--rounds 15] [--size 500] [--digits 10]`, with a Valkey
for each number and no MongoDB; without options with as many documents as take less than two minutes. All are
measured in turn, so that what else the machine does meets all of them. Each cost is the CPU of the calling thread
and of Redis's main thread; growth is the median of the rounds' ratios to the first number. The append-only file is
off: what it costs is the same for any number. Seconds of filling are printed.

A status looks at 64 documents of a partition at most: so it grows until there are as many, and no further.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from bench.backlog import COLLECTION, Documents, differences, fill
from bench.memory import used
from tests.waiting import wait_until
from writebehind import Pipeline, load_settings
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.pending import Settled

PENDING, ROUNDS, SIZE = (1_000, 30_000, 300_000), 10, 500
#: Bytes of the id's number; with a letter before it.
DIGITS = 10
#: What a round does of each.
WRITES, CLAIMS, SWEEPS = 300, 48, 2
#: Documents of a claim: fewer than each partition has of the least number.
CLAIMED = 5
#: Documents that are compared with what a write leaves.
COMPARED = 20
#: Of so many documents it is measured what they take when MongoDB has them: fewer take less than what is there
#: once.
LEAST_CLEAN, MOST_CLEAN = 10_000, 1_000_000
#: More than any number of pending documents of a partition.
MOST = 100_000_000
#: What may grow, and by how much; and bytes beyond the body.
GROWTH, PENDING_BYTES, CLEAN_BYTES = 1.3, 200, 120


@dataclass
class Filled:
    """A Redis with so many pending documents, and what acts cost there.

    Attributes:
        pending: the number.
        costs: for each act and each round, µs of CPU of the client and of Redis.
    """

    pending: int
    documents: Documents
    pipeline: Pipeline
    client: redis.Redis
    server: EmbeddedRedis
    costs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _next: int = 0

    def measure(self) -> None:
        """Carry out one round."""
        self._cost("answer, without any data", WRITES, lambda: self._ask(WRITES))
        some = self._some(WRITES)
        new = range(self.pending + self._next, self.pending + self._next + WRITES)
        self._next += WRITES
        self._cost("write of a pending document", WRITES, lambda: self._write(some))
        self._cost("write of a new document", WRITES, lambda: self._write(new))
        settled = self._settled(new)
        self._cost("settle a document, in batches", WRITES, lambda: self._settle(settled))
        partitions = range(min(CLAIMS, self.pipeline.settings.partitions))
        self._cost(f"claim {CLAIMED} documents", len(partitions), lambda: self._claim(partitions))
        self._let_go()
        self._cost("claim them, read them, let go", len(partitions), lambda: self._read(partitions))
        self._let_go()
        self._cost("sweep of all partitions", SWEEPS, lambda: self._sweep(SWEEPS))
        self._cost("status", SWEEPS, lambda: self._look(SWEEPS))

    def _cost(self, name: str, times: int, act: Callable[[], None]) -> None:
        before, began = self._redis_s(), time.thread_time()
        act()
        ours, its = time.thread_time() - began, self._redis_s() - before
        self.costs.setdefault(name, []).append((ours / times * 1e6, its / times * 1e6))

    def _redis_s(self) -> float:
        facts: Any = self.client.info("cpu")
        return float(facts["used_cpu_user_main_thread"] + facts["used_cpu_sys_main_thread"])

    def _some(self, count: int) -> list[int]:
        """Pending documents that are spread over all."""
        return [(self._next + 1) * 7_919 * (at + 1) % self.pending for at in range(count)]

    def _ask(self, times: int) -> None:
        for _ in range(times):
            self.client.ping()

    def _write(self, numbers: Sequence[int]) -> None:
        collection, document = self.pipeline.collection(COLLECTION), self.documents.document()
        for number in numbers:
            collection.put(self.documents.name(number), document)

    def _settled(self, numbers: Sequence[int], ttl_ms: int = 0) -> dict[int, list[Settled]]:
        """What MongoDB is said to have, by partition."""
        store, found = self.pipeline.store, {}
        for partition, members in store.layout.grouped(map(self.documents.member, numbers)).items():
            entries = store.pending.entries(partition, members)
            found[partition] = [
                Settled(member, entry.version_digits, ttl_ms)
                for member, entry in zip(members, entries, strict=True)
                if entry is not None
            ]
        return found

    def _settle(self, settled: dict[int, list[Settled]]) -> None:
        for partition, some in settled.items():
            self.pipeline.store.pending.settle(partition, some, delay_ms=0)

    def _claim(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            claimed = self.pipeline.store.pending.claim(partition, "bench", lease_ms=10_000, limit=CLAIMED)
            if not isinstance(claimed, list) or len(claimed) < CLAIMED:
                raise RuntimeError(f"{claimed} were claimed")

    def _read(self, partitions: Sequence[int]) -> None:
        pending = self.pipeline.store.pending
        for partition in partitions:
            claimed = pending.claim(partition, "bench", lease_ms=10_000, limit=CLAIMED)
            if isinstance(claimed, list):
                pending.entries(partition, claimed)
            pending.release(partition, "bench")

    def _let_go(self) -> None:
        """Let nobody be at work or on the way."""
        self.client.delete(*(key for of in self.pipeline.store.layout.all() for key in (of.lease, of.scheduled)))

    def _sweep(self, times: int) -> None:
        for _ in range(times):
            found = self.pipeline.maintenance.sweep()
            if found["pending"] != self.pending:
                raise RuntimeError(f"other than {self.pending} are pending: {found}")

    def _look(self, times: int) -> None:
        for _ in range(times):
            self.pipeline.status()

    def clean(self) -> None:
        """Let MongoDB have all."""
        for at in range(0, self.pending, 10_000):
            self._settle(self._settled(range(at, min(at + 10_000, self.pending)), ttl_ms=86_400_000))

        self.wait()

    def wait(self) -> None:
        """Wait until Redis's tables are of the size that they should be of."""

        def is_done() -> bool:
            facts: Any = self.client.info("memory")
            return not facts.get("mem_overhead_db_hashtable_rehashing")

        wait_until(is_done, "Redis's tables are of their size", 60)

    def is_due(self) -> bool:
        """Whether all pending documents may be flushed."""
        last = (self.client.zrange(of.pending, -1, -1, withscores=True) for of in self.pipeline.store.layout.all())
        return max(score for some in last for _, score in some) < self.pipeline.store.now_ms()

    def parts(self) -> dict[str, float]:
        """Bytes of a document: what Redis tells of its keys and tables."""
        facts: Any = self.client.memory_stats()
        layout = self.pipeline.store.layout
        of_entries = [
            self.client.memory_usage(layout.of(member).entry(member)) or 0
            for member in map(self.documents.member, self._some(1_000))
        ]
        marks = sum(self.client.memory_usage(of.pending, samples=1_000) or 0 for of in layout.all())
        return {
            "entry, with its key": statistics.mean(of_entries) - len(self.documents.body(0)),
            "mark of being pending": marks / self.pending,
            "tables of keys": facts.get("overhead.db.hashtable.lut", 0) / self.pending,
        }


def growth(costs: Sequence[tuple[float, float]], least: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median of the rounds' ratios of costs, of both parts."""
    ours, its = zip(*((a / c, b / d) for (a, b), (c, d) in zip(costs, least, strict=True)), strict=True)
    return statistics.median(ours), statistics.median(its)


def rows(every: Sequence[Filled]) -> Iterator[str]:
    """A line for each act and number, and one for each act with the most that it grows by."""
    for name, least in every[0].costs.items():
        for one in every:
            ours, its = (statistics.median(part) for part in zip(*one.costs[name], strict=True))
            more, mores = growth(one.costs[name], least)
            mark = "" if max(more, mores) <= GROWTH else f"  above {GROWTH}"
            yield f"{name:<32}{one.pending:>12,}{ours:>12.1f}{more:>7.2f}{its:>12.1f}{mores:>7.2f}{mark}"


def beyond(bytes_each: float, most: int) -> str:
    """Bytes beyond a body, beside those that there should be at most."""
    return f"{bytes_each:6.0f}" + ("" if bytes_each <= most else f"  above {most}")


def run(pending: Sequence[int], rounds: int, documents: Documents) -> None:
    """Fill, measure, and print the tables."""
    body = len(documents.body(0))
    print(f"\nCosts by how many documents of {body} bytes are pending, with ids of {len(documents.name(0))}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        every, lines = [], []
        for at, number in enumerate(pending):
            one, before, seconds = _filled(stack, directory / str(at), number, documents)
            every.append(one)
            each = (used(one.server) - before) / number - body
            lines.append((one, before, each, one.parts()))
            print(f"  {number:,} documents in {seconds:.1f} s", flush=True)
        found = differences(every[0].pipeline, every[0].client, documents, range(COMPARED))
        print(f"  {len(found)} of {COMPARED} that were filled in differ from written ones {', '.join(found)}")
        for one in every:
            wait_until(one.is_due, "all is due")
            one.measure()  # once, so that all is loaded
            one.costs.clear()
        for at in range(rounds):
            for one in every[at % len(every) :] + every[: at % len(every)]:  # none is always the first
                one.measure()
        print(f"\n{'µs of CPU':<32}{'pending':>12}{'client':>12}{'x':>7}{'Redis':>12}{'x':>7}")
        print("\n".join(rows(every)))
        print("\nBytes of Redis beyond the body")
        for one, before, each, parts in lines:
            print(f"  {one.pending:>10,} pending  {beyond(each, PENDING_BYTES)}   {_told(parts)}")
            if LEAST_CLEAN <= one.pending <= MOST_CLEAN:
                one.clean()
                left = (used(one.server) - before) / one.pending - body
                print(
                    f"  {one.pending:>10,} clean    {beyond(left, CLEAN_BYTES)}   {_told(one.parts())}", flush=True
                )


def _told(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {each:.0f}" for name, each in parts.items())


def _filled(stack: ExitStack, directory: Path, number: int, documents: Documents) -> tuple[Filled, float, float]:
    """A Redis with pending documents; bytes that it had before; and seconds that it took."""
    server = stack.enter_context(EmbeddedRedis(directory))
    client = stack.enter_context(redis.Redis.from_url(server.url))
    client.config_set("appendonly", "no")
    settings = load_settings(
        redis_url=server.url,
        mongodb_url="mongodb://127.0.0.1:9/",  # nobody
        max_pending_per_partition=MOST,
        collections={COLLECTION: {}},
    )
    pipeline = stack.enter_context(Pipeline(settings, hints=lambda _: None))
    one = Filled(number, documents, pipeline, client, server)
    for act in (lambda: one._write(range(WRITES)), lambda: one._settle(one._settled(range(WRITES)))):
        act()  # so that what there is once is there
    before, began = used(server), time.monotonic()
    delay_ms = settings.collections[COLLECTION].flush_delay_ms
    fill(pipeline, client, documents, range(number), delay_ms=delay_ms)
    seconds = time.monotonic() - began
    client.script_flush("SYNC")  # the memory of scripts has grown by filling, and takes time to be seen through
    one.wait()
    return one, before, seconds


def main() -> None:
    """Measure numbers of the command line, or those that there are."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--pending", type=int, nargs="+", default=PENDING, help="numbers of pending documents")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds, of which medians are taken")
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of a document as BSON")
    parser.add_argument("--digits", type=int, default=DIGITS, help="digits of an id, which has a letter more")
    given = parser.parse_args() if __name__ == "__main__" else parser.parse_args([])
    run(given.pending, given.rounds, Documents.of(given.size, given.digits))


if __name__ == "__main__":
    main()
