"""What a request and a document cost over several Redis servers and workers, each system in turn in one run.

CPU time of the web process, of all Redis servers and of all workers, less what they take at rest. The last is the
control: it is the first once more, and how much it differs from 1 says how much the others may.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.constants import cpu_s, drain, pipeline_of, servers_of, worker
from bench.http import OURS, serving
from bench.load import DOCUMENT
from bench.steady import Steady
from tests.topologies import NamedServers
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port

#: Redis servers and workers of each system.
SYSTEMS = ((1, 1), (2, 1), (3, 1), (1, 2), (1, 4), (3, 4), (1, 1))
#: PUTs a second, seconds under load and at rest, and rounds of both.
RATE, SECONDS, RESTS_S, ROUNDS = 400, 8, 4, 3
PARTS = ("web", "Redis", "workers")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of each PUT with the flush of its document, µs, by what takes it; and at rest, ‰ of a core."""

    put: tuple[float, ...]
    rest: tuple[float, ...]
    #: Documents of a bulk write, and flush tasks of a document.
    batch: float


def main() -> None:
    """Print a table, and the ratios to the first system."""
    found = [measure(*one) for one in SYSTEMS]
    print(
        f"\n{RATE} PUTs of {len(DOCUMENT)} bytes a second, {ROUNDS} rounds of {SECONDS} s; the last is the control"
    )
    print(
        f"{'Redis servers, workers':36}" + "".join(f"{f'{servers}, {workers}':>9}" for servers, workers in SYSTEMS)
    )
    rows = [(name, [one.put[at] for one in found]) for at, name in enumerate(PARTS)]
    rows.append(("all", [sum(one.put) for one in found]))
    for name, values in rows:
        print(f"{f'a PUT and its flush, {name}, µs':36}" + "".join(f"{one:9.1f}" for one in values))
        print(f"{'':36}" + "".join(f"{one / values[0]:9.3f}" for one in values))
    print(f"{'documents of a bulk write':36}" + "".join(f"{one.batch:9.2f}" for one in found))
    for at, name in enumerate(PARTS):
        print(f"{f'at rest, {name}, ‰ of a core':36}" + "".join(f"{one.rest[at]:9.1f}" for one in found))


def measure(servers: int, workers: int) -> Cost:
    """Costs in a system of so many Redis servers and workers."""
    ids = itertools.count()
    head = "PUT /v1/users/user-%d HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(DOCUMENT)}\r\n\r\n"

    def put() -> bytes:
        return (head % next(ids)).encode() + DOCUMENT

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedRedis(directory / "broker"))
        redis = stack.enter_context(NamedServers(directory, [f"s{at}" for at in range(servers)]))
        mongo = stack.enter_context(EmbeddedMongo(directory / "mongo"))
        urls = {"REDIS_URL": redis.url, "BROKER_URL": broker.url}
        environment = servers_of(broker, mongo, directory, {"users": {}}, **urls)
        pipeline = stack.enter_context(pipeline_of(environment))
        port = free_port()
        name, command, target = OURS
        web = stack.enter_context(serving(name, command(target, port), port, environment))
        processes = (
            [web.process],
            [psutil.Process(one.pid) for one in redis.servers.values()],
            [stack.enter_context(worker(environment)) for _ in range(workers)],
        )

        def under_load(seconds: float) -> int:
            with Steady(port, RATE, put) as steady:
                time.sleep(seconds)
            while pipeline.status()["pending"]:
                time.sleep(0.1)
            return steady.answers[b"200"] + steady.answers[b"201"]

        under_load(3)  # connections, scripts and workers are warm after it
        drain(pipeline)
        rest, used, count, loaded_s = [0.0] * 3, [0.0] * 3, 0, 0.0
        totals = pipeline.status()["totals"]
        for _ in range(ROUNDS):
            before = _cpu(processes)
            time.sleep(RESTS_S)
            rested = _cpu(processes)
            began = time.monotonic()
            count += under_load(SECONDS)
            loaded_s += time.monotonic() - began
            for at, (start, middle, end) in enumerate(zip(before, rested, _cpu(processes), strict=True)):
                rest[at] += (middle - start) / (RESTS_S * ROUNDS)
                used[at] += end - middle
        after = pipeline.status()["totals"]
    each = tuple((one - idle * loaded_s) / count * 1e6 for one, idle in zip(used, rest, strict=True))
    return Cost(each, tuple(one * 1000 for one in rest), count / (after["batches"] - totals["batches"]))


def _cpu(processes: Sequence[Sequence[psutil.Process]]) -> list[float]:
    return [cpu_s(*some) for some in processes]


if __name__ == "__main__":
    main()
