"""Plans, held against systems that run: `python -m bench.capacity [CONSTANTS]`, about six minutes.

For each load, a web process, a worker, Valkey and SecantusDB are started. Requests come at a steady rate; then
MongoDB is frozen, until writes are refused. What is seen is printed beside what `writebehind plan` says. Without a
file of constants they are measured first.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import bson
import psutil
import redis
from pymongo import MongoClient

from bench import constants, memory
from bench.constants import cpu_s, pipeline_of, servers_of, worker
from bench.http import OURS, serving
from bench.steady import Steady
from writebehind import Pipeline
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port
from writebehind.planning.constants import Constants, load_constants
from writebehind.planning.load import Load
from writebehind.planning.plan import make_plan
from writebehind.planning.sizing import LEAST_PARTITIONS, LEAST_WORKERS, MIB, Sizing
from writebehind.redis.keys import partition_keys

COLLECTION, PARTITIONS = "documents", LEAST_PARTITIONS
TTL_S, WARM_S, SEEN_S, OUTAGE_S = 10, 30, 30, 10
#: How long writes go on in an outage until they have to be refused, at most.
LONGEST_S = 60
#: By how much a plan may differ from what is seen.
MOST = 0.15
LOADS = (
    Load(writes=150, reads=300, documents=50_000, skew=1.0, size="5000", ttl=TTL_S, allocator="libc"),
    Load(writes=100, reads=200, documents=5_000, skew=0.8, size="300-5000", new=20, ttl=TTL_S, allocator="libc"),
    Load(writes=300, reads=50, documents=2_000, skew=1.1, size="300:9,20000:1", ttl=TTL_S, allocator="libc"),
)


@dataclass
class Row:
    """One figure: as it was planned, and as it was seen."""

    what: str
    planned: float
    seen: float

    @property
    def off(self) -> float:
        """By which part the plan is more than what was seen."""
        return self.planned / self.seen - 1 if self.seen else 0.0 if not self.planned else float("inf")

    def __str__(self) -> str:
        return f"  {self.what:44} {self.planned:12.4g} {self.seen:12.4g} {self.off:+8.1%}"


class Requests:
    """Requests for documents by Zipf's law."""

    def __init__(self, load: Load, seed: int) -> None:
        self._chance, self._load, self._created = random.Random(seed), load, 0
        self._weights = list(accumulate(rank**-load.skew for rank in range(1, load.documents + 1)))
        self._ranks: list[int] = []
        sizes = [(one.part, text_of(round(one.bytes))) for one in load.sizes]
        self._texts, self._shares = [text for _, text in sizes], list(accumulate(part for part, _ in sizes))

    def known(self) -> str:
        """A document that is written again and again."""
        if not self._ranks:
            self._ranks = self._chance.choices(range(len(self._weights)), cum_weights=self._weights, k=1_000)
        return name_of(self._ranks.pop())

    def written(self) -> str:
        """A document that is written: one of these, or a new one."""
        if self._chance.random() * 100 >= self._load.new:
            return self.known()
        self._created += 1
        return f"{self._created * 2_654_435_761 % (1 << 32):024d}"

    def put(self) -> bytes:
        """A write."""
        name = self.written()
        text = self._chance.choices(self._texts, cum_weights=self._shares)[0]
        body = b'{"text":"%b"}' % text
        head = f"PUT /v1/{COLLECTION}/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def get(self) -> bytes:
        """A read."""
        return f"GET /v1/{COLLECTION}/{self.known()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def name_of(rank: int) -> str:
    """The id of a document."""
    return f"d{rank * 2_654_435_761 % (1 << 32):023d}"


def text_of(size: int) -> bytes:
    """The text that makes a document as large as BSON."""
    return b"x" * (size - len(bson.encode({"_id": name_of(0), "text": ""})))


def main() -> None:
    """Print a table for each load; the exit status is 1 where a plan is too far off."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 and __name__ == "__main__" else constants.FILE
    if not path.exists():
        constants.main()
    known = load_constants(path)
    far = [row for load in LOADS for row in check(load, known) if abs(row.off) > MOST]
    print(f"\n{len(far)} figures are more than {MOST:.0%} off" + "".join(f"\n{row}" for row in far))
    if far and __name__ == "__main__":
        sys.exit(1)


def check(load: Load, known: Constants) -> list[Row]:
    """Run a system under a load; each figure as planned and as seen."""
    plan = make_plan(load.model_copy(update={"outage": OUTAGE_S}), known)
    print(
        f"\n{load.writes:g} writes/s, {load.reads:g} reads/s of {load.documents:,} documents, {load.size} bytes, "
        f"skew {load.skew:g}, {load.new:g} % new\n  {'':44} {'planned':>12} {'seen':>12}",
        flush=True,
    )
    cap = int(Sizing(load, known).waiting(OUTAGE_S * 3) / PARTITIONS)
    capped = Sizing(load.model_copy(update={"max_pending_per_partition": cap}), known)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        system = stack.enter_context(running(load, directory, cap))
        rows = []
        for row in system.look(plan.value, capped):
            print(row, flush=True)
            rows.append(row)
    return rows


@dataclass
class System:
    """A system under load."""

    load: Load
    pipeline: Pipeline
    server: EmbeddedRedis
    mongo: EmbeddedMongo
    web: psutil.Process
    worker: psutil.Process
    writes: Steady

    def look(self, planned: Callable[[str], Any], capped: Sizing) -> Iterator[Row]:
        """Each figure, as planned and as seen."""
        time.sleep(WARM_S)
        began, before, pending = time.monotonic(), self._counts(), []
        while time.monotonic() < began + SEEN_S:
            pending.append(self._pending())
            time.sleep(0.2)
        seconds, after = time.monotonic() - began, self._counts()
        done = {name: (after[name] - before[name]) / seconds for name in before}
        yield Row("writes/s", self.load.writes, done["acknowledged"])
        yield Row(
            "operations per write", planned("operations_per_write"), done["operations"] / done["acknowledged"]
        )
        yield Row("bulk writes/s", planned("bulk_writes_per_second"), done["batches"])
        yield Row("pending documents", capped.flushing.pending, sum(pending) / len(pending))
        yield Row("reads of MongoDB/s", planned("mongodb_reads_per_second"), done["loads"])
        idle = capped.constants.idle
        yield Row("cores, web", capped.web_cores + idle.web_cores, done["web"])
        yield Row("cores, worker", capped.worker_cores + idle.worker_cores, done["worker"])
        one_less = idle.worker_redis_cores * (LEAST_WORKERS - 1)  # as there is one worker
        yield Row("cores, Redis", capped.redis_cores(1, PARTITIONS) - one_less, done["redis"])
        yield Row("MiB of Redis", self._memory(capped, 0), self._used())
        yield from self._outage(planned, capped)

    def _outage(self, planned: Callable[[str], Any], capped: Sizing) -> Iterator[Row]:
        os.kill(self.mongo.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            time.sleep(OUTAGE_S)
            seconds, pending, used = time.monotonic() - began, self._pending(), self._used()
            yield Row(f"waiting documents after {OUTAGE_S} s", planned("waiting_documents"), pending)
            yield Row(f"MiB of Redis after {OUTAGE_S} s", self._memory(capped, seconds), used)
            while self.writes.refused_at is None and time.monotonic() < began + LONGEST_S:
                time.sleep(0.05)
            until = capped.until_cap_s()
            if until is not None and self.writes.refused_at is not None:
                yield Row("seconds until writes are refused", until, self.writes.refused_at - began)
        finally:
            os.kill(self.mongo.pid, signal.SIGCONT)

    def _pending(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            return sum(client.zcard(partition_keys(number).pending) for number in range(PARTITIONS))

    def _used(self) -> float:
        return memory.used(self.server) / MIB

    @staticmethod
    def _memory(of: Sizing, seconds: float) -> float:
        return (of.memory(seconds) - of.hot_bytes) / MIB  # which are turned off

    def _counts(self) -> dict[str, float]:
        totals = self.pipeline.status()["totals"]
        found = {name: float(totals[name]) for name in ("acknowledged", "operations", "batches")}
        cores = {"web": self.web, "worker": self.worker, "redis": psutil.Process(self.server.pid)}
        with MongoClient[dict[str, Any]](self.mongo.url) as client:
            found["loads"] = float(client.admin.command("serverStatus")["opcounters"]["query"])
        return found | {name: cpu_s(process) for name, process in cores.items()}


@contextmanager
def running(load: Load, directory: Path, cap: int) -> Iterator[System]:
    """A system that is under load."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(directory / "redis"))
        mongo = stack.enter_context(EmbeddedMongo(directory / "mongo"))
        collections = {COLLECTION: {"ttl": load.ttl}}
        more = {"WRITEBEHIND_MAX_PENDING_PER_PARTITION": str(cap), "WRITEBEHIND_HOT_SAMPLES": "0"}
        environment = servers_of(server, mongo, directory, collections, **more)
        _fill(mongo, load)
        pipeline = stack.enter_context(pipeline_of(environment))
        name, command, target = OURS
        port = free_port()
        web = stack.enter_context(serving(name, command(target, port), port, environment))
        of_worker = stack.enter_context(worker(environment))
        writes = stack.enter_context(Steady(port, load.writes, Requests(load, 1).put, 1))
        if load.reads:
            stack.enter_context(Steady(port, load.reads, Requests(load, 2).get, 2))
        yield System(load, pipeline, server, mongo, web.process, of_worker, writes)


def _fill(mongo: EmbeddedMongo, load: Load) -> None:
    """Let MongoDB have all documents, of sizes in turn."""
    texts = [text_of(round(one.bytes)).decode() for one in load.sizes]
    documents = [{"_id": name_of(rank), "text": texts[rank % len(texts)]} for rank in range(load.documents)]
    with MongoClient[dict[str, Any]](mongo.url) as client:
        for at in range(0, len(documents), 1_000):
            client["writebehind"][COLLECTION].insert_many(documents[at : at + 1_000])


if __name__ == "__main__":
    main()
