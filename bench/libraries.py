"""A cached hit and a put by the library next to caching libraries and to redis-py itself: CPU time of the process.

Each fetches and stores the same documents, one call after the other, in turn. The floor fetches and stores bytes
that are there already; who stores documents encodes them as it does by default. A put here is also a write that
MongoDB will get; there it is one to the cache alone. `make peers` installs the other libraries.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
from flask import Flask
from redis import Redis

from bench.load import DOCUMENT
from bench.rows import Row, command
from writebehind import connect, load_settings
from writebehind.documents import codec
from writebehind.local.embedded import EmbeddedRedis

try:
    from aiocache import Cache as AioCache
    from aiocache.serializers import PickleSerializer
    from cashews import Cache as Cashews
    from dogpile.cache import make_region
    from flask_caching import Cache as FlaskCache
except ImportError as error:
    raise SystemExit(f"{error}: `make peers` installs what this one is held against") from error

ROUNDS, CALLS, IDS = 15, 300, 2_000
STORED = codec.loads(DOCUMENT)
NAMES = [f"user-{number}" for number in range(IDS)]

#: Calls for each of some ids.
Calls = Callable[[Sequence[str]], None]


@dataclass
class Contender:
    """A library, and the CPU time of its calls, µs, in rounds."""

    name: str
    hit: Calls
    put: Calls
    hits: list[float] = field(default_factory=list)
    puts: list[float] = field(default_factory=list)

    def measure(self, turn: int) -> None:
        """Put some documents, and fetch them."""
        first = turn * CALLS % (IDS - CALLS)
        ids = NAMES[first : first + CALLS]
        for calls, taken in ((self.put, self.puts), (self.hit, self.hits)):
            began = time.process_time()
            calls(ids)
            taken.append((time.process_time() - began) / CALLS * 1e6)


def main() -> list[Row]:
    """Take turns, and print a table; the first is what the others are held against."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(EmbeddedRedis(Path(directory)))
        those = [*_floors(server.url), _ours(server.url, stack), *_theirs(server, stack)]
        for one in those:
            one.put(NAMES)
            one.measure(0)
            one.hits.clear()
            one.puts.clear()
        for turn in range(ROUNDS):
            first = turn % len(those)
            for one in [*those[first:], *those[:first]]:
                one.measure(turn)
    print(f"\n{len(DOCUMENT)} bytes, µs of CPU for a call, median of {ROUNDS} rounds of {CALLS} calls")
    print(f"  {'':34} {'hit':>7} {'ratio':>6}   {'put':>7} {'ratio':>6}")
    return [row for one in those for row in _told(one, those[0])]


def _told(one: Contender, floor: Contender) -> Iterator[Row]:
    """Print a line, and yield what stands in it."""
    line = f"  {one.name:34}"
    for what, taken, least in (("hit", one.hits, floor.hits), ("put", one.puts, floor.puts)):
        cost, ratio = statistics.median(taken), statistics.median(a / b for a, b in zip(taken, least, strict=True))
        yield Row(what, one.name, "CPU per call", "µs", cost)
        yield Row(what, one.name, "CPU per call, of the floor's", "ratio", ratio)
        line += f" {cost:7.1f} {ratio:6.2f}  "
    print(line.rstrip())


def _each(call: Callable[[str], object]) -> Calls:
    def calls(ids: Sequence[str]) -> None:
        for one in ids:
            call(one)

    return calls


def _awaiting(runner: asyncio.Runner, call: Callable[[str], Awaitable[object]]) -> Calls:
    async def calls(ids: Sequence[str]) -> None:
        for one in ids:
            await call(one)

    return lambda ids: runner.run(calls(ids))


def _floors(url: str) -> list[Contender]:
    client = Redis.from_url(url)
    body = bson.encode(STORED)
    return [
        Contender(
            "redis-py, bytes",
            _each(lambda name: client.get(f"floor:{name}")),
            _each(lambda name: client.set(f"floor:{name}", body)),
        ),
        Contender(
            "redis-py, BSON",
            _each(lambda name: bson.decode(client.get(f"bson:{name}"))),
            _each(lambda name: client.set(f"bson:{name}", bson.encode(STORED))),
        ),
    ]


def _ours(url: str, stack: ExitStack) -> Contender:
    pipeline = stack.enter_context(connect(load_settings(redis_url=url, allow_unlisted=True)))
    docs = pipeline.collection("docs")
    return Contender("writebehind", _each(docs.get), _each(lambda name: docs.put(name, STORED)))


def _theirs(server: EmbeddedRedis, stack: ExitStack) -> list[Contender]:
    region = make_region().configure("dogpile.cache.redis", arguments={"url": server.url})
    app = Flask("peer")
    caching = FlaskCache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url})
    stack.enter_context(app.app_context())
    runner = stack.enter_context(asyncio.Runner())
    cashews = Cashews()
    cashews.setup(server.url)
    stack.callback(lambda: runner.run(cashews.close()))
    aio = AioCache(AioCache.REDIS, endpoint="127.0.0.1", port=server.port, serializer=PickleSerializer())
    stack.callback(lambda: runner.run(aio.close()))
    stored: dict[str, Any] = STORED
    return [
        Contender("dogpile.cache", _each(region.get), _each(lambda name: region.set(name, stored))),
        Contender("Flask-Caching", _each(caching.get), _each(lambda name: caching.set(name, stored))),
        Contender(
            "cashews, asyncio",
            _awaiting(runner, lambda name: cashews.get(f"cashews:{name}")),
            _awaiting(runner, lambda name: cashews.set(f"cashews:{name}", stored)),
        ),
        Contender(
            "aiocache, asyncio",
            _awaiting(runner, lambda name: aio.get(f"aio:{name}")),
            _awaiting(runner, lambda name: aio.set(f"aio:{name}", stored)),
        ),
    ]


if __name__ == "__main__":
    command("libraries", main, __doc__)
