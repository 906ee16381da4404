"""CPU time of one flush task that finds nothing to do: what a partition costs in each window."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import psutil

from writebehind.celery.configuration import create_app
from writebehind.celery.publisher import publish
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.pending import Hint
from writebehind.settings.installation import load_settings

TASKS = 1000
PARTITIONS = (16, 64, 256)
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def main() -> None:
    """Measure publishing and running, and say what that makes for some numbers of partitions."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(directory) as server:
        app = create_app(load_settings(redis_url=server.url))
        publishing = _publish(app)
        running = _run(app, {"REDIS_URL": server.url, "MONGODB_URL": "mongodb://127.0.0.1:9/"})
    each = publishing + running
    print(f"\nOne flush task, ms of CPU over {TASKS}: publishing {publishing:.2f}, running {running:.2f}")
    for partitions in PARTITIONS:
        share = each * partitions / 1000
        print(f"  {partitions:4} partitions, each flushed once a second: {share:6.1%} of a core")


def _publish(app) -> float:
    with app.producer_pool.acquire(block=True) as producer:
        publish(app, Hint(0, "bench", 0), producer=producer)
        start = time.process_time()
        for _ in range(TASKS):
            publish(app, Hint(0, "bench", 0), producer=producer)
        return (time.process_time() - start) / TASKS * 1000


def _run(app, environment: dict[str, str]) -> float:
    command = [sys.executable, "-m", "writebehind", "run", "worker", "-Q", "flush", "--pool", "threads"]
    options = ["--concurrency", "4", "--without-gossip", "--without-mingle", "--loglevel", "error"]
    with subprocess.Popen([*command, *options], env=os.environ | environment, **QUIET) as worker:
        try:
            process = psutil.Process(worker.pid)
            start = _cpu_when(app, process, TASKS - 100)
            end = _cpu_when(app, process, 0)
        finally:
            worker.terminate()
    return (end - start) / (TASKS - 100) * 1000


def _cpu_when(app, process: psutil.Process, left: int) -> float:
    """CPU seconds of the worker at the moment when this many tasks are left in the queue."""
    with app.connection_for_read() as connection:
        deadline = time.monotonic() + 60
        while connection.default_channel.client.llen("flush") > left:
            if time.monotonic() > deadline:
                sys.exit("the worker does not get on")
            time.sleep(0.01)
    return sum(process.cpu_times()[:2])


if __name__ == "__main__":
    main()
