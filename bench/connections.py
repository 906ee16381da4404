"""CPU time of one command to Redis: redis-py's client, its bare connection, and the pipeline's own `Wire`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import redis

from tests.sizes import LIMIT
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire

CALLS, ROUNDS = 1000, 5
SIZES = (10, 300, 4_095, 4_096, 65_536, 100_000, LIMIT)
#: Bytes of a round, so that large values take no longer than many small ones.
MOST_BYTES = 100_000_000


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """CPU time of one call, the best of several rounds of so many."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - start) / calls * 1e6)
    return best


def main() -> None:
    """Measure a SET and a GET of several sizes, each way."""
    print(f"\nOne round trip to Redis, µs of CPU in the client, best of {ROUNDS} rounds of up to {CALLS}")
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(directory) as server:
        client = redis.Redis.from_url(server.url)
        wire = Wire(connection_pool(server.url, 2000))
        for size in SIZES:
            for name, call in _ways(client, wire, b"x" * size).items():
                print(f"  {size:7} bytes, {name:30} {microseconds(call, min(CALLS, MOST_BYTES // size)):6.1f}")
        client.close()
        wire.close()


def _ways(client: redis.Redis, wire: Wire, value: bytes) -> dict[str, Callable[[], object]]:
    return {
        "SET, redis-py": lambda: client.set("key", value),
        "SET, Wire": lambda: wire.call("SET", "key", value),
        "GET, redis-py": lambda: client.get("key"),
        "GET, Wire": lambda: wire.call("GET", "key"),
        "GET + PTTL, redis-py pipeline": lambda: (
            client.pipeline(transaction=False).get("key").pttl("key").execute()
        ),
        "GET + PTTL, Wire": lambda: wire.calls((("GET", "key"), ("PTTL", "key"))),
    }


if __name__ == "__main__":
    main()
