"""A proxy before MongoDB that changes what is asked and answered, in MongoDB's own protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import bson

from tests.proxy import Proxy

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013

#: Takes a command with its documents, and the server's answer; what the client gets instead, or `None`.
Rewrite = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]
#: Takes a command with its documents; the answer that the client gets without the server, `None` to ask that one.
Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


class RewritingProxy(Proxy):
    """Answers in the server's place as `answer` says, and changes its answers as `rewrite` says."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.rewrite: Rewrite = lambda _command, _reply: None
        self.answer: Answer = lambda _command: None

    def _pass_on(self, source: socket.socket, sink: socket.socket, *rest: Any) -> None:
        *_, to_client = rest
        if to_client:  # the other thread of the connection serves both ways
            return
        try:
            while (message := _received(source)) is not None:
                command = _read(message)
                reply = self.answer(command) if command else None
                if reply is None:
                    sink.sendall(message)
                    answered = _received(sink)
                    if answered is None:
                        break
                    reply = self.rewrite(command, _read(answered)) if command else None
                    if reply is None:
                        source.sendall(answered)
                        continue
                source.sendall(_message(reply, message))
        except OSError:  # closed from here, or from there
            pass
        finally:
            for one in (source, sink):
                one.close()


def _received(source: socket.socket) -> bytes | None:
    """The next message; `None` at the end."""
    data = b""
    while len(data) < 4 or len(data) < int.from_bytes(data[:4], "little"):
        size = int.from_bytes(data[:4], "little") if len(data) >= 4 else 4
        more = source.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


def _read(message: bytes) -> dict[str, Any]:
    """The document of a message, with its sequences of documents; nothing of another kind of message."""
    size, _, _, kind = _HEADER.unpack(message[: _HEADER.size])
    document: dict[str, Any] = {}
    at = _HEADER.size + 4
    while kind == _OP_MSG and at < size:
        end = at + 1 + int.from_bytes(message[at + 1 : at + 5], "little")
        if message[at] == 0:
            document = bson.decode(message[at + 1 : end]) | document
        else:
            name_end = message.index(b"\0", at + 5)
            document[message[at + 5 : name_end].decode()] = bson.decode_all(message[name_end + 1 : end])
        at = end
    return document


def _message(document: dict[str, Any], request: bytes) -> bytes:
    body = bytes(5) + bson.encode(document)
    return _HEADER.pack(_HEADER.size + len(body), 0, int.from_bytes(request[4:8], "little"), _OP_MSG) + body
