"""What stays in a full Redis, and what hot keys cost MongoDB when they expire: counted at the driver.

Reads are Zipf(1.1) over 20,000 documents, and Redis has room for a fifth of them. What MongoDB is asked for is
what pymongo's monitoring tells of its `find` commands, not what the pipeline counts itself.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate

from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from tests.sizes import DRIVER_VIEW, sized
from writebehind import Collection, Pipeline, Settings, load_settings
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.reading.read import Source

DOCUMENTS, HELD, SKEW = 20_000, 4_000, 1.1
TEXT = "x" * 1_000
#: One of how many documents is larger, by which PyMongo hands it over in another way.
ONE_IN = 20
#: In a partition, so that twice as many documents are counted as are held: see docs/operations.md.
HOT_KEYS = 2 * HELD // 16
#: Tries to find the memory in which as many entries are held.
FITTINGS = 4
#: Reads before the measured ones, of an unlimited Redis and of the full one; the measured ones; and how many there
#: are between two passes of warming.
UNLIMITED, TRAINED, MEASURED, PASS = 1_000_000, 100_000, 80_000, 40_000
#: Documents in one round trip: few, as the buffer of a large one takes memory for a while.
AT_ONCE = 50

HOT, TTL_S, TTLS = 20, 2.0, 6
PROCESSES, THREADS = 2, 2
WAITED = {Source.MISS, Source.COLLAPSED, Source.REVALIDATED}

WEIGHTS = list(accumulate(1 / rank**SKEW for rank in range(1, DOCUMENTS + 1)))
#: The most popular one first; no order that a hash or a cursor could know.
NAMES = [f"d{number}" for number in range(DOCUMENTS)]
random.Random(3).shuffle(NAMES)


class Finds(CommandListener):
    """Notes the documents that the driver asks MongoDB for, each with the time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def started(self, event) -> None:
        if event.command_name == "find":
            wanted = event.command["filter"]["_id"]
            now = time.time()
            self.asked += [(one, now) for one in (wanted["$in"] if isinstance(wanted, dict) else [wanted])]

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Pipeline, Finds]]:
    """A pipeline, and what it asks MongoDB for."""
    finds = Finds()
    with (
        MongoClient(settings.mongodb_url, event_listeners=[finds]) as client,
        Pipeline(settings, client=client) as it,
    ):
        yield it, finds


def main() -> None:
    """Print a table, and what was seen of hot keys."""
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedRedis(directory) as redis,
        EmbeddedMongo(directory) as db,
    ):
        settings = load_settings(
            redis_url=redis.url,
            mongodb_url=db.url,
            hot_keys=HOT_KEYS,
            hot_samples=0,
            collections={"docs": {}, "hot": {"ttl": TTL_S}},
        )
        with MongoClient(db.url) as client:
            for name in ("docs", "hot"):
                client[settings.mongodb_database][name].insert_many(
                    _document(at, one) for at, one in enumerate(NAMES)
                )
        _full_redis(settings)
        _expiring(settings)


def _document(at: int, name: str) -> dict[str, str]:
    size = DRIVER_VIEW - 1 + at // ONE_IN % 3
    return {"_id": name, "text": TEXT} if at % ONE_IN else sized(name, size)


# A full Redis ----------------------------------------------------------------------------------------------


def _full_redis(settings: Settings) -> None:
    counting = settings.model_copy(update={"hot_samples": 10_000_000})
    sizes = f"{len(TEXT)} bytes, one in {ONE_IN} of {DRIVER_VIEW}"
    print(f"\nZipf({SKEW}) over {DOCUMENTS} documents of {sizes}, {MEASURED} reads of a full Redis")
    print(f"  {'':32} {'of MongoDB':>10} {'hit ratio':>9} {'entries':>8} {'ceiling':>8} {'warmed':>7}")
    with opened(settings) as (pipeline, _):
        empty = pipeline.store.load().used_memory
        _read(pipeline.collection("docs"), NAMES[:HELD])
        alone = pipeline.store.load().used_memory
    with opened(counting) as (pipeline, finds):
        _train(pipeline, UNLIMITED)
        _forget(pipeline, alone)
        with_counts = _fitting(pipeline, alone, (alone - empty) // HELD)
        print(f"  hot keys and warming, {with_counts / alone - 1:.0%} of memory for the counts, in that of")
        for name, limit in ((f"{HELD} entries and the counts", with_counts), (f"{HELD} entries", alone)):
            pipeline.store._wire.call("CONFIG", "SET", "maxmemory", limit)
            _train(pipeline, TRAINED)
            _print_row(name, pipeline, finds)
        pipeline.store._wire.call("FLUSHALL")
    with opened(settings) as (pipeline, finds):
        print("  volatile-lru, in the same memory")
        for name, limit in ((f"{HELD} entries and the counts", with_counts), (f"{HELD} entries", alone)):
            _forget(pipeline, limit)
            _train(pipeline, TRAINED)
            _print_row(name, pipeline, finds)
        _forget(pipeline, 0)


def _fitting(pipeline: Pipeline, limit: int, entry: int) -> int:
    """The memory in which so many entries are held, with whatever is kept beside them."""
    for _ in range(FITTINGS):
        _train(pipeline, PASS)
        limit += (HELD - pipeline.store.load().expiring) * entry
        pipeline.store._wire.call("CONFIG", "SET", "maxmemory", limit)
    return limit


def _forget(pipeline: Pipeline, limit: int) -> None:
    """Drop the entries, and limit the memory: tables that have been large would stay so beside full ones."""
    wire = pipeline.store._wire
    for at in range(0, DOCUMENTS, AT_ONCE):
        pipeline.store.cache.invalidate_many(f"docs/s:{one}" for one in NAMES[at : at + AT_ONCE])
    wire.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    wire.call("CONFIG", "SET", "maxmemory", limit)


def _train(pipeline: Pipeline, reads: int) -> None:
    """Let the counts settle, and Redis be full."""
    docs, draw = pipeline.collection("docs"), random.Random(reads)
    for _ in range(0, reads, PASS):
        _read(docs, draw.choices(NAMES, cum_weights=WEIGHTS, k=PASS))
        _warm(pipeline)


def _warm(pipeline: Pipeline) -> None:
    """What beat has done twice a minute."""
    if pipeline.settings.hot_samples:
        pipeline.hot_keys.send()
        pipeline.maintenance.decay()
        pipeline.maintenance.warm()


def _print_row(name: str, pipeline: Pipeline, finds: Finds) -> None:
    docs, draw = pipeline.collection("docs"), random.Random(7)
    asked = warmed = known = 0
    held = []
    for _ in range(0, MEASURED, PASS):
        before = len(finds.asked)
        _warm(pipeline)
        held.append(pipeline.store.load().expiring)
        warmed, before = warmed + len(finds.asked) - before, len(finds.asked)
        reads = draw.choices(NAMES, cum_weights=WEIGHTS, k=PASS)
        for one in reads:
            docs.get(one)
        asked += len(finds.asked) - before
        held.append(pipeline.store.load().expiring)
        best = set(NAMES[: sum(held[-2:]) // 2])
        known += sum(one in best for one in reads)
    count = sum(held) // len(held)
    print(f"    {name:30} {asked:10} {1 - asked / MEASURED:9.4f} {count:8} {known / MEASURED:8.4f} {warmed:7}")


def _read(docs: Collection, names: Sequence[str]) -> None:
    for at in range(0, len(names), AT_ONCE):
        docs.read_many(names[at : at + AT_ONCE])


# Hot keys that expire --------------------------------------------------------------------------------------


def _expiring(settings: Settings) -> None:
    """Read some documents all the time from several processes, and see how often MongoDB is."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as processes:
        parts = [part.result() for part in [processes.submit(_process, settings) for _ in range(PROCESSES)]]
    loads: defaultdict[str, list[float]] = defaultdict(list)
    for asked, _ in parts:
        for one, at in asked:
            loads[one].append(at)
    sources: Counter[Source] = sum((sources for _, sources in parts), Counter())
    reads, waited = sources.total(), sum(sources[one] for one in WAITED)
    # From the first load on, which fills what nobody has read yet.
    each = [sum(0 < at - min(times) <= TTLS * TTL_S for at in times) / TTLS for times in loads.values()]
    print(
        f"\n{HOT} documents with a TTL of {TTL_S:g} s, read {reads} times from {PROCESSES} processes, {TTLS} TTLs"
    )
    print(f"  MongoDB's reads of a document in a TTL: mean {sum(each) / len(each):.2f}, most {max(each):.2f}")
    print(f"  reads that waited for MongoDB, with the first ones: {waited}, {waited / reads:.4%}")


def _process(settings: Settings) -> tuple[list[tuple[str, float]], Counter[Source]]:
    with opened(settings) as (pipeline, finds), ThreadPoolExecutor(THREADS) as threads:
        until = time.monotonic() + TTL_S * (TTLS + 1)
        readers = [threads.submit(_reader, pipeline.collection("hot"), until) for _ in range(THREADS)]
        sources: Counter[Source] = sum((reader.result() for reader in readers), Counter())
        return finds.asked, sources


def _reader(hot: Collection, until: float) -> Counter[Source]:
    sources: Counter[Source] = Counter()
    while time.monotonic() < until:
        sources[hot.read(random.choice(NAMES[:HOT])).source] += 1
    return sources


if __name__ == "__main__":
    main()
