"""What a cached query costs beside one to MongoDB, and how often MongoDB is asked while documents change."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pymongo.collection import Collection

from bench.connections import microseconds
from bench.load import DOCUMENT
from writebehind import Pipeline, codec, load_settings
from writebehind.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.rawbson import RAW_OPTIONS

DOCUMENTS, CITIES, PENDING = 10_000, 100, 200
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
        users = {"queries": {"by_city": BY_CITY}, "flush_delay_ms": 60_000}
        settings = load_settings(redis_url=redis.url, mongodb_url=mongo.url, collections={"users": users})
        with Pipeline(settings) as pipeline:
            stored = pipeline._client[settings.mongodb_database]["users"]  # noqa: SLF001 - as another client would
            stored.insert_many([{"_id": f"u{n}"} | _document(n) for n in range(DOCUMENTS)])
            stored.create_index([("city", 1), ("rank", -1)])
            raw = stored.with_options(codec_options=RAW_OPTIONS)
            _compare(pipeline, raw, "nothing pending")
            for n in range(PENDING):
                pipeline.collection("users").put(f"new{n}", _document(n))
            _compare(pipeline, raw, f"{PENDING} documents pending")
            _write(pipeline)


def _document(n: int) -> dict:
    return codec.loads(DOCUMENT) | {"city": f"city {n % CITIES}", "rank": n}


def _compare(pipeline: Pipeline, stored: Collection, what: str) -> None:
    users = pipeline.collection("users")
    cached = microseconds(lambda: users.read_query("by_city", {"city": "city 1"}))
    asked = microseconds(lambda: list(stored.find({"city": "city 1"}, sort=[("rank", -1)], limit=20)))
    print(f"\nA query for 20 documents, {what}, µs of CPU in the process, best of several rounds")
    print(f"  MongoDB through pymongo   {asked:7.1f}  1.00")
    print(f"  cached                    {cached:7.1f}  {cached / asked:.2f}")


def _write(pipeline: Pipeline) -> None:
    users, find, loads = pipeline.collection("users"), pipeline.sink.find_places, []

    def count(*wanted):
        loads.append(wanted)
        return find(*wanted)

    pipeline.sink.find_places = count
    asked = 2_000
    for n in range(asked):
        users.put(f"new{n % PENDING}", _document(n))
        users.read_query("by_city", {"city": f"city {n % 10}"})
        if n % 100 == 0:
            for partition in range(pipeline.settings.partitions):
                pipeline.flusher.drain(partition, budget_s=10)
    print(f"\nA write and a query in turn, with a flush after each 100, {asked} times over 10 cities")
    print(f"  MongoDB was asked {len(loads)} times: {len(loads) / asked:.1%} of the queries")


if __name__ == "__main__":
    main()
