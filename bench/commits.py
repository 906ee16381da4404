"""CPU time of Redis for a commit, next to a SET and a ZADD as commands, and to a script that does these two alone.

A commit also issues a version that is above all others, looks for a deletion and a dead letter of the document,
takes the right to load from readers, counts, and asks for a flush, in one script: all of it happens, or nothing.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.load import DOCUMENT
from bench.rows import Row, command
from writebehind import Pipeline, connect, load_settings
from writebehind.documents import codec, raw_bson
from writebehind.documents.entry import Entry, Kind
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.commits import CommitRequest
from writebehind.redis.info import parse_info
from writebehind.redis.wire import Wire

ROUNDS, WRITES, AT_ONCE, IDS = 15, 3_000, 50, 20_000
TOGETHER = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])"
BODY = codec.encode(codec.loads(DOCUMENT))
ENTRY = Entry(0, Kind.DOCUMENT, raw_bson.etag(BODY), BODY)

#: Writes some documents, by their members.
Writes = Callable[[Sequence[str]], object]


def main() -> list[Row]:
    """Take turns, and print a table; the two commands are what the others are held against."""
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedRedis(Path(directory)) as server,
        connect(load_settings(redis_url=server.url, allow_unlisted=True)) as pipeline,
    ):
        wire = pipeline._wire
        contenders = {
            "SET and ZADD": _commands(wire),
            "a script of both": _script(wire),
            "commit": _commits(pipeline),
        }
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        members = [f"docs/s:user-{number}" for number in range(IDS)]
        for writes in contenders.values():
            writes(members)
        for _ in range(ROUNDS):
            some = random.sample(members, WRITES)
            for name, writes in contenders.items():
                began = _cpu_s(wire)
                for at in range(0, WRITES, AT_ONCE):
                    writes(some[at : at + AT_ONCE])
                taken[name].append((_cpu_s(wire) - began) / WRITES * 1e6)
    print(f"\n{len(BODY)} bytes, {AT_ONCE} at once: µs of Redis's CPU for a write, median of {ROUNDS} rounds")
    floor, rows = taken["SET and ZADD"], []
    for name, of_one in taken.items():
        ratio = statistics.median(one / least for one, least in zip(of_one, floor, strict=True))
        print(f"  {name:<20}{statistics.median(of_one):>7.1f}{ratio:>7.2f}")
        rows.append(Row("a write in Redis", name, "CPU", "of a SET and a ZADD", ratio))
    return rows


def _cpu_s(wire: Wire) -> float:
    facts = parse_info(wire.call("INFO", "cpu"))
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


def _commands(wire: Wire) -> Writes:
    def write(some: Sequence[str]) -> object:
        sent: list[tuple[Any, ...]] = []
        for number, member in enumerate(some):
            sent += [("SET", f"floor:{member}", ENTRY.payload), ("ZADD", "floor", 1.8e12 + number, member)]
        return wire.calls(sent)

    return write


def _script(wire: Wire) -> Writes:
    sha1 = wire.call("SCRIPT", "LOAD", TOGETHER)

    def write(some: Sequence[str]) -> object:
        return wire.calls(
            [
                ("EVALSHA", sha1, 2, f"both:{member}", "both", ENTRY.payload, 1.8e12 + number, member)
                for number, member in enumerate(some)
            ]
        )

    return write


def _commits(pipeline: Pipeline) -> Writes:
    def write(some: Sequence[str]) -> object:
        requests = [CommitRequest(member, ENTRY.payload, 1_000, cap=10 * IDS) for member in some]
        return pipeline.store.commit_many(requests)

    return write


if __name__ == "__main__":
    command("commits", main, __doc__)
