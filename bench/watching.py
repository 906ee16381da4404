"""CPU time of requests with neither metrics nor traces, with metrics, and with both, in one process and in turns.

Once without a server and clients around it, and once over sockets, as `writebehind run web` serves them. A control
is the same as what all are held against. How much it differs from 1 says how much the others may.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from bench import load
from bench.http import as_web_does, serving
from bench.load import DOCUMENT
from bench.watched import NEITHER, SWITCH, VARIABLES, WAYS, Switched
from writebehind.local.embedded import EmbeddedRedis, free_port

#: Rounds of a turn each, and requests in a turn: few, so that neighbours disturb all of a round or none.
ROUNDS, REQUESTS = 300, 80
ROUNDS_OVER_SOCKETS, REQUESTS_OVER_SOCKETS, CONNECTIONS = 120, 200, 4
#: The first requests after another way take longer.
NOT_COUNTED = 20

#: CPU time for each request, µs, by the way in which it was watched: one for each round.
Taken = dict[str, list[float]]


def main() -> None:
    """Print the tables."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis(directory / "redis"))
        environment = {
            "REDIS_URL": redis.url,
            "MONGODB_URL": "mongodb://127.0.0.1:9/",  # nobody: the hot path does not ask MongoDB
            "WRITEBEHIND_COLLECTIONS": '{"users": {}}',
            "WRITEBEHIND_METRICS_DIR": str(directory / "counts"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(_collector()),
            **VARIABLES,
        }
        _over_sockets(environment)
        os.environ |= environment
        asyncio.run(_in_process())


async def _in_process() -> None:
    server = Switched()
    for method in ("PUT", "GET"):
        await _turn(server, method)  # connections and scripts are warm after it
        taken: Taken = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in random.sample(WAYS, len(WAYS)):
                server.switch(way)
                await _turn(server, method, NOT_COUNTED)
                taken[way].append(await _turn(server, method))
        _print(f"{method}, no server and no sockets", taken)


def _over_sockets(environment: dict[str, str]) -> None:
    port = free_port()
    command = as_web_does("bench.watched:create_server", port)
    with serving("watched", command, port, environment) as server:
        for method in ("PUT", "GET"):
            texts = load.requests(method, 0)
            load.run(port, 0, CONNECTIONS, texts, 2 * len(texts))
            taken: Taken = {way: [] for way in WAYS}
            for _ in range(ROUNDS_OVER_SOCKETS):
                for way in random.sample(WAYS, len(WAYS)):
                    _switch(port, way)
                    load.run(port, 0, CONNECTIONS, texts, NOT_COUNTED)
                    before = _cpu_us(server.process)
                    answered, _ = load.run(port, 0, CONNECTIONS, texts, REQUESTS_OVER_SOCKETS)
                    taken[way].append((_cpu_us(server.process) - before) / answered)
            _print(f"{method}, over sockets, {CONNECTIONS} connections", taken)


def _print(what: str, taken: Taken) -> None:
    """Print medians, those of the ratios in a round, and the ratios of what less disturbed turns took.

    Turns that were less disturbed have fewer sampled requests than others: of traces the medians tell.
    Neither tells of their export, every 5 s, which takes some 35 µs for each span (ADR 47).
    """
    floor = _quartile(taken[NEITHER])
    print(f"{what}: µs of CPU for a request")
    print(f"  {len(taken[NEITHER])} rounds {'median':>20} {'ratio':>7} {'of lower quartiles':>20}")
    for way, values in taken.items():
        ratio = statistics.median(more / less for less, more in zip(taken[NEITHER], values, strict=True))
        print(
            f"  {way:24} {statistics.median(values):6.1f} {ratio:7.3f} {_quartile(values) / floor:20.3f}",
            flush=True,
        )


def _quartile(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


@contextmanager
def _collector() -> Iterator[str]:
    """A collector of traces that takes all and keeps nothing."""

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Takes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _switch(port: int, way: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"{SWITCH}{WAYS.index(way)}")
    if connection.getresponse().status != 200:
        raise RuntimeError(way)
    connection.close()


def _cpu_us(process: psutil.Process) -> float:
    """The CPU time of a process and those below it, µs; `cpu_times` tells hundredths of a second."""
    tasks = (
        task
        for one in [process, *process.children(recursive=True)]
        for task in Path(f"/proc/{one.pid}/task").iterdir()
    )
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3


async def _turn(server: Any, method: str, count: int = REQUESTS) -> float:
    """The CPU time of this process for a request, µs."""
    began = time.process_time()
    for number in range(count):
        await _ask(server, method, f"/v1/users/u{number % 100}")
    return (time.process_time() - began) / count * 1e6


async def _ask(server: Callable[..., Any], method: str, path: str) -> None:
    body = DOCUMENT if method == "PUT" else b""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", "8000"),
        "client": ("127.0.0.1", "40000"),
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await server(scope, receive, send)
    if statuses[0] >= 300:
        raise RuntimeError(f"{method} {path} is answered with {statuses[0]}")


if __name__ == "__main__":
    main()
