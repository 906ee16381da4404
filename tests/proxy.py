"""A TCP proxy on loopback whose connections can be cut, slowed down or left hanging."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

#: Whom a proxy passes nothing on for, by the address and the port that a client comes from.
Whom = Callable[[tuple[str, int]], bool]


def everybody(_: tuple[str, int]) -> bool:
    """For all."""
    return True


def nobody(_: tuple[str, int]) -> bool:
    """For none."""
    return False


def rerouted(url: str, port: int) -> str:
    """The URL of a server, with its user and password, by way of a port of this machine."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    # Without the option the driver goes where the server says that it is.
    options = "directConnection=true" if parts.scheme == "mongodb" else parts.query
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}", query=options).geturl()


class Proxy:
    """Passes bytes between clients and a server on `127.0.0.1:target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._hangs_for: Whom = nobody
        #: One for each connection, by who has opened it: whether it passes on what comes.
        self._gates: list[tuple[tuple[str, int], threading.Event]] = []
        self._lock = threading.Lock()
        self._delay_s = 0.0
        #: What clients see of bytes that the server has, of the same length; the server sees its own.
        self.disguise: dict[bytes, bytes] = {}
        #: Sizes of what waits for `flow`, in bytes: up to one piece for each connection and direction.
        self.held: list[int] = []
        self._open = True
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang(self, whom: Whom = everybody) -> None:
        """Keep connections open and pass nothing on, for some clients."""
        with self._lock:
            self._hangs_for = whom
            for client, gate in self._gates:
                if whom(client):
                    gate.clear()

    def stall(self) -> None:
        """Pass nothing on over the connections that are open now; new ones work."""
        with self._lock:
            for _, gate in self._gates:
                gate.clear()

    def flow(self) -> None:
        """End `hang` and `stall`. What was sent meanwhile is passed on, also where its sender is gone."""
        with self._lock:
            self._hangs_for = nobody
            for _, gate in self._gates:
                gate.set()

    def slow(self, seconds: float) -> None:
        """Pass everything on so much later; 0 for at once."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def close(self) -> None:
        """Close every connection and the listener, and wait for the threads."""
        self._open = False
        self.flow()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while self._open:
            try:
                client, address = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets += (client, server)
            gate = self._gate(address)
            for source, sink, to_client in ((client, server, False), (server, client, True)):
                arguments = (source, sink, gate, to_client)
                thread = threading.Thread(target=self._pass_on, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _gate(self, client: tuple[str, int]) -> threading.Event:
        gate = threading.Event()
        with self._lock:
            self._gates.append((client, gate))
            if not self._hangs_for(client):
                gate.set()
        return gate

    def _pass_on(self, source: socket.socket, sink: socket.socket, gate: threading.Event, to_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not gate.is_set():
                    self.held.append(len(data))
                    gate.wait()
                    self.held.remove(len(data))
                if self._delay_s:
                    time.sleep(self._delay_s)
                if not self._open:
                    break
                for servers, clients in self.disguise.items():
                    data = data.replace(servers, clients) if to_client else data.replace(clients, servers)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()
