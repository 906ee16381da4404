"""Costs of a document, a request and a flush task on this machine: the constants of `writebehind plan`.

`python -m bench.constants [FILE]` measures for some minutes and writes them, for `writebehind plan --constants
FILE`. The file of the package, `writebehind/planning/reference.json`, was made so.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import redis

from bench import memory
from bench.http import OURS, ending, serving
from bench.load import DOCUMENT, requests, run
from bench.steady import Steady
from tests.waiting import wait_until
from writebehind import Pipeline, load_settings
from writebehind.celery.publisher import FlushPublisher
from writebehind.documents import codec
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, EmbeddedServer, free_port
from writebehind.planning.constants import Constants
from writebehind.redis.keys import partition_keys

FILE = Path("constants.json")
#: By how many bytes documents are longer than the least one.
MORE = (0, 1_000, 4_000, 64_000)
SECONDS, CONNECTIONS = 4.0, 4
#: Requests in a second, as a process may have for long: fewer of large documents.
RATE, FEW, LARGE_FROM = 400, 100, 20_000
#: Documents that are flushed, bytes of which all of them have no more; and how many one by one.
FLUSHED, FLUSHED_BYTES, ALONE = 4_000, 32 << 20, 100
#: Documents that trickle in, and how many in a second; and those whose way to MongoDB is timed.
TRICKLE, TRICKLE_RATE, TIMED = 150, 20, 8
COLLECTION = "users"  # as the load generator has it


def main() -> None:
    """Measure, and write the file."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 and __name__ == "__main__" else FILE
    found = measured()
    Constants.model_validate_json(json.dumps(found))
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(f"\nConstants for writebehind plan, in {path}:\n{json.dumps(found)}")


def measured() -> dict[str, Any]:
    """All constants, as the file has them."""
    found: dict[str, Any] = {"memory": memory.measured(), "sizes": [len(_body(more)) for more in MORE]}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedRedis(directory / "redis"))
        mongo = stack.enter_context(EmbeddedMongo(directory / "mongo"))
        environment = servers_of(server, mongo, directory, {COLLECTION: {}})
        found |= _requests(server, environment)
        found |= _flushes(server, environment)
        found |= _tasks(server, environment, found)
        found["times"]["latency_s"] = found.pop("latency_s")
        found["measured"] = {
            "on": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "processor": processor(),
            "python": platform.python_version(),
            "redis": memory.version(server),
            "mongodb": f"{mongo.title}, in place of MongoDB",
        }
    return found


def servers_of(
    server: EmbeddedRedis, mongo: EmbeddedServer, directory: Path, collections: dict[str, Any], **others: str
) -> dict[str, str]:
    """The environment of processes on these servers, which see no other settings."""
    nothing = directory / "writebehind.toml"
    nothing.touch()
    return {
        "REDIS_URL": server.url,
        "MONGODB_URL": mongo.url,
        "WRITEBEHIND_CONFIG": str(nothing),
        "WRITEBEHIND_COLLECTIONS": json.dumps(collections),
        **others,
    }


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def cpu_s(*processes: psutil.Process) -> float:
    """CPU seconds that processes have taken, with their children."""
    every = [one for process in processes for one in (process, *process.children(recursive=True))]
    return sum(sum(one.cpu_times()[:2]) for one in every)


@contextmanager
def worker(environment: dict[str, str], *options: str) -> Iterator[psutil.Process]:
    """A worker of the flush queue, as the Procfile has it."""
    command = [sys.executable, "-m", "writebehind", "run", "worker", "-Q", "flush,refresh", "--pool", "threads"]
    more = ["--concurrency", "4", "--without-gossip", "--without-mingle", "--loglevel", "error", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, *more], env=os.environ | environment, **quiet) as process, ending(process):
        yield psutil.Process(process.pid)


@contextmanager
def pipeline_of(environment: dict[str, str], **given: Any) -> Iterator[Pipeline]:
    """A pipeline of this process on the same servers."""
    before = dict(os.environ)
    os.environ |= environment
    try:
        with Pipeline(load_settings(), **given) as pipeline:
            yield pipeline
    finally:
        os.environ.clear()
        os.environ |= before


def _body(more: int) -> bytes:
    text = DOCUMENT[:-1] + b',"text":"%b"}' % (b"x" * more) if more else DOCUMENT
    return codec.encode(codec.loads(text) | {"_id": "user-1000"})


def _requests(server: EmbeddedRedis, environment: dict[str, str]) -> dict[str, Any]:
    """CPU of the web process and of Redis for each PUT, each GET that hits, and each that misses."""
    found: dict[str, Any] = {one: {"process_us": [], "redis_us": []} for one in ("put", "get", "miss")}
    names = ("process_us", "redis_us")
    name, command, target = OURS
    port = free_port()
    client, of_redis = redis.Redis.from_url(server.url), psutil.Process(server.pid)
    with serving(name, command(target, port), port, environment) as web, pipeline_of(environment) as pipeline:

        def note(kind: str, act: Callable[[], int]) -> None:
            """Note the CPU of both for each request that is sent meanwhile, beside what they need at rest."""
            answered, used, seconds = during(act)
            for which, one, rest in zip(names, used, idle, strict=True):
                found[kind][which].append(round((one - rest * seconds) / answered * 1e6, 1))

        def during(act: Callable[[], int]) -> tuple[int, list[float], float]:
            began, before = time.monotonic(), [cpu_s(one) for one in (web.process, of_redis)]
            answered = act()
            after = [cpu_s(one) for one in (web.process, of_redis)]
            return (
                answered,
                [end - start for start, end in zip(before, after, strict=True)],
                time.monotonic() - began,
            )

        def steadily(rate: float, request: Callable[[], bytes]) -> int:
            with Steady(port, rate, request) as steady:
                time.sleep(SECONDS)
            return sum(steady.answers.values())

        def missing(texts: list[bytes]) -> Callable[[], bytes]:
            """Makes requests for documents that Redis has just been made to forget."""

            def request() -> bytes:
                number = random.randrange(len(texts))
                member = f"{COLLECTION}/s:user-{number}"
                client.delete(partition_keys(pipeline.store.partition_of(member)).entry(member))
                return texts[number]

            return request

        run(port, 0, CONNECTIONS, requests("PUT", 0), 1)
        _, used, seconds = during(lambda: time.sleep(SECONDS) or 0)
        idle = [one / seconds for one in used]
        found["idle"] = {"web_cores": round(idle[0], 4), "web_redis_cores": round(idle[1], 4)}
        for more in MORE:
            puts, gets = (requests(method, more) for method in ("PUT", "GET"))
            rate = RATE if more < LARGE_FROM else FEW
            run(port, 0, CONNECTIONS, puts, len(puts))  # connections and scripts are warm after it
            note("put", lambda puts=puts, rate=rate: steadily(rate, lambda: random.choice(puts)))
            note("get", lambda gets=gets, rate=rate: steadily(rate, lambda: random.choice(gets)))
            drain(pipeline)
            note("miss", lambda gets=gets: steadily(FEW, missing(gets)))
    return found


def drain(pipeline: Pipeline) -> None:
    """Bring all that is pending to MongoDB."""
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.drain(partition, budget_s=600)


def _flushes(server: EmbeddedRedis, environment: dict[str, str]) -> dict[str, Any]:
    """CPU of this process and of Redis for each document that is brought to MongoDB, and the time it takes."""
    flush: dict[str, list[float]] = {"process_us": [], "redis_us": []}
    times: dict[str, Any] = {"document_us": []}
    of_redis = psutil.Process(server.pid)
    with pipeline_of(environment) as pipeline:
        users = pipeline.collection(COLLECTION)
        for number in range(ALONE):
            users.put(f"alone-{number}", {})
            began = time.monotonic()
            drain_of(pipeline, f"alone-{number}")
            times.setdefault("alone", []).append(time.monotonic() - began)
        times["batch_s"] = round(statistics.median(times.pop("alone")), 5)
        for more in MORE:
            document = codec.loads(DOCUMENT) | {"text": "x" * more}
            count = min(FLUSHED, FLUSHED_BYTES // (more + len(DOCUMENT)))
            for number in range(count):
                users.put(f"flushed-{number}", document)
            began = (time.process_time(), cpu_s(of_redis), time.monotonic())
            drain(pipeline)
            ended = (time.process_time(), cpu_s(of_redis), time.monotonic())
            process, of, elapsed = ((end - start) / count * 1e6 for start, end in zip(began, ended, strict=True))
            flush["process_us"].append(round(process, 1))
            flush["redis_us"].append(round(of, 1))
            times["document_us"].append(round(elapsed, 1))
    return {"flush": flush, "times": times}


def drain_of(pipeline: Pipeline, name: str) -> None:
    """Bring what is pending in the partition of a document to MongoDB."""
    pipeline.flusher.drain(pipeline.store.partition_of(f"{COLLECTION}/s:{name}"), budget_s=600)


def _tasks(server: EmbeddedRedis, environment: dict[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
    """CPU of a flush task beside that of its documents, and of a worker at rest; and how late tasks are."""
    of_redis = psutil.Process(server.pid)
    put_us, flush = found["put"]["redis_us"][0], found["flush"]
    with worker(environment) as of_worker, publishing(environment) as pipeline:
        latency_s = statistics.median(_latencies(pipeline))  # the worker has started after it

        def during(act: Callable[[], None]) -> tuple[float, float, float]:
            before = (cpu_s(of_worker), cpu_s(of_redis), time.monotonic())
            act()
            return tuple(
                end - start
                for start, end in zip(before, (cpu_s(of_worker), cpu_s(of_redis), time.monotonic()), strict=True)
            )

        *resting, rested_s = during(lambda: time.sleep(SECONDS))
        before = pipeline.status()["totals"]["batches"]
        *trickling, took_s = during(lambda: _trickle(pipeline))
        tasks = pipeline.status()["totals"]["batches"] - before
    idle = [one / rested_s for one in resting]
    taken = [one - rest * took_s for one, rest in zip(trickling, idle, strict=True)]
    of_documents = (flush["process_us"][0], flush["redis_us"][0] + put_us)
    costs = [(one * 1e6 - TRICKLE * each) / tasks for one, each in zip(taken, of_documents, strict=True)]
    return {
        "task": {"worker_us": round(costs[0], 1), "redis_us": round(max(costs[1], 0), 1)},
        "idle": found["idle"] | {"worker_cores": round(idle[0], 4), "worker_redis_cores": round(idle[1], 4)},
        "latency_s": round(max(latency_s - found["times"]["batch_s"], 0.001), 4),
    }


@contextmanager
def publishing(environment: dict[str, str]) -> Iterator[Pipeline]:
    """A pipeline of this process, whose flushes a worker is asked for."""
    with ExitStack() as stack:
        publisher = FlushPublisher(stack.enter_context(pipeline_of(environment)).settings)
        stack.callback(publisher.close)
        yield stack.enter_context(pipeline_of(environment, hints=publisher))


def _trickle(pipeline: Pipeline) -> None:
    """Write documents one by one, and wait until MongoDB has them."""
    users, chance = pipeline.collection(COLLECTION), random.Random(1)
    for _ in range(TRICKLE):
        users.put(f"{chance.getrandbits(64):016x}", {})
        time.sleep(chance.expovariate(TRICKLE_RATE))
    wait_until(lambda: not pipeline.status()["pending"], "all to be in MongoDB", 120, 0.1)


def _latencies(pipeline: Pipeline) -> Iterator[float]:
    """Seconds after the flush delay in which documents come to MongoDB that are written one by one."""
    delay_s = pipeline.collection_settings(COLLECTION).flush_delay_ms / 1000
    for number in range(TIMED):
        began = time.monotonic()
        pipeline.collection(COLLECTION).put(f"timed-{number}", {})
        while pipeline.store.unsettled.among([f"{COLLECTION}/s:timed-{number}"]):
            time.sleep(0.001)
        yield time.monotonic() - began - delay_s


if __name__ == "__main__":
    main()
