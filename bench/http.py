"""The HTTP hot path next to its floor and its peers, in one run.

Each contender serves the same requests in turn, several rounds of them, under the same server. Throughput is
noisy where other programs run; the CPU time that the server's processes take for a request is steadier.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

import psutil

from bench.load import DOCUMENT, FEW_IDS, IDS
from bench.rows import Row, command
from tests.sizes import LEAST_BESIDE, LIMIT
from writebehind.local.embedded import LOOPBACK, EmbeddedRedis, free_port

ROUNDS = 5
SECONDS = 1.5
CONNECTIONS = 16
#: Seconds in which a server has to answer its first request, and in which it has to end.
START_S, END_S = 30, 10
#: Of what a server has printed, where it is told.
LAST_LINES = 100
THREADS = 8
#: Where no MongoDB is: the hot path does not ask it.
NOBODY = "mongodb://127.0.0.1:9/"
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
    p50s_ms: list[float] = field(default_factory=list)
    p99s_ms: list[float] = field(default_factory=list)
    #: Of which sizes it has all documents.
    filled: set[int] = field(default_factory=set)

    def forget(self) -> None:
        """Forget what was measured."""
        for some in (self.rates, self.microseconds, self.p50s_ms, self.p99s_ms):
            some.clear()

    def measure(self, method: str, more: int = 0, count: int = 1) -> None:
        """Send requests for a while, for a count of documents that have so many bytes more."""
        least = (FEW_IDS if more else IDS) if method == "PUT" and more not in self.filled else 1
        self.filled.add(more)
        before = self.cpu_seconds()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bench.load"),
                *map(str, (self.port, method, self.seconds, CONNECTIONS, more, count, least)),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.split()
        answered, elapsed, p50_ms, p99_ms = map(float, done)
        self.rates.append(answered / elapsed)
        self.p50s_ms.append(p50_ms)
        self.p99s_ms.append(p99_ms)
        self.microseconds.append((self.cpu_seconds() - before) / answered * 1e6)

    def cpu_seconds(self) -> float:
        """CPU time of the server with its processes so far, seconds."""
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
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    environment: dict[str, str],
    *,
    start_s: float = START_S,
    cwd: Path | None = None,
) -> Iterator[Contender]:
    """Run a server, and hand it over once it answers requests; end it after.

    Where it does not answer in `start_s` seconds, SystemExit says so, with what it has printed and the stack of
    each of its threads.
    """
    variables = os.environ | environment | {"PYTHONFAULTHANDLER": "1"}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=cwd, env=variables, stdout=log, stderr=log) as process,
    ):
        with ending(process):
            deadline = time.monotonic() + start_s
            while not _answers(port):
                if process.poll() is not None:
                    sys.exit(f"{name} has ended with {process.returncode}, and printed:\n{_last_of(log)}")
                if time.monotonic() > deadline:
                    _tell_stacks(process)
                    sys.exit(f"{name} does not answer within {start_s:g} s, and printed:\n{_last_of(log)}")
                time.sleep(0.1)
            yield Contender(name, port, psutil.Process(process.pid))
        sys.stderr.write(_last_of(log))


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process after, and kill it with its children where it has not ended in `END_S` seconds."""
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            for one in (*children, process):
                with suppress(psutil.NoSuchProcess):
                    one.kill()


def compare(contenders: Sequence[Contender], method: str, more: int = 0, count: int = 1) -> list[Row]:
    """Measure in turn, and print a table; the first is what the others are held against."""
    for contender in contenders:
        contender.measure(method, more, count)  # not counted: connections, scripts and caches are warm after it
        contender.forget()
    for turn in range(ROUNDS):
        first = turn % len(contenders)  # each begins in its turn: the first of a round may be at a disadvantage
        for contender in [*contenders[first:], *contenders[:first]]:
            contender.measure(method, more, count)
    floor = contenders[0]
    of = f"{count} of " if method == "POST" else ""
    what = f"{method}, {of}{len(DOCUMENT) + more} bytes, {CONNECTIONS} connections"
    print(f"\n{what}, median of {ROUNDS} rounds of {floor.seconds:g} s")
    print(f"  {'':34} {'requests/s':>10} {'ratio':>6}   {'µs CPU':>7} {'ratio':>6}   {'p50 ms':>7} {'p99 ms':>7}")
    return list(chain.from_iterable(_told(one, floor, what) for one in contenders))


def _told(one: Contender, floor: Contender, what: str) -> Iterator[Row]:
    """Print a line, and yield what stands in it."""
    rate, cpu, p50, p99 = map(statistics.median, (one.rates, one.microseconds, one.p50s_ms, one.p99s_ms))
    of_rate = statistics.median(a / b for a, b in zip(one.rates, floor.rates, strict=True))
    of_cpu = statistics.median(b / a for a, b in zip(one.microseconds, floor.microseconds, strict=True))
    print(f"  {one.name:34} {rate:10.0f} {of_rate:6.2f}   {cpu:7.0f} {of_cpu:6.2f}   {p50:7.2f} {p99:7.2f}")
    for figure, unit, value in (
        ("throughput", "requests/s", rate),
        ("throughput, of the floor's", "ratio", of_rate),
        ("CPU per request", "µs", cpu),
        ("requests per CPU second, of the floor's", "ratio", of_cpu),
        ("p50", "ms", p50),
        ("p99", "ms", p99),
    ):
        yield Row(what, one.name, figure, unit, value)


@contextmanager
def contending(*ways: Way, seconds: float = SECONDS, mongodb_url: str = NOBODY) -> Iterator[list[Contender]]:
    """Run several servers before one Redis."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(EmbeddedRedis(directory))
        # Not the file of the repository, in which each write of a user claims its name: a second round trip.
        config = Path(directory) / "bench.toml"
        config.touch()
        environment = {
            "WRITEBEHIND_CONFIG": str(config),
            "REDIS_URL": redis.url,
            "MONGODB_URL": mongodb_url,
            "WRITEBEHIND_COLLECTIONS": '{"users": {}}',
        }
        contenders = []
        for name, server, target in ways:
            port = free_port()
            contenders.append(stack.enter_context(serving(name, server(target, port), port, environment)))
            contenders[-1].seconds = seconds
        yield contenders


def main() -> list[Row]:
    """Compare writebehind with a bare endpoint, and ways to serve it."""
    with contending(
        FLOOR,
        OURS,
        ("bare Flask, granian WSGI", granian, "bench.bare:create_app"),
        ("writebehind, granian WSGI", granian, "web.app:create_app"),
        ("bare Flask, gunicorn", gunicorn, "bench.bare:create_app"),
    ) as contenders:
        rounds = ((contenders, 0), *((contenders[:2], size) for size in LARGE))
        tables = [compare(some, method, more) for some, more in rounds for method in ("PUT", "GET")]
    return list(chain.from_iterable(tables))


def _answers(port: int) -> bool:
    """Whether a request is answered, whatever the answer: granian listens before its worker is ready."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return one.recv(5) == b"HTTP/"
    except OSError:
        return False


def _tell_stacks(process: subprocess.Popen[bytes]) -> None:
    """Have a process and its children print where each thread is, which ends them."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGABRT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)


def _last_of(log: IO[bytes]) -> str:
    """The last lines of what a server has printed."""
    text = os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0)  # it shares the position with the server
    return b"".join(text.splitlines(keepends=True)[-LAST_LINES:]).decode(errors="replace")


if __name__ == "__main__":
    command("http", main, __doc__)
