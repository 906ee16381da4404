"""The keys of a server that change, as it tells of them: broadcast invalidations of client-side caching.

Source: https://redis.io/docs/latest/develop/reference/client-side-caching/#broadcasting-mode
"""

from __future__ import annotations

import time
from typing import Any, Self

from redis.exceptions import RedisError, ResponseError

from writebehind.errors import RedisUnavailableError, told
from writebehind.redis.connections import Connections
from writebehind.redis.topology.record import MoveError

_CHANNEL = "__redis__:invalidate"


class Invalidations:
    """Changes among the keys with a prefix, from its start on. A context; for one thread."""

    def __init__(self, server: Connections, prefix: str) -> None:
        """Listen to a server."""
        self._server = server
        self._prefix = prefix

    def __enter__(self) -> Self:
        self._told = self._server.opened()
        self._telling = self._server.opened()
        try:
            listener = _ask(self._told, "CLIENT", "ID")
            _ask(self._told, "SUBSCRIBE", _CHANNEL)
            _ask(self._telling, "CLIENT", "TRACKING", "ON", "REDIRECT", listener, "BCAST", "PREFIX", self._prefix)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._told, self._telling):
            one.disconnect()

    def taken(self) -> set[bytes]:
        """The keys that have changed since they were last taken, as far as the server has told.

        Raises:
            RedisUnavailableError: it does not tell any more.
        """
        keys: set[bytes] = set()
        while self._is_told(0):
            keys |= self._read()
        return keys

    def until(self, key: bytes, seconds: float) -> set[bytes] | None:
        """The same, up to the change of a key that is just made; `None` if that is not told in time."""
        keys, end = set[bytes](), time.monotonic() + seconds
        while key not in keys:
            if not self._is_told(max(0.0, end - time.monotonic())):
                return None
            keys |= self._read()
        return keys

    def _is_told(self, seconds: float) -> bool:
        try:
            return bool(self._told.can_read(timeout=seconds))
        except (RedisError, OSError) as error:
            raise _lost(error) from error

    def _read(self) -> set[bytes]:
        try:
            message = self._told.read_response()
        except (RedisError, OSError) as error:
            raise _lost(error) from error
        keys = message[2] if isinstance(message, list) and message[0] == b"message" else ()
        if keys is None:
            raise RedisUnavailableError("all keys of a server were dropped, while some of them were moved")
        return set(keys)


def _ask(connection: Any, *command: object) -> Any:
    try:
        connection.send_command(*command)
        return connection.read_response()
    except ResponseError as error:
        raise MoveError(f"a server refuses {command[0]}, which tells what changes: {told(error)}") from error
    except (RedisError, OSError) as error:
        raise _lost(error) from error


def _lost(error: Exception) -> RedisUnavailableError:
    return RedisUnavailableError("a server does not tell what changes", inner=told(error))
