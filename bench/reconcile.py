"""What reconciling costs: memory of its process, and throughput of writes that go on meanwhile.

100,000 documents are in MongoDB and in Redis, of which one in 100 has 4,095 bytes to 64 KiB. A process of its own
reconciles, as a worker does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient

from bench.http import Contender, as_web_does, compare, serving
from bench.load import DOCUMENT
from tests.sizes import mixed
from writebehind import Pipeline, Settings, load_settings
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port
from writebehind.reconcile.findings import Pass

SOME, ALL = 20_000, 100_000
#: One of how many documents is large, and how many bytes more documents have in further writes.
ONE_IN, MORE = 100, 4_096
AT_ONCE = 1_000
#: Longer than the benchmark, so that nothing expires.
TTL_S = 86_400
#: Of a round, in each of which a part of the pass is due.
SECONDS = 3.0
#: A pass as the settings have it by default, and one sixty times as fast.
USUAL_S, FAST_S = 3_600.0, 60.0


class Reconciling:
    """A process that reconciles while it is told to: a pass in so many seconds, or one after the other for 0."""

    def __init__(self, settings: Settings, pass_s: float) -> None:
        urls = (settings.redis_url, settings.mongodb_url)
        command = [sys.executable, "-m", "bench.reconcile", *urls, str(pass_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.keys, self.cpu_s, self.rounds = 0, 0.0, 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Reconcile for as long as the block lasts."""
        self._say("go")
        try:
            yield
        finally:
            keys, cpu_s = self._say("stop").split()
            self.keys, self.cpu_s, self.rounds = self.keys + int(keys), self.cpu_s + float(cpu_s), self.rounds + 1

    def growth(self) -> tuple[int, int, int]:
        """Make a whole pass; documents that it compared, most memory before and how much more after it, KiB."""
        compared, before, after = map(int, self._say("pass").split())
        return compared, before, after - before

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _say(self, word: str) -> str:
        print(word, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


@dataclass
class Beside(Contender):
    """The web process, while another one reconciles."""

    other: Reconciling | None = None

    def measure(self, method: str, more: int = 0, count: int = 1) -> None:
        with ExitStack() as stack:
            if self.other is not None:
                stack.enter_context(self.other.running())
            super().measure(method, more, count)


def main() -> None:
    """Measure the memory of passes over few and many documents, then writes with and without a pass."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(EmbeddedRedis(directory))
        mongo = stack.enter_context(EmbeddedMongo(directory))
        settings = _settings(redis.url, mongo.url, 0)
        _memory(settings)
        _writes(settings, stack)


def _memory(settings: Settings) -> None:
    print("\nMost memory of the process that makes a pass, MiB")
    print(f"  {'documents':>12} {'before':>8} {'growth':>8} {'ratio':>6}")
    first, filled = 0, 0
    for count in (SOME, ALL):
        _fill(settings, filled, count)
        filled = count
        process = Reconciling(settings, 0)
        compared, before, growth = process.growth()
        process.close()
        first = first or growth
        print(f"  {compared:12} {before / 1024:8.1f} {growth / 1024:8.1f} {growth / first:6.2f}")


def _writes(settings: Settings, stack: ExitStack) -> None:
    port = free_port()
    environment = {
        "REDIS_URL": settings.redis_url,
        "MONGODB_URL": settings.mongodb_url,
        "WRITEBEHIND_COLLECTIONS": '{"users": {}, "cached": {}}',
    }
    web = stack.enter_context(
        serving("writebehind", as_web_does("web.server:create_server", port), port, environment)
    )
    contenders = [Beside("no pass", port, web.process, SECONDS)]
    for name, pass_s in (
        (f"a pass in {USUAL_S:g} s", USUAL_S),
        (f"a pass in {FAST_S:g} s", FAST_S),
        ("one pass after the other", 0.0),
    ):
        other = Reconciling(settings, pass_s)
        stack.callback(other.close)
        contenders.append(Beside(name, port, web.process, SECONDS, other=other))
    compare(contenders, "PUT")
    for one in contenders[1:]:
        keys, cpu_s = one.other.keys / one.other.rounds, one.other.cpu_s / one.other.rounds
        print(f"  {one.name}: {keys:.0f} keys and {cpu_s:.2f} s of CPU in a round")
    compare([contenders[0], contenders[2]], "PUT", MORE)


def _fill(settings: Settings, first: int, end: int) -> None:
    """Put documents into MongoDB, and read them, so that they are in Redis."""
    with MongoClient(settings.mongodb_url) as client, Pipeline(settings) as pipeline:
        cached, stored = pipeline.collection("cached"), client[settings.mongodb_database].cached
        for at in range(first, end, AT_ONCE):
            names = [f"d{number}" for number in range(at, at + AT_ONCE)]
            texts = [mixed(number, ONE_IN).get("text") or DOCUMENT.decode() for number in range(at, at + AT_ONCE)]
            stored.insert_many([{"_id": name, "text": text} for name, text in zip(names, texts, strict=True)])
            cached.read_many(names)


def _settings(redis_url: str, mongodb_url: str, pass_s: float) -> Settings:
    return load_settings(
        redis_url=redis_url,
        mongodb_url=mongodb_url,
        reconcile_pass_s=pass_s or USUAL_S,
        reconcile_interval=SECONDS,
        hot_samples=0,
        collections={"cached": {"ttl": TTL_S}, "users": {}},
    )


# The process that reconciles -------------------------------------------------------------------------------


def _reconcile(redis_url: str, mongodb_url: str, pass_s: float) -> None:
    with Pipeline(_settings(redis_url, mongodb_url, pass_s)) as pipeline:
        for word in map(str.strip, sys.stdin):
            if word == "pass":
                pipeline.check()
                pipeline.sink.ping(timeout_s=5)
                before = _most_memory()
                print(pipeline.reconciler.make_pass().checked, before, _most_memory(), flush=True)
            elif word == "go":
                print("gone", flush=True)
                _until_stopped(pipeline, whole=not pass_s)


class _EnoughError(Exception):
    """The pass need not go on."""


def _until_stopped(pipeline: Pipeline, *, whole: bool) -> None:
    """Reconcile until something is said, then tell how many keys were looked at, and the CPU time."""
    stopping, done = threading.Event(), [0]
    began = time.process_time()

    def work() -> None:
        while not stopping.is_set():
            if whole:
                _pass(pipeline, stopping, done)
            else:
                done.append(pipeline.maintenance.reconcile().get("keys", 0))
                stopping.wait(pipeline.settings.reconcile_interval)

    thread = threading.Thread(target=work)
    thread.start()
    sys.stdin.readline()
    stopping.set()
    thread.join()
    print(sum(done), time.process_time() - began, flush=True)


def _pass(pipeline: Pipeline, stopping: threading.Event, done: list[int]) -> None:
    done.append(0)

    def report(one: Pass) -> None:
        done[-1] = one.keys
        if stopping.is_set():
            raise _EnoughError

    with suppress(_EnoughError):
        pipeline.reconciler.make_pass(report=report)


def _most_memory() -> int:
    """The most memory that this process has had, KiB."""
    return int(Path("/proc/self/status").read_text("ascii").partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    if sys.argv[1:]:
        _reconcile(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    else:
        main()
