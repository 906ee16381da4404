"""CPU time of a request with everything counted, next to the same without, in one process and in turns.

Without a server and clients around it the time is steady enough to see a percent. What granian and sockets take
besides is in neither, so that the ratio is rather too large.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.load import DOCUMENT
from web.counting import Requests
from web.server import create_server
from writebehind.local.embedded import EmbeddedRedis
from writebehind.reading.reader import Reader
from writebehind.tallies.tallies import Tallies

#: Pairs of turns, and requests in a turn.
TURNS, REQUESTS = 60, 300


def main() -> None:
    """Print the table."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(EmbeddedRedis(Path(directory) / "redis"))
        os.environ |= {
            "REDIS_URL": redis.url,
            "MONGODB_URL": "mongodb://127.0.0.1:9/",  # nobody: the hot path does not ask MongoDB
            "WRITEBEHIND_COLLECTIONS": '{"users": {}}',
            "WRITEBEHIND_METRICS_DIR": str(Path(directory) / "counts"),
        }
        asyncio.run(_compare())


async def _compare() -> None:
    server: Any = create_server()
    print(f"{'µs of CPU for a request':<26}{'not counted':>12}{'counted':>10}{'ratio':>8}{'control':>9}")
    for method in ("PUT", "GET"):
        await _turn(server, method)  # connections and scripts are warm after it
        without, counted, control = [], [], []
        for _ in range(TURNS):
            with _uncounted():
                without.append(await _turn(server, method))
            counted.append(await _turn(server, method))
            with _uncounted():
                control.append(await _turn(server, method))
        ratio = statistics.median(b / a for a, b in zip(without, counted, strict=True))
        same = statistics.median(b / a for a, b in zip(without, control, strict=True))
        usual, more = statistics.median(without), statistics.median(counted)
        print(f"{method:<26}{usual:>12.0f}{more:>10.0f}{ratio:>8.3f}{same:>9.3f}")


@contextmanager
def _uncounted() -> Iterator[None]:
    """Nothing is counted, and no caller of what counts is left."""

    def nothing(*_: Any, **__: Any) -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        for name in ("begin", "end", "answered", "refused"):
            patch.setattr(Requests, name, nothing)
        patch.setattr(Reader, "_noted", lambda _, read, *__: read)
        patch.setattr(Reader, "_count_reads", nothing)
        patch.setattr(Tallies, "add", nothing)
        patch.setattr(Tallies, "observe", nothing)
        yield


async def _turn(server: Any, method: str) -> float:
    """The CPU time of this process for a request, µs."""
    began = time.process_time()
    for number in range(REQUESTS):
        await _ask(server, method, f"/v1/users/u{number % 100}")
    return (time.process_time() - began) / REQUESTS * 1e6


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
