"""Proxies that note what clients ask the servers behind them, in the servers' own protocols."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import bson
import hiredis

from tests.proxy import Proxy

_HEADER_BYTES = 16
_OP_MSG = 2013
#: What a MongoDB driver asks for its own sake.
_HANDSHAKES = {"hello", "ismaster", "isMaster", "saslStart", "saslContinue", "opcode 2004"}


class _Heard:
    """A socket of which somebody hears what is received."""

    def __init__(self, source: socket.socket, hear: Callable[[bytes], None]) -> None:
        self._source = source
        self._hear = hear

    def recv(self, size: int) -> bytes:
        data = self._source.recv(size)
        self._hear(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class Tap(Proxy):
    """A proxy that hears what clients say."""

    def ear(self) -> Callable[[bytes], None]:
        """What hears one connection."""
        raise NotImplementedError

    def _pass_on(self, source: socket.socket, sink: socket.socket, gate: threading.Event, to_client: bool) -> None:
        super()._pass_on(source if to_client else _Heard(source, self.ear()), sink, gate, to_client)


class RedisTap(Tap):
    """Notes the names of the commands that clients send; `trips` has one item for each that were sent together."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.trips: list[tuple[str, ...]] = []

    def ear(self) -> Callable[[bytes], None]:
        reader = hiredis.Reader()

        def hear(data: bytes) -> None:
            reader.feed(data)
            commands = list(iter(reader.gets, False))
            if commands:
                self.trips.append(tuple(map(_name, commands)))

        return hear


def _name(command: list[bytes]) -> str:
    """Its own name, but for some scripts.

    Those are of what is no partition's, `SHARED`, such as the breaker's; that which records whose Redis it is,
    `RECORD`; and that which adds reads up, `HEAT`.
    """
    name = command[0].decode().upper()
    if name != "EVALSHA":
        return name
    if not command[3].startswith(b"wb:{"):
        return "RECORD" if command[3] == b"wb:database" else "SHARED"
    return "HEAT" if command[3].endswith(b"}:hot") else name


class MongoTap(Tap):
    """Notes the commands that clients send, each with what it is about; not the driver's own handshakes.

    Queries are passed on only while `queries_pass` is set.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.commands: list[tuple[str, Any]] = []
        self.queries_pass = threading.Event()
        self.queries_pass.set()

    def close(self) -> None:
        self.queries_pass.set()
        super().close()

    def ear(self) -> Callable[[bytes], None]:
        buffer = bytearray()

        def hear(data: bytes) -> None:
            buffer.extend(data)
            while len(buffer) >= _HEADER_BYTES and len(buffer) >= (size := int.from_bytes(buffer[:4], "little")):
                command = _command(bytes(buffer[:size]))
                if command[0] not in _HANDSHAKES:
                    self.commands.append(command)
                del buffer[:size]
                if command[0] == "find":
                    self.queries_pass.wait()

        return hear


def _command(message: bytes) -> tuple[str, Any]:
    """The name of a message's command and its argument. What cannot be read shows as its number."""
    kind = int.from_bytes(message[12:16], "little")
    if kind != _OP_MSG:
        return f"opcode {kind}", None
    start = _HEADER_BYTES + 4 + 1  # flags, and the kind of the first section, which is the command itself
    size = int.from_bytes(message[start : start + 4], "little")
    return next(iter(bson.decode(message[start : start + size]).items()))
