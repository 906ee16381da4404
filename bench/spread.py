"""What a request and a document cost over several Redis servers and workers, each system in turn in one run.

CPU time of the web process, of all Redis servers and of all workers, less what they take at rest. The last is the
control: it is the first once more, and how much it differs from 1 says how much the others may.

Under the same load more workers have smaller batches, as each flush task begins in time: a single one is late, and
finds more. The same work is a backlog: documents that are written while flushing is paused, and flushed at once.
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

from bench.constants import cpu_s, drain, publishing, servers_of, worker
from bench.http import OURS, serving
from bench.load import DOCUMENT
from bench.steady import Steady
from tests.topologies import NamedServers
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents import codec
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port
from writebehind.operations.pausing import pause, resume

#: Redis servers and workers of each system.
SYSTEMS = ((1, 1), (2, 1), (3, 1), (1, 2), (1, 4), (3, 4), (1, 1))
#: PUTs a second, seconds under load and at rest, and rounds of both.
RATE, SECONDS, RESTS_S, ROUNDS = 400, 8, 4, 3
#: Documents of a backlog: some dozens in each partition.
BACKLOG = 3_000
PARTS = ("web", "Redis", "workers")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU by what takes it: of a PUT and its flush, and of a document of a backlog, µs; at rest, ‰ of a core.

    `batch` and `backlog_batch` are the documents of a bulk write under load, and of a backlog.
    """

    put: tuple[float, ...]
    rest: tuple[float, ...]
    batch: float
    backlog: tuple[float, ...]
    backlog_batch: float


def main() -> None:
    """Print a table, and the ratios to the first system."""
    found = [measure(*one) for one in SYSTEMS]
    print(
        f"\n{RATE} PUTs of {len(DOCUMENT)} bytes a second, {ROUNDS} rounds of {SECONDS} s; the last is the control"
    )
    print(
        f"{'Redis servers, workers':36}" + "".join(f"{f'{servers}, {workers}':>9}" for servers, workers in SYSTEMS)
    )
    _print("a PUT and its flush", [one.put for one in found], PARTS)
    print(f"{'documents of a bulk write':36}" + "".join(f"{one.batch:9.2f}" for one in found))
    _print(f"a flush, of {BACKLOG} at once", [one.backlog for one in found], PARTS[1:])
    print(f"{'documents of a bulk write':36}" + "".join(f"{one.backlog_batch:9.2f}" for one in found))
    for at, name in enumerate(PARTS):
        print(f"{f'at rest, {name}, ‰ of a core':36}" + "".join(f"{one.rest[at]:9.1f}" for one in found))


def _print(what: str, costs: Sequence[Sequence[float]], parts: Sequence[str]) -> None:
    """Print costs by part, and all together, each with its ratio to the first system."""
    rows = [(name, [one[at] for one in costs]) for at, name in enumerate(parts)]
    for name, values in [*rows, ("all", [sum(one) for one in costs])]:
        print(f"{f'{what}, {name}, µs':36}" + "".join(f"{one:9.1f}" for one in values))
        print(f"{'':36}" + "".join(f"{one / values[0]:9.3f}" for one in values))


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
        pipeline = stack.enter_context(publishing(environment))
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
            wait_until(lambda: not pipeline.status()["pending"], "all to be in MongoDB", 120, 0.1)
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
        backlog, backlog_batch = _backlog(pipeline, processes[1:], rest[1:])
    each = tuple((one - idle * loaded_s) / count * 1e6 for one, idle in zip(used, rest, strict=True))
    batch = count / (after["batches"] - totals["batches"])
    return Cost(each, tuple(one * 1000 for one in rest), batch, backlog, backlog_batch)


def _backlog(
    pipeline: Pipeline, processes: Sequence[Sequence[psutil.Process]], rest: Sequence[float]
) -> tuple[tuple[float, ...], float]:
    """CPU of each document of a backlog, less what is taken at rest, µs; and the documents of a bulk write."""
    document, users = codec.loads(DOCUMENT), pipeline.collection("users")
    pause(pipeline)
    time.sleep(2)  # each process knows it by then
    for number in range(BACKLOG):
        users.put(f"backlog-{number}", document)
    before, began = pipeline.status()["totals"]["batches"], time.monotonic()
    used = _cpu(processes)
    resume(pipeline)
    wait_until(lambda: not pipeline.status()["pending"], "all to be in MongoDB", 120, 0.1)
    took_s = time.monotonic() - began
    each = tuple(
        (end - start - idle * took_s) / BACKLOG * 1e6
        for start, end, idle in zip(used, _cpu(processes), rest, strict=True)
    )
    return each, BACKLOG / (pipeline.status()["totals"]["batches"] - before)


def _cpu(processes: Sequence[Sequence[psutil.Process]]) -> list[float]:
    return [cpu_s(*some) for some in processes]


if __name__ == "__main__":
    main()
