"""A TCP proxy on loopback whose connections can be cut or left hanging."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes bytes between clients and a server on `127.0.0.1:target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._delay_s = 0.0
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

    def hang(self) -> None:
        """Keep connections open and pass nothing on."""
        self._flows.clear()

    def flow(self) -> None:
        """End `hang`."""
        self._flows.set()

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
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets += (client, server)
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pass_on, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self._flows.is_set():
                    self.held.append(len(data))
                    self._flows.wait()
                    self.held.remove(len(data))
                if self._delay_s:
                    time.sleep(self._delay_s)
                if not self._open:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()
