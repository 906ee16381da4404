"""`python -m bench`: all benchmarks, one after the other."""

import time

from bench import (
    aio,
    chain,
    codec,
    connections,
    consistency,
    constants,
    http,
    keys,
    many,
    partitions,
    queries,
    reconcile,
    spread,
    tallies,
    tasks,
    tracing,
    trickle,
    warm,
    watching,
)

BENCHMARKS = (
    codec,
    chain,
    constants,
    tallies,
    watching,
    aio,
    connections,
    queries,
    tasks,
    http,
    keys,
    many,
    partitions,
    reconcile,
    spread,
    consistency,
    tracing,
    trickle,
    warm,
)

began = time.monotonic()
print(f"{len(BENCHMARKS)} benchmarks, about 42 minutes on two cores that do nothing else")
for number, benchmark in enumerate(BENCHMARKS, 1):
    print(
        f"\n--- {number} of {len(BENCHMARKS)}, {benchmark.__name__}, after {time.monotonic() - began:.0f} s",
        flush=True,
    )
    benchmark.main()
print(f"\n--- done after {time.monotonic() - began:.0f} s")
