"""CPU time of a cached GET and of a PUT in the web process with limits of its client, against the same without.

The server is called as granian does it, without one. A control without limits says how far apart equal ones are.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.load import DOCUMENT
from web.app import create_app
from web.limits import Door
from web.server import Server
from writebehind import Settings, connect
from writebehind.access.keys import Token, new_id
from writebehind.access.limits import Clients, Limit
from writebehind.local.embedded import EmbeddedRedis
from writebehind.tallies.tallies import Tallies

ROUNDS, CALLS = 60, 150
LIMIT = Limit(10**6, 10, concurrency=100)


def main() -> None:
    """Take turns, and print the ratios."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as redis:
        token = Token.new(new_id()).text
        given = {"redis_url": redis.url, "mongodb_url": "mongodb://127.0.0.1:9/", "allow_unlisted": True}
        settings = Settings(**given, root_key=token)
        with connect(settings) as pipeline:
            app = create_app(pipeline)
            servers = {
                name: Server(
                    app, settings, Tallies(), Door(Clients(limit, pipeline.store.spending), pipeline.keyring)
                )
                for name, limit in (("no limits", Limit()), ("limits", LIMIT), ("control", Limit()))
            }
            for method in ("GET", "PUT"):
                print(asyncio.run(_compared(method, servers, token)))


async def _compared(method: str, servers: dict[str, Server], token: str) -> str:
    took: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():
        await _ask(server, "PUT", token)
    for turn in range(ROUNDS):
        for name in [*servers][turn % 3 :] + [*servers][: turn % 3]:
            began = time.process_time()
            for _ in range(CALLS):
                await _ask(servers[name], method, token)
            took[name].append((time.process_time() - began) / CALLS * 1e6)
    ratios = {
        name: median(one / other for one, other in zip(some, took["no limits"], strict=True))
        for name, some in took.items()
    }
    told = ", ".join(f"{name} {median(some):.1f} µs, ratio {ratios[name]:.3f}" for name, some in took.items())
    return f"{method}, CPU of the web process: {told}"


async def _ask(server: Callable[..., Awaitable[None]], method: str, token: str) -> None:
    body = DOCUMENT if method == "PUT" else b""
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": "/v1/users/ada",
        "raw_path": b"/v1/users/ada",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", "8000"),
        "client": ("127.0.0.1", "4711"),
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"authorization", f"Bearer {token}".encode()),
        ],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) not in {200, 201}:
            raise SystemExit(f"{method}: {message['status']}")

    await server(scope, receive, send)


if __name__ == "__main__":
    main()
