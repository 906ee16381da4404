"""Bytes of Redis's memory that a document takes, beside the strings of its key, its value and its member."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.servers import RedisProgram
from tests.sizes import sized
from writebehind import Pipeline, load_settings
from writebehind.documents.entry import BODY_AT
from writebehind.local.embedded import EmbeddedRedis
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.planning.allocation import Allocator, string
from writebehind.planning.memory import Names

DOCUMENTS, SIZES, COLLECTION, LOOKUP = 6_000, (200, 1_000, 3_000), "docs", "name"
#: Documents that are there before.
FIRST = 500
#: So few that each has many documents: those with few take less.
PARTITIONS = 4
ID = "{:024d}"
#: More than any number of them.
ENDLESS_S = 600.0


def programs() -> list[Callable[[Path], EmbeddedRedis]]:
    """The servers that are installed: they have allocators of different kinds."""
    path = shutil.which("redis-server")
    return [EmbeddedRedis, *([lambda directory: RedisProgram(directory, path)] if path else [])]


def measured() -> dict[Allocator, dict[str, Any]]:
    """Bytes beside the strings, by allocator."""
    found: dict[Allocator, dict[str, Any]] = {}
    for start in programs():
        with tempfile.TemporaryDirectory() as directory, start(Path(directory)) as server:
            kind, name = allocator_of(server), version(server)
        plain = [_beside(start, kind, size) for size in SIZES]
        more_pending, more_cached = _beside(start, kind, SIZES[0], lookup=True)
        found[kind] = {
            "server": name,
            "pending": round(statistics.mean(pending for pending, _ in plain), 1),
            "cached": round(statistics.mean(cached for _, cached in plain), 1),
            "lookup_pending": round(more_pending - plain[0][0], 1),
            "lookup_cached": round(more_cached - plain[0][1], 1),
        }
    return found


def allocator_of(server: EmbeddedRedis) -> Allocator:
    """The allocator of a server."""
    return redis.Redis.from_url(server.url).info("memory")["mem_allocator"].partition("-")[0]


def version(server: EmbeddedRedis) -> str:
    """The name and the version of a server."""
    facts = redis.Redis.from_url(server.url).info("server")
    name = facts.get("server_name", "redis").capitalize()
    return f"{name} {facts.get(f'{name.lower()}_version', facts['redis_version'])}"


def _beside(
    start: Callable[[Path], EmbeddedRedis], kind: Allocator, size: int, *, lookup: bool = False
) -> tuple[float, float]:
    with (
        tempfile.TemporaryDirectory() as directory,
        start(Path(directory)) as server,
        filled(server, size, DOCUMENTS, lookup=lookup) as (pipeline, each),
    ):
        pending = each()
        settle(pipeline)
        cached = each()
    names = Names.of(len(ID.format(0)), COLLECTION)
    strings = string(names.key, kind) + string(BODY_AT + size, kind)
    return pending - strings - string(names.member, kind), cached - strings


@contextmanager
def filled(
    server: EmbeddedRedis, size: int, documents: int, *, lookup: bool = False
) -> Iterator[tuple[Pipeline, Callable[[], float]]]:
    """A pipeline with so many pending documents of a size, and what tells the bytes that each takes now."""
    settings = load_settings(
        redis_url=server.url,
        mongodb_url="mongodb://127.0.0.1:9/",  # nobody
        partitions=PARTITIONS,
        collections={COLLECTION: {"lookup": {LOOKUP: "string"} if lookup else {}}},
    )
    with Pipeline(settings) as pipeline:
        collection = pipeline.collection(COLLECTION)
        for number in range(FIRST):
            collection.put(f"first-{number}", {})
        settle(pipeline)  # what there is once, such as scripts and their stack, is there now
        before = used(server)
        for number in range(documents):
            name = ID.format(number)
            collection.put(name, sized(name, size, **({LOOKUP: name} if lookup else {})))
        yield pipeline, lambda: (used(server) - before) / documents


def settle(pipeline: Pipeline) -> None:
    """Record all that is pending as if MongoDB had it."""
    pipeline.sink.write = lambda _, batch, **__: [Outcome(one, Result.PERSISTED) for one in batch]
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.drain(partition, budget_s=ENDLESS_S)


def used(server: EmbeddedRedis) -> int:
    """Bytes of data, without scripts, and buffers of connections and of the append-only file."""
    with redis.Redis.from_url(server.url) as client:
        while (facts := client.info("memory"))["lazyfree_pending_objects"]:
            time.sleep(0.05)
    others = ("mem_clients_normal", "mem_not_counted_for_evict", "used_memory_scripts")
    return int(facts["used_memory"] - sum(facts[name] for name in others))


if __name__ == "__main__":
    print(measured())
