"""Plans, held against real servers: memory of documents, operations for each write, and what waits in an outage.

`make capacity` does the same with whole systems, for minutes.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable

import pytest

from bench.capacity import Requests
from bench.memory import COLLECTION, ID, allocator_of, filled, settle
from tests.conftest import KINDS_OF_REDIS
from tests.servers import REDIS_SERVER, RedisProgram
from writebehind import Pipeline, load_settings
from writebehind.local.embedded import EmbeddedRedis
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.planning.constants import load_constants
from writebehind.planning.load import Load
from writebehind.planning.memory import Footprint, Names
from writebehind.planning.sizing import Sizing

#: By how much a plan may be wrong.
FAR = 0.15


@pytest.fixture(params=[kind for kind in KINDS_OF_REDIS if kind != "fakeredis"])
def server(request, tmp_path):
    """A server of its own, as the memory of all of it is looked at."""
    with RedisProgram(tmp_path, REDIS_SERVER) if request.param == "redis" else EmbeddedRedis(tmp_path) as started:
        yield started


@pytest.mark.parametrize("size", [150, 1_100])
def test_memory_of_documents_is_as_planned(server, size):
    """Pending and cached, with each allocator: where one of its classes has just begun, and is nearly full."""
    kind = allocator_of(server)
    load = Load(size=str(size), allocator=kind)
    names = Names.of(len(ID.format(0)), COLLECTION)
    planned = Footprint.of(load_constants().memory[kind], kind, load.sizes, names)
    with filled(server, size, 2_000) as (pipeline, each):
        assert planned.pending == pytest.approx(each(), rel=FAR)
        settle(pipeline)
        assert planned.cached == pytest.approx(each(), rel=FAR)


def test_writes_are_coalesced_as_planned(valkey, valkey_wire, mongo_client, hints):
    """Of popular documents many writes are one operation; in an outage each document waits once.

    A run is held against the plan for the rate that it had; a machine that stood still is given another one.
    """
    load = Load(writes=300, reads=0, documents=500, flush_delay_ms=300, new=10, allocator="libc")
    settings = load_settings(
        redis_url=valkey.url,
        mongodb_url="mongodb://127.0.0.1:9/",
        hot_samples=0,
        partitions=4,
        collections={"documents": {"flush_delay_ms": load.flush_delay_ms}},
    )
    for attempt in range(3):
        valkey_wire.call("FLUSHALL")
        hints.clear()
        pipeline = Pipeline(settings, hints=hints, wire=valkey_wire, client=mongo_client)
        pipeline.sink.write = lambda _, batch, **__: [Outcome(one, Result.PERSISTED) for one in batch]
        run = Run(pipeline, hints, load, seed=attempt)
        run.write(1.0, flushing=True)  # until all goes on as it will
        seen, rate = run.operations(lambda run=run: run.write(2.0, flushing=True))
        waits = run.write(1.0, flushing=False)
        sizing = Sizing(load.model_copy(update={"writes": rate, "partitions": 4}), load_constants())
        planned = (sizing.flushing.operations / rate, sizing.waiting(waits))
        if planned == pytest.approx((seen, run.pending()), rel=FAR):
            return
    assert planned == pytest.approx((seen, run.pending()), rel=FAR)


class Run:
    """Writes at a steady rate, and flush tasks at their time, in one thread."""

    def __init__(self, pipeline: Pipeline, hints: list, load: Load, seed: int) -> None:
        self._pipeline, self._hints, self._load = pipeline, hints, load
        self._chance, self._requests = random.Random(seed), Requests(load, seed)
        self._due: list = []

    def write(self, seconds: float, *, flushing: bool) -> float:
        """Write for so long; the seconds that it took."""
        documents, began = self._pipeline.collection("documents"), time.monotonic()
        due = began
        while (now := time.monotonic()) < began + seconds:
            if due <= now:
                documents.put(self._requests.written(), {})
                due += self._chance.expovariate(self._load.writes)
            while self._hints:
                hint = self._hints.pop()
                heapq.heappush(self._due, (now + hint.delay_ms / 1000, hint.partition, hint.ticket))
            if flushing and self._due and self._due[0][0] <= now:
                _, partition, ticket = heapq.heappop(self._due)
                self._pipeline.flusher.flush(partition, ticket=ticket)
            elif due > now:
                time.sleep(min(due - now, 0.001))
        return time.monotonic() - began

    def operations(self, act: Callable[[], float]) -> tuple[float, float]:
        """Operations for each write, and writes in a second, meanwhile."""
        before = self._counts()
        seconds = act()
        acknowledged, operations = (end - start for start, end in zip(before, self._counts(), strict=True))
        return operations / acknowledged, acknowledged / seconds

    def pending(self) -> int:
        """Documents that wait."""
        return sum(self._pipeline.store.load().pending)

    def _counts(self) -> tuple[int, int]:
        totals = self._pipeline.store.metrics.counters()
        return totals["acknowledged"], totals["operations"]
