"""`python -m bench [--json FILE]`: all benchmarks, one after the other."""

import time

from bench import (
    aio,
    chain,
    codec,
    commits,
    connections,
    consistency,
    constants,
    drain,
    http,
    keys,
    layouts,
    libraries,
    many,
    partitions,
    peers,
    queries,
    reconcile,
    scale,
    spread,
    tallies,
    tasks,
    tracing,
    trickle,
    warm,
    watching,
)
from bench.rows import Row, measured, parser, write

BENCHMARKS = (
    codec,
    commits,
    chain,
    constants,
    drain,
    tallies,
    watching,
    aio,
    connections,
    queries,
    tasks,
    http,
    peers,
    libraries,
    keys,
    many,
    partitions,
    layouts,
    scale,
    reconcile,
    spread,
    consistency,
    tracing,
    trickle,
    warm,
)

file = parser(__doc__).parse_args().json
rows: list[Row] = []
began = time.monotonic()
print(f"{len(BENCHMARKS)} benchmarks, about 53 minutes on two cores that do nothing else")
for number, benchmark in enumerate(BENCHMARKS, 1):
    print(
        f"\n--- {number} of {len(BENCHMARKS)}, {benchmark.__name__}, after {time.monotonic() - began:.0f} s",
        flush=True,
    )
    rows += measured(benchmark.__name__.removeprefix("bench."), benchmark.main)
    if file:
        write(rows, file)  # after each, so that what one of the last ends is not lost
print(f"\n--- done after {time.monotonic() - began:.0f} s")
