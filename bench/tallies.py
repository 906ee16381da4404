"""CPU time of counting, against prometheus_client's mode for several processes; and of the page, by its series."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from writebehind.monitoring.counted import counted
from writebehind.tallies import families
from writebehind.tallies.meters import Meter
from writebehind.tallies.tallies import Tallies

_BATCHES, _CALLS = 15, 20_000
_LABELS = ("GET", "/v1/<collection>/<id>", "200")
#: prometheus_client decides when it is imported how it counts.
_PEER = """
import sys
from prometheus_client import Counter, Histogram
from bench.tallies import cheapest
from writebehind.tallies import families

histogram = Histogram("h", "h", ["a", "b", "c"], buckets=families.LATENCIES)
counter = Counter("c", "c", ["a", "b"])
child = histogram.labels("GET", "route", "200")
print(cheapest(lambda: histogram.labels("GET", "route", "200").observe(0.0007)))
print(cheapest(lambda: child.observe(0.0007)))
print(cheapest(lambda: counter.labels("users", "hit").inc()))
"""


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as directory:
        observed, kept, added = _peer(directory)
        tallies = Tallies(Path(directory) / "tallies")
        print(f"{'counting, µs of CPU':<44}{'tallies':>10}{'peer':>10}{'ratio':>8}")
        observe = cheapest(lambda: tallies.observe(families.REQUESTS, _LABELS, 0.0007))
        _print("a value of a histogram", observe, observed)
        meter = Meter(tallies, families.REQUESTS, _LABELS)
        _print("the same, where the series is kept", cheapest(lambda: meter.observe(0.0007)), kept)
        _print("a counter", cheapest(lambda: tallies.add(families.READS, ("users", "hit"))), added)
        print(f"\n{'the page, ms of CPU':<44}{'reading':>10}{'all':>10}")
        for collections in (1, 10, 100):
            _print_page(Path(directory) / f"page{collections}", collections)


def cheapest(call: Callable[[], object]) -> float:
    """The CPU time of a call in the cheapest of some batches, µs."""
    best = float("inf")
    for _ in range(_BATCHES):
        began = time.process_time()
        for _ in range(_CALLS):
            call()
        best = min(best, time.process_time() - began)
    return best / _CALLS * 1e6


def _peer(directory: str) -> list[float]:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": directory}
    done = subprocess.run(
        [sys.executable, "-c", _PEER], env=environment, check=True, capture_output=True, text=True
    )
    return [float(line) for line in done.stdout.split()]


def _print(name: str, ours: float, peer: float) -> None:
    print(f"{name:<44}{ours:>10.2f}{peer:>10.2f}{ours / peer:>8.2f}")


class _Counted(Collector):
    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def collect(self):
        return counted(self._tallies.read())


def _print_page(directory: Path, collections: int) -> None:
    """The page of a host with eight processes that have counted all kinds of reads and writes."""
    made = [Tallies(directory) for _ in range(8)]
    for tallies in made:
        for number in range(collections):
            name = f"collection{number}"
            for source in ("hit", "stale", "miss", "collapsed"):
                tallies.observe(families.READ_TIMES, (name, source), 0.001)
                tallies.add(families.READS, (name, source))
            for family in (families.LOADS, families.BATCH_TIMES, families.BATCH_SIZES):
                tallies.observe(family, (name,), 1)
            tallies.add(families.WRITES, (name,))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counted(made[0]))
    page = generate_latest(registry)
    reading, whole = _milliseconds(made[0].read), _milliseconds(lambda: generate_latest(registry))
    print(f"{f'{collections} collections, {len(page) >> 10} KiB':<44}{reading:>10.1f}{whole:>10.1f}")


def _milliseconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(10):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best * 1e3


if __name__ == "__main__":
    main()
