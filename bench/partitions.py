"""What more partitions cost: the whole system with each number of them in turn, while it is idle and under load.

CPU time is that of all processes together, of which each share is told. A control is the same as the first. How
much it differs from 1 says how much the others may.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.load import DOCUMENT
from writebehind import Pipeline, load_settings
from writebehind.local.stack import Stack
from writebehind.operations.drain import drain

#: The last is the control.
NUMBERS = (16, 32, 64, 128, 256, 16)
#: Seconds that are measured, and writes a second to new documents.
SECONDS, RATES = 15, (20, 200)
#: Documents that are pending when they are drained.
DRAINED = 5_000
#: The smallest one counts of so many looks.
LOOKS = 15


@dataclass(frozen=True)
class Measured:
    """Figures of one number of partitions."""

    partitions: int
    figures: dict[str, float]


class System:
    """A system that runs, and how much its processes have done."""

    def __init__(self, stack: Stack, pipeline: Pipeline) -> None:
        """Look at a stack."""
        self._stack = stack
        self.pipeline = pipeline
        self.http = httpx.Client(base_url=stack.url)
        self._ids = itertools.count()

    def done(self) -> Counter[str]:
        """Commands that Redis has carried out, and ms of CPU by what runs, since the start."""
        found: Counter[str] = Counter()
        for name, pid in self._stack.pids().items():
            kind = name.partition(".")[0]
            if kind not in {"mongodb", "flower", "exporter"}:
                found[kind] += round(_cpu_ms(psutil.Process(pid)))
        (facts,) = self.pipeline.store.facts().values()
        found["commands"] = int(facts["total_commands_processed"])
        return found

    def write(self, rate: int) -> None:
        """Write new documents, so many a second."""
        began = time.monotonic()
        for at in range(rate * SECONDS):
            time.sleep(max(0.0, began + at / rate - time.monotonic()))
            answer = self.http.put(
                f"/v1/users/u{next(self._ids)}", content=DOCUMENT, headers={"Content-Type": "application/json"}
            )
            answer.raise_for_status()

    def settle(self) -> None:
        """Wait until nothing is pending."""
        while self.pipeline.status()["pending"]:
            time.sleep(0.1)


def main() -> None:
    """Print a table, and the ratios to the first number."""
    found = [measure(one) for one in NUMBERS]
    names = list(found[0].figures)
    print(f"\nOne system, {SECONDS} s idle and for each rate; the last column is the control")
    print(f"{'':36}" + "".join(f"{one.partitions:>10}" for one in found))
    for name in names:
        values = [one.figures[name] for one in found]
        print(f"{name:36}" + "".join(f"{one:10.2f}" for one in values))
        print(f"{'':36}" + "".join(f"{one / values[0]:10.2f}" if values[0] else f"{'':10}" for one in values))


def measure(partitions: int) -> Measured:
    """Figures of a system with so many partitions."""
    figures: dict[str, float] = {}
    environment = {
        "WRITEBEHIND_PARTITIONS": str(partitions),
        "WRITEBEHIND_COLLECTIONS": '{"users": {}, "late": {"flush_delay_ms": 60000}}',
    }
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory) / "data", env=environment) as stack:
        settings = load_settings(
            redis_url=stack.redis_url,
            mongodb_url=stack.mongodb_url,
            mongodb_database=stack.mongodb_database,
            partitions=partitions,
            collections={"users": {}, "late": {"flush_delay_ms": 60_000}},
        )
        with Pipeline(settings) as pipeline:
            system = System(stack, pipeline)
            system.write(20)  # until everything is warm
            system.settle()
            figures |= _between(system, "idle", SECONDS, lambda: time.sleep(SECONDS))
            for rate in RATES:
                figures |= _under_load(system, rate)
            figures |= _asked(system)
    return Measured(partitions, figures)


def _under_load(system: System, rate: int) -> Iterator[tuple[str, float]]:
    before = system.pipeline.status()["totals"]

    def write() -> None:
        system.write(rate)
        system.settle()

    yield from _between(system, f"{rate}/s", rate * SECONDS, write)
    after = system.pipeline.status()["totals"]
    batches = after["batches"] - before["batches"]
    yield f"{rate}/s: documents in a bulk write", (after["operations"] - before["operations"]) / batches


def _between(system: System, what: str, count: int, work: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """What each of so many seconds or documents costs, ms of CPU and commands of Redis."""
    before = system.done()
    work()
    after = system.done()
    each = "s" if what == "idle" else "document"
    used = {name: (after[name] - before[name]) / count for name in sorted(after)}
    commands = used.pop("commands")
    yield f"{what}: commands a {each}", commands
    yield f"{what}: ms of CPU a {each}", sum(used.values())
    for name, value in used.items():
        yield f"  {what}: of that {name}", value


def _asked(system: System) -> Iterator[tuple[str, float]]:
    """How long somebody waits who asks for the status, a sample, or draining, ms; and memory."""
    store = system.pipeline.store
    yield "status, ms", _least_ms(lambda: system.pipeline.status(partitions=True))
    yield "sample of each second, ms", _least_ms(store.load)
    yield "sweep, ms", _least_ms(system.pipeline.maintenance.sweep)
    late = system.pipeline.collection("late")
    (facts,) = store.facts().values()
    yield "memory of Redis, MiB", int(facts["used_memory"]) / 2**20
    for at in range(DRAINED):
        late.put(f"d{at}", {"n": at})
    began = time.monotonic()
    drain(system.pipeline, timeout_s=120)
    yield f"draining {DRAINED}, s", time.monotonic() - began


def _least_ms(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def _cpu_ms(process: psutil.Process) -> float:
    """The CPU time of a process and those below it, ms."""
    tasks = (
        task
        for one in [process, *process.children(recursive=True)]
        for task in Path(f"/proc/{one.pid}/task").iterdir()
    )
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


if __name__ == "__main__":
    main()
