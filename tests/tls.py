"""TLS before servers that speak none: certificates of the tests' own, and a server that ends TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import trustme

HOST = "127.0.0.1"


class Authority:
    """Signs certificates for loopback; its own is in `file`."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server on loopback needs, or one with other names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or (HOST, "localhost"))).configure_cert(context)
        return context

    def redis_url(self, port: int, like: str = "") -> str:
        """Of a Redis server on loopback whose certificate it has signed, with the login of another URL."""
        login, at, _ = urlsplit(like).netloc.rpartition("@")
        return f"rediss://{login}{at}{HOST}:{port}/0?ssl_ca_certs={quote(str(self.file))}"

    def rabbitmq_url(self, port: int) -> str:
        """Of such a RabbitMQ server."""
        return f"amqps://guest:guest@{HOST}:{port}//?ssl_ca_certs={quote(str(self.file))}"

    def mongodb_url(self, port: int) -> str:
        """Of such a MongoDB server."""
        return f"mongodb://{HOST}:{port}/?directConnection=true&tls=true&tlsCAFile={quote(str(self.file))}"


class TlsFront:
    """Speaks TLS with clients and plainly with a server on loopback, in a thread of its own.

    `tests.proxy.Proxy` before it cuts, slows and stops what TLS has made of the bytes.
    """

    def __init__(self, context: ssl.SSLContext, target: int | Callable[[], int]) -> None:
        self._context = context
        self._target = target if callable(target) else lambda: target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._connect, HOST, 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(HOST, self._target())
        except OSError:
            to_client.close()
            return
        with suppress(asyncio.CancelledError):  # the end of the front is no failure of a connection
            await asyncio.gather(_pass_on(client, to_server), _pass_on(server, to_client))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()
