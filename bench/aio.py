"""The library for asyncio, which runs calls in threads, next to redis.asyncio and to threads around redis-py.

One process, one event loop, some tasks that each have one call in flight. The floor fetches and stores bare BSON.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import redis
import redis.asyncio

from bench.load import DOCUMENT
from writebehind import aconnect, load_settings
from writebehind.documents import codec
from writebehind.local.embedded import EmbeddedRedis

ROUNDS, SECONDS = 5, 0.5
TASKS = (1, 16, 100)
THREADS = (4, 8, 16, 32)
IDS = 2_000
STORED = codec.loads(DOCUMENT)

Call = Callable[[str], Awaitable[Any]]


@dataclass
class Contender:
    """One way to fetch and to store, and what was measured of it in rounds."""

    name: str
    get: Call
    put: Call
    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    async def measure(self, call: Call, tasks: int) -> None:
        """Have so many tasks call for a while."""
        ids = [str(n) for n in range(IDS)]
        done, ends = 0, time.perf_counter() + SECONDS

        async def work(at: int) -> None:
            nonlocal done
            while time.perf_counter() < ends:
                await call(ids[at % IDS])
                at += 7919
                done += 1

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(at) for at in range(tasks)))
        self.rates.append(done / (time.perf_counter() - began))
        self.microseconds.append((time.process_time() - cpu) / done * 1e6)


async def contenders(url: str, stack: AsyncExitStack) -> list[Contender]:
    """All of them, connected to one Redis."""
    native = await stack.enter_async_context(redis.asyncio.Redis.from_url(url, max_connections=200))
    sync = stack.enter_context(redis.Redis.from_url(url))
    pool = stack.enter_context(ThreadPoolExecutor(16))
    loop = asyncio.get_running_loop()

    async def native_get(name: str) -> object:
        return bson.decode(await native.get(f"bare:{name}"))

    async def native_put(name: str) -> object:
        return await native.set(f"bare:{name}", bson.encode(STORED))

    def sync_get(name: str) -> object:
        return bson.decode(sync.get(f"bare:{name}"))

    def sync_put(name: str) -> object:
        return sync.set(f"bare:{name}", bson.encode(STORED))

    found = [
        Contender("redis.asyncio, the floor", native_get, native_put),
        Contender(
            "redis-py in 16 threads",
            lambda name: loop.run_in_executor(pool, sync_get, name),
            lambda name: loop.run_in_executor(pool, sync_put, name),
        ),
    ]
    settings = load_settings(redis_url=url, allow_unlisted=True)
    for threads in THREADS:
        pipeline = await stack.enter_async_context(aconnect(settings, threads=threads))
        users = pipeline.collection("users")
        found.append(
            Contender(f"aconnect, {threads} threads", users.get, lambda name, to=users: to.put(name, STORED))
        )
    users = pipeline.collection("users").sync

    async def here_get(name: str) -> object:
        return users.get(name)

    async def here_put(name: str) -> object:
        return users.put(name, STORED)

    return [*found, Contender("the library, blocking the loop", here_get, here_put)]


async def compare(url: str) -> None:
    """Measure all in turn, and print a table for each kind of call and number of tasks."""
    async with AsyncExitStack() as stack:
        those = await contenders(url, stack)
        for one in those:
            for n in range(IDS):
                await one.put(str(n))
        for what in ("get", "put"):
            for tasks in TASKS:
                for one in those:
                    one.rates.clear()
                    one.microseconds.clear()
                for turn in range(ROUNDS):
                    first = turn % len(those)
                    for one in [*those[first:], *those[:first]]:
                        await one.measure(getattr(one, what), tasks)
                _print(f"{what}, {len(DOCUMENT)} bytes, {tasks} tasks", those)


def _print(what: str, those: list[Contender]) -> None:
    rate, cpu = (statistics.median(one) for one in (those[0].rates, those[0].microseconds))
    print(f"\n{what}, median of {ROUNDS} rounds of {SECONDS:g} s")
    print(f"  {'':34} {'calls/s':>10} {'ratio':>6}   {'µs CPU':>7} {'ratio':>6}")
    for one in those:
        own, used = statistics.median(one.rates), statistics.median(one.microseconds)
        print(f"  {one.name:34} {own:10.0f} {own / rate:6.2f}   {used:7.0f} {used / cpu:6.2f}")


def main() -> None:
    """Compare them on a Redis of their own."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as server:
        asyncio.run(compare(server.url))


if __name__ == "__main__":
    main()
