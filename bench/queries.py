"""What a cached query costs beside one to MongoDB, and how often MongoDB is asked while documents change."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pymongo import MongoClient
from pymongo.collection import Collection

from bench.connections import microseconds
from bench.load import DOCUMENT
from tests.sizes import LIMIT, mixed, sized
from writebehind import Pipeline, load_settings
from writebehind.documents import codec
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

DOCUMENTS, CITIES, PENDING = 10_000, 100, 200
#: Queries in a round.
CALLS = 300
#: Collections, and whether one of 20 documents in each answer is large: of 4,095 bytes to 64 KiB.
COLLECTIONS = {"small": False, "mixed": True}
BY_CITY = {
    "filter": {"city": {"$param": "city"}},
    "sort": {"rank": -1},
    "limit": 20,
    "parameters": {"city": "string"},
}


def main() -> None:
    """Ask for 20 of 100 documents of a city: nothing pending, and 200 pending; then write while asking."""
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedRedis(Path(directory) / "redis") as redis,
        EmbeddedMongo(Path(directory) / "mongo") as mongo,
    ):
        asked = {"queries": {"by_city": BY_CITY}, "flush_delay_ms": 60_000}
        collections = dict.fromkeys(COLLECTIONS, asked)
        settings = load_settings(redis_url=redis.url, mongodb_url=mongo.url, collections=collections)
        with MongoClient(mongo.url) as client, Pipeline(settings) as pipeline:
            for name in COLLECTIONS:
                stored = client[settings.mongodb_database][name]
                stored.create_index([("city", 1), ("rank", -1)])
                for n in range(0, DOCUMENTS, 1_000):
                    stored.insert_many([{"_id": f"u{at}"} | _document(name, at) for at in range(n, n + 1_000)])
                raw = stored.with_options(codec_options=RAW_OPTIONS)
                _compare(pipeline, raw, "nothing pending")
                for n in range(PENDING):
                    pipeline.collection(name).put(f"new{n}", _document(name, n))
                _compare(pipeline, raw, f"{PENDING} documents pending")
                pipeline.collection(name).put("full", sized("full", LIMIT, city="city 1", rank=DOCUMENTS))
                _compare(pipeline, raw, f"and one of {LIMIT} bytes")
                pipeline.collection(name).delete("full")
                _drain(pipeline)
            _write(pipeline)


def _document(name: str, n: int) -> dict:
    more = mixed(n // CITIES) if COLLECTIONS[name] else {}
    return codec.loads(DOCUMENT) | {"city": f"city {n % CITIES}", "rank": n} | more


def _drain(pipeline: Pipeline) -> None:
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.drain(partition, budget_s=10)


def _compare(pipeline: Pipeline, stored: Collection, what: str) -> None:
    users = pipeline.collection(stored.name)
    cached = microseconds(lambda: users.read_query("by_city", {"city": "city 1"}), CALLS)
    asked = microseconds(lambda: list(stored.find({"city": "city 1"}, sort=[("rank", -1)], limit=20)), CALLS)
    print(f"\nA query for 20 {stored.name} documents, {what}, µs of CPU in the process, best of several rounds")
    print(f"  MongoDB through pymongo   {asked:7.1f}  1.00")
    print(f"  cached                    {cached:7.1f}  {cached / asked:.2f}")


def _write(pipeline: Pipeline) -> None:
    users, find, loads = pipeline.collection("mixed"), pipeline.sink.find_places, []

    def count(*wanted):
        loads.append(wanted)
        return find(*wanted)

    pipeline.sink.find_places = count
    asked = 2_000
    for n in range(asked):
        users.put(f"new{n % PENDING}", _document("mixed", n))
        users.read_query("by_city", {"city": f"city {n % 10}"})
        if n % 100 == 0:
            _drain(pipeline)
    print(f"\nA write and a query in turn, with a flush after each 100, {asked} times over 10 cities")
    print(f"  MongoDB was asked {len(loads)} times: {len(loads) / asked:.1%} of the queries")


if __name__ == "__main__":
    main()
