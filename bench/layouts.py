"""Bytes of Redis for a document beyond its body, as entries and members are laid out now, and as they might be.

`python -m bench.layouts`, with Valkey, and where it is installed `redis-server`, which has another allocator.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.memory import allocator_of, programs, used, version
from tests.waiting import wait_until

DOCUMENTS, PARTITIONS, BODY, DIGITS, TTL_S = 200_000, 16, 500, 10, 86_400
#: Header of an entry now; and with version and ETag as bytes, and no digits.
TEXT, BYTES = 16 + 1 + 32, 8 + 1 + 16


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to keep documents.

    Attributes:
        key: of an entry, by partition and id.
        member: of what is pending, by id.
        header: bytes before the body.
    """

    name: str
    key: Callable[[int, str], str]
    member: Callable[[str], str]
    header: int


LAYOUTS = (
    Layout("as it is", "wb:{{{}}}:entry:docs/s:{}".format, "docs/s:{}".format, TEXT),
    Layout("version and ETag as bytes", "wb:{{{}}}:entry:docs/s:{}".format, "docs/s:{}".format, BYTES),
    Layout("short names of keys", "w{{{}}}docs/s:{}".format, "docs/s:{}".format, TEXT),
    Layout("both", "w{{{}}}docs/s:{}".format, "docs/s:{}".format, BYTES),
    Layout("both, collections by number", "w{{{}}}1s:{}".format, "1s:{}".format, BYTES),
    Layout("an id and a body alone", "{0}{1}".format, "{}".format, 0),
)


def main() -> None:
    """Print a table for each server."""
    for start in programs():
        with tempfile.TemporaryDirectory() as directory, start(Path(directory)) as server:
            client = redis.Redis.from_url(server.url)
            client.config_set("appendonly", "no")
            print(f"\nBytes beyond a body of {BODY}, {version(server)} with {allocator_of(server)}")
            print(f"  {'':<30}{'pending':>9}{'clean':>9}")
            for layout in LAYOUTS:
                client.flushall()
                before = used(server)
                _fill(client, layout)
                pending = (used(server) - before) / DOCUMENTS - BODY
                _settle(client, layout)
                clean = (used(server) - before) / DOCUMENTS - BODY
                print(f"  {layout.name:<30}{pending:>9.0f}{clean:>9.0f}", flush=True)


def _fill(client: redis.Redis, layout: Layout) -> None:
    for at in range(0, DOCUMENTS, 1_000):
        with client.pipeline(transaction=False) as many:
            for number in range(at, at + 1_000):
                name, partition = _name(number), number % PARTITIONS
                many.set(layout.key(partition, name), b"x" * (layout.header + BODY))
                many.zadd(f"wb:{{{partition}}}:pending", {layout.member(name): 1_800_000_000_000 + number})
            many.execute()
    _wait(client)


def _settle(client: redis.Redis, layout: Layout) -> None:
    for at in range(0, DOCUMENTS, 1_000):
        with client.pipeline(transaction=False) as many:
            for number in range(at, at + 1_000):
                many.expire(layout.key(number % PARTITIONS, _name(number)), TTL_S)
            many.execute()
    client.delete(*(f"wb:{{{partition}}}:pending" for partition in range(PARTITIONS)))
    _wait(client)


def _name(number: int) -> str:
    return f"d{number * 7_368_787 % 10**DIGITS:0{DIGITS}d}"


def _wait(client: redis.Redis) -> None:
    """Wait until tables are of the size that they should be of, where the server tells."""

    def is_done() -> bool:
        facts: Any = client.info("memory")
        return not facts.get("mem_overhead_db_hashtable_rehashing")

    wait_until(is_done, "Redis's tables are of their size", 60)


if __name__ == "__main__":
    main()
