"""Clients of the server between granian's event loop and the application, and an application behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from web.answers import PIECE
from web.app import REFUSAL
from web.server import Server
from web.transfers import SMALL
from writebehind import load_settings
from writebehind.tallies.tallies import Tallies

MIB = 1 << 20


class Client:
    """One request, as granian would bring it: messages that come, and the answer that is sent."""

    def __init__(
        self, *messages: dict[str, Any], path: str = "/v1/users/x", headers: tuple = (), method: str = "PUT"
    ) -> None:
        self.coming = list(messages)
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.status = 0
        self.complete = False
        #: Cleared while the client takes nothing.
        self.takes = True
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"a=%20",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", "0"),
            "client": ("127.0.0.1", "4711"),
            "headers": [(b"host", b"localhost"), *headers],
        }

    async def receive(self) -> dict[str, Any]:
        if not self.coming:
            await asyncio.Event().wait()
        return self.coming.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if not self.takes:
            await asyncio.Event().wait()
        self.status = message.get("status", self.status)
        self.headers |= {name.decode(): value.decode() for name, value in message.get("headers", ())}
        self.answer += message.get("body", b"")
        self.complete = message.get("more_body") is False

    async def ask(self, server: Server) -> None:
        await server(self.scope, self.receive, self.send)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}
CHUNKED = ((b"transfer-encoding", b"chunked"),)


def length(size: int) -> tuple:
    return ((b"content-length", str(size).encode()),)


class App:
    """A WSGI application that repeats the body, or says what it was told to refuse."""

    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []
        self.refused: list[Exception] = []
        self.writes: Callable[[dict[str, Any]], Any] = lambda environ: [environ["wsgi.input"].read()]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        refusal = environ.get(REFUSAL)
        if refusal is not None:
            self.refused.append(refusal)
            start_response(f"{refusal.code} Refused", [])
            return [b"refused"]
        self.environs.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self.writes(environ)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app) -> Server:
    return Server(app, load_settings(web_threads=2, request_timeout_ms=300, max_bulk_bytes=MIB), Tallies())


def run(server: Server, *clients: Client) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(one.ask(server) for one in clients))

    asyncio.run(all_of_them())


class Written:
    """An answer that is written piece by piece; notes whether it was closed."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            self.left -= 1
            yield b"x" * PIECE

    def close(self) -> None:
        self.closed = True


def large() -> Client:
    return Client(part(b"x" * 8 * SMALL, more=True), part(b"x" * SMALL), headers=length(9 * SMALL))
