"""A TCP proxy on loopback whose connections can be cut, slowed down or left hanging."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self
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


class _Passing(NamedTuple):
    """One direction of a connection: who has opened it, whether it passes on, and where from."""

    client: tuple[str, int]
    gate: threading.Event
    source: socket.socket


class Proxy:
    """Passes bytes between clients and a server on `127.0.0.1:target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._hangs_for: Whom = nobody
        #: What is open, by the thread that passes on. Who asks `whom` of clients that are gone asks ever longer.
        self._passing: dict[threading.Thread, _Passing] = {}
        self._lock = threading.Lock()
        self._delay_s = 0.0
        #: What clients see of bytes that the server has, of the same length; the server sees its own.
        self.disguise: dict[bytes, bytes] = {}
        #: Sizes of what waits for `flow`, in bytes: up to one piece for each connection and direction.
        self.held: list[int] = []
        self._open = True
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang(self, whom: Whom = everybody) -> None:
        """Keep connections open and pass nothing on, for some clients."""
        with self._lock:
            self._hangs_for = whom
            for one in self._passing.values():
                if whom(one.client):
                    one.gate.clear()

    def stall(self) -> None:
        """Pass nothing on over the connections that are open now; new ones work."""
        with self._lock:
            for one in self._passing.values():
                one.gate.clear()

    def flow(self) -> None:
        """End `hang` and `stall`. What was sent meanwhile is passed on, also where its sender is gone."""
        with self._lock:
            self._hangs_for = nobody
            for one in self._passing.values():
                one.gate.set()

    def slow(self, seconds: float) -> None:
        """Pass everything on so much later; 0 for at once."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        with self._lock:
            for one in self._passing.values():
                with suppress(OSError):
                    one.source.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self) -> int:
        """The number of those that are open."""
        with self._lock:
            return len({one.client for one in self._passing.values()})

    def close(self) -> None:
        """Close every connection and the listener, and wait for the threads."""
        self._open = False
        self.flow()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._accepting.join(5)
        for thread in list(self._passing):
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
            gate = threading.Event()
            with self._lock:
                if not self._hangs_for(address):
                    gate.set()
                for source, sink, to_client in ((client, server, False), (server, client, True)):
                    arguments = (source, sink, gate, to_client)
                    thread = threading.Thread(target=self._pass_on, args=arguments, daemon=True)
                    self._passing[thread] = _Passing(address, gate, source)
                    thread.start()

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
        with self._lock:
            del self._passing[threading.current_thread()]
            source.close()
