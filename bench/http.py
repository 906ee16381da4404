"""The HTTP hot path next to its floor and its peers, in one run.

Each contender serves the same requests in turn, several rounds of them, under the same server. Throughput is
noisy where other programs run; the CPU time that the server's processes take for a request is steadier.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil

from bench.load import DOCUMENT
from tests.sizes import LEAST_BESIDE, LIMIT
from writebehind.local.embedded import EmbeddedRedis, free_port

ROUNDS = 5
SECONDS = 1.5
CONNECTIONS = 16
THREADS = 8
#: Bytes that documents have more in further rounds: the driver, TLS and sockets change their ways in between, and
#: clients may write none that are much larger than the last.
LARGE = (4_096, 65_536, LIMIT - LEAST_BESIDE)


@dataclass
class Contender:
    """One server under load, and what was measured of it in rounds of some seconds."""

    name: str
    port: int
    process: psutil.Process
    seconds: float = SECONDS
    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    def measure(self, method: str, more: int = 0, count: int = 1) -> None:
        """Send requests for a while, for a count of documents that have so many bytes more."""
        before = self._cpu_seconds()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bench.load"),
                *map(str, (self.port, method, self.seconds, CONNECTIONS, more, count)),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.split()
        answered, elapsed = int(done[0]), float(done[1])
        self.rates.append(answered / elapsed)
        self.microseconds.append((self._cpu_seconds() - before) / answered * 1e6)

    def _cpu_seconds(self) -> float:
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


def granian(target: str, port: int) -> list[str]:
    """The command that serves an application with granian's own WSGI interface, where clients hold threads."""
    options = ["--interface", "wsgi", "--factory", "--host", "127.0.0.1", "--port", str(port), "--no-ws"]
    threads = ["--workers", "1", "--blocking-threads", str(THREADS), "--log-level", "error"]
    return [sys.executable, "-m", "granian", *options, *threads, target]


def as_web_does(target: str, port: int) -> list[str]:
    """The command that serves an application behind granian's event loop, as `writebehind run web` does."""
    options = ["--interface", "asginl", "--http", "1", "--factory", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "granian", *options, "--no-ws", "--workers", "1", "--log-level", "error", target]


def gunicorn(target: str, port: int) -> list[str]:
    """The same with gunicorn's threads."""
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", str(THREADS), "--log-level", "error"]
    return [sys.executable, "-m", "gunicorn", *options, f"{target}()"]


#: A contender: its name, the server, and what that serves.
Way = tuple[str, Callable[[str, int], list[str]], str]
FLOOR: Way = ("bare Flask", as_web_does, "bench.bare:create_server")
OURS: Way = ("writebehind", as_web_does, "web.server:create_server")


@contextmanager
def serving(name: str, command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[Contender]:
    """Run a server until it answers; end it after."""
    with subprocess.Popen(command, env=os.environ | environment) as process:
        try:
            deadline = time.monotonic() + 20
            while not _listens(port):
                if time.monotonic() > deadline or process.poll() is not None:
                    sys.exit(f"{name} does not start")
                time.sleep(0.1)
            time.sleep(2)  # granian listens before its worker is ready
            yield Contender(name, port, psutil.Process(process.pid))
        finally:
            process.terminate()


def compare(contenders: Sequence[Contender], method: str, more: int = 0, count: int = 1) -> None:
    """Measure in turn, and print a table; the first is what the others are held against."""
    for contender in contenders:
        contender.measure(method, more, count)  # not counted: connections, scripts and caches are warm after it
        contender.rates.clear()
        contender.microseconds.clear()
    for turn in range(ROUNDS):
        first = turn % len(contenders)  # each begins in its turn: the first of a round may be at a disadvantage
        for contender in [*contenders[first:], *contenders[:first]]:
            contender.measure(method, more, count)
    floor = contenders[0]
    of = f"{count} of " if method == "POST" else ""
    what = f"{method}, {of}{len(DOCUMENT) + more} bytes, {CONNECTIONS} connections"
    print(f"\n{what}, median of {ROUNDS} rounds of {floor.seconds:g} s")
    print(f"  {'':34} {'requests/s':>10} {'ratio':>6}   {'µs CPU':>7} {'ratio':>6}")
    for one in contenders:
        rate, cpu = statistics.median(one.rates), statistics.median(one.microseconds)
        of_rate = statistics.median(a / b for a, b in zip(one.rates, floor.rates, strict=True))
        of_cpu = statistics.median(b / a for a, b in zip(one.microseconds, floor.microseconds, strict=True))
        print(f"  {one.name:34} {rate:10.0f} {of_rate:6.2f}   {cpu:7.0f} {of_cpu:6.2f}")


@contextmanager
def contending(*ways: Way, seconds: float = SECONDS) -> Iterator[list[Contender]]:
    """Run several servers before one Redis."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(EmbeddedRedis(directory))
        environment = {
            "REDIS_URL": redis.url,
            "MONGODB_URL": "mongodb://127.0.0.1:9/",  # nobody: the hot path does not ask MongoDB
            "WRITEBEHIND_COLLECTIONS": '{"users": {}}',
        }
        contenders = []
        for name, server, target in ways:
            port = free_port()
            contenders.append(stack.enter_context(serving(name, server(target, port), port, environment)))
            contenders[-1].seconds = seconds
        yield contenders


def main() -> None:
    """Compare writebehind with a bare endpoint, and ways to serve it."""
    with contending(
        FLOOR,
        OURS,
        ("bare Flask, granian WSGI", granian, "bench.bare:create_app"),
        ("writebehind, granian WSGI", granian, "web.app:create_app"),
        ("bare Flask, gunicorn", gunicorn, "bench.bare:create_app"),
    ) as contenders:
        for some, more in ((contenders, 0), *((contenders[:2], size) for size in LARGE)):
            for method in ("PUT", "GET"):
                compare(some, method, more)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
