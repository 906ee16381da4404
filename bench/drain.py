"""CPU time of draining a backlog, beside PyMongo's `bulk_write` of the same guarded operations, in the same run.

`python -m bench.drain [DOCUMENTS] [BYTES]`: 20,000 of 500 bytes are some 310 for each partition; 256 are four.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReplaceOne
from pymongo.collection import Collection

from bench.constants import pipeline_of, servers_of
from writebehind import Pipeline
from writebehind.documents import codec
from writebehind.documents.raw_bson import VERSION_END, append_version
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

DOCUMENTS, BYTES = 20_000, 500
#: Partitions of which the first only warm.
WARMING = 4
COLLECTION = "users"


def main() -> None:
    """Measure and print both, for each document."""
    given = [int(one) for one in sys.argv[1:]] if __name__ == "__main__" else []
    documents, size = (*given, *(DOCUMENTS, BYTES)[len(given) :])
    ours, theirs, sent = measured(documents, size)
    print(f"\nDraining {documents} documents of {size} bytes, {sent:.0f} for each bulk write: µs of CPU for each")
    print(f"{'':<28}{'CPU':>8}{'elapsed':>10}")
    for name, (cpu, elapsed) in (("flush", ours), ("raw bulk_write", theirs)):
        print(f"{name:<28}{cpu:>8.1f}{elapsed:>10.1f}")
    print(f"{'CPU of the flush to the raw':<28}{ours[0] / theirs[0]:>8.2f}")


def measured(documents: int, size: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    """CPU and elapsed time of a flush and of a raw bulk write, µs for each document; documents of a bulk write."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    operations = batches = 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedRedis(directory / "redis"))
        mongo = stack.enter_context(EmbeddedMongo(directory / "mongo"))
        environment = servers_of(server, mongo, directory, {COLLECTION: {}})
        pipeline = stack.enter_context(pipeline_of(environment))
        raw = stack.enter_context(MongoClient(mongo.url))["raw"][COLLECTION]
        for partition, bodies in _written(pipeline, documents, size).items():
            acts: list[tuple[list[tuple[float, float]], Callable[[], Any]]] = [
                (ours, lambda at=partition: pipeline.flusher.drain(at, budget_s=600)),
                (theirs, lambda some=bodies: _bulk_write(raw, some)),
            ]
            random.shuffle(acts)
            for times, act in acts:
                began = (time.thread_time(), time.perf_counter())
                summary = act()
                cpu, elapsed = time.thread_time() - began[0], time.perf_counter() - began[1]
                times.append((cpu / len(bodies) * 1e6, elapsed / len(bodies) * 1e6))
                if times is ours:
                    operations, batches = operations + summary.operations, batches + summary.batches
                    if summary.persisted != len(bodies):
                        sys.exit(f"of {len(bodies)} documents {summary.persisted} were persisted")
    return _medians(ours[WARMING:]), _medians(theirs[WARMING:]), operations / batches


def _medians(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    cpu, elapsed = zip(*times, strict=True)
    return statistics.median(cpu), statistics.median(elapsed)


def _written(pipeline: Pipeline, documents: int, size: int) -> dict[int, list[tuple[str, bytes]]]:
    """Write documents; their ids and bodies by partition."""
    users, store = pipeline.collection(COLLECTION), pipeline.store
    written: dict[int, list[tuple[str, bytes]]] = {}
    for number in range(documents):
        name = f"user-{number}"
        document = {"_id": name, "name": f"Ada {number}", "email": f"ada-{number}@example.com", "turn": 1}
        document |= {"score": number * 1.5, "active": True, "tags": ["first", "second"], "text": ""}
        document["text"] = "x" * max(size - len(codec.encode(document)), 0)
        users.put(name, document)
        written.setdefault(store.partition_of(f"{COLLECTION}/s:{name}"), []).append((name, codec.encode(document)))
    return written


def _bulk_write(target: Collection[Any], bodies: Sequence[tuple[str, bytes]]) -> None:
    """Send documents as a flush does: each under its version, where MongoDB has none as new."""
    version = time.time_ns() // 1000
    operations = [
        ReplaceOne(
            {"_id": name, "_v": {"$not": {"$gte": Int64(version), "$lt": Int64(VERSION_END)}}},
            RawBSONDocument(append_version(body, version)),
            upsert=True,
        )
        for name, body in bodies
    ]
    target.bulk_write(operations, ordered=False)


if __name__ == "__main__":
    main()
