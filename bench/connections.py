"""CPU time of one command to Redis: redis-py's client, its bare connection, and the pipeline's own `Wire`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import redis

from writebehind.connections import Wire, connection_pool
from writebehind.embedded import EmbeddedRedis

CALLS, ROUNDS = 3000, 5


def microseconds(call: Callable[[], object]) -> float:
    """CPU time of one call, the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, (time.process_time() - start) / CALLS * 1e6)
    return best


def main() -> None:
    """Measure a SET of 300 bytes and a GET, each way."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(directory) as server:
        client = redis.Redis.from_url(server.url)
        wire = Wire(connection_pool(server.url, 2000))
        value = b"x" * 300
        rows = {
            "SET, redis-py": microseconds(lambda: client.set("key", value)),
            "SET, Wire": microseconds(lambda: wire.call("SET", "key", value)),
            "GET, redis-py": microseconds(lambda: client.get("key")),
            "GET, Wire": microseconds(lambda: wire.call("GET", "key")),
            "GET + PTTL, redis-py pipeline": microseconds(
                lambda: client.pipeline(transaction=False).get("key").pttl("key").execute()
            ),
            "GET + PTTL, Wire": microseconds(lambda: wire.calls((("GET", "key"), ("PTTL", "key")))),
        }
        client.close()
        wire.close()
    print(f"\nOne round trip to Redis, µs of CPU in the client, best of {ROUNDS} rounds of {CALLS}")
    for name, value_us in rows.items():
        print(f"  {name:30} {value_us:6.1f}")


if __name__ == "__main__":
    main()
