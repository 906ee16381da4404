"""What the near cache gives, CPU time of a read, and what it costs: how long the old state is read."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from bench.connections import microseconds
from tests.sizes import LIMIT, sized
from tests.waiting import wait_until
from writebehind import Pipeline, load_settings
from writebehind.local.embedded import EmbeddedRedis
from writebehind.reading.read import Source

WRITES = 2_000
SIZES = (64, 1_000, 4_095, 4_096, 65_536, 100_000, LIMIT)


def main() -> None:
    """Read one document of several sizes each way; then write it in one pipeline and look when another sees it."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as server:
        settings = load_settings(redis_url=server.url, collections={"near": {"near_cache": True}, "far": {}})
        with Pipeline(settings) as here, Pipeline(settings) as there:
            near, far, theirs = here.collection("near"), here.collection("far"), there.collection("near")
            print("\nReading one document, µs of CPU in the process, best of several rounds")
            for size in SIZES:
                for one in (near, far):
                    one.put("ada", sized("ada", size))
                wait_until(lambda: near.read("ada").source is Source.NEAR, "the near cache")
                far_us = microseconds(lambda: far.read("ada"))
                near_us = microseconds(lambda: near.read("ada"))
                print(f"  {size:7} bytes, from Redis            {far_us:6.1f}  1.00")
                print(f"  {size:7} bytes, from the near cache   {near_us:6.1f}  {near_us / far_us:.2f}")

            lags = []
            for n in range(WRITES):
                version = theirs.put("ada", {"n": n}).version
                began = time.perf_counter()
                while near.read("ada").entry.version < version:
                    pass
                lags.append((time.perf_counter() - began) * 1e6)
            lags.sort()
            p99 = lags[WRITES * 99 // 100]
            print(f"\nFor how long the old state was read after another's write, µs, of {WRITES} writes")
            print(f"  median {statistics.median(lags):.0f}, p99 {p99:.0f}, most {lags[-1]:.0f}")


if __name__ == "__main__":
    main()
