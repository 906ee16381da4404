"""Requests at a steady rate, at random times: `Steady` sends them by one thread over connections that stay."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Self

from bench.load import complete

CONNECTIONS = 64


class Steady:
    """Sends what `request` makes, so many times a second, for as long as its `with` block lasts.

    A request that is due while all connections wait for answers is sent late, and none is left out.
    """

    def __init__(self, port: int, rate: float, request: Callable[[], bytes], seed: int = 1) -> None:
        self._port, self._rate, self._request = port, rate, request
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: Counter[bytes] = Counter()
        self.refused_at: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        idle, parts = deque[socket.socket](), dict[int, bytes]()
        with selectors.DefaultSelector() as selector:
            for _ in range(CONNECTIONS):
                one = socket.create_connection(("127.0.0.1", self._port))
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                idle.append(one)
                selector.register(one, selectors.EVENT_READ)
            due = time.monotonic()
            while not self._over.is_set():
                while idle and due <= time.monotonic():
                    idle.popleft().sendall(self._request())
                    due += self._chance.expovariate(self._rate)
                wait = min(max(due - time.monotonic(), 0), 0.1) if idle else 0.1
                for key, _ in selector.select(wait):
                    answer = parts.pop(key.fd, b"") + key.fileobj.recv(1 << 20)
                    if complete(answer):
                        self._note(answer[9:12])
                        idle.append(key.fileobj)
                    elif answer:
                        parts[key.fd] = answer
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def _note(self, status: bytes) -> None:
        self.answers[status] += 1
        if status == b"503" and self.refused_at is None:
            self.refused_at = time.monotonic()
