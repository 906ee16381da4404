"""API keys in Redis: one hash, to which each change adds a field, so that no two of them undo each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from writebehind.redis.keys import API_KEYS
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs


@dataclass(slots=True)
class Recorded:
    """One key as it is kept: how it began, its later secrets in order, and since when it is revoked."""

    begun: bytes = b""
    rotations: dict[int, bytes] = field(default_factory=dict)
    revoked: bytes = b""


class ApiKeys:
    """The keys of one installation. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire

    def read(self) -> Mapping[str, Recorded]:
        """All of them, by their ids.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        found: dict[str, Recorded] = {}
        for name, value in pairs(self._wire.call("HGETALL", API_KEYS)):
            key_id, _, what = name.decode("utf-8", "replace").partition(":")
            one = found.setdefault(key_id, Recorded())
            if not what:
                one.begun = value
            elif what == "revoked":
                one.revoked = value
            elif what.isascii() and what.isdecimal():
                one.rotations[int(what)] = value
        return found

    def count(self) -> int:
        """The number of fields: at least that of keys. Raises as `read`."""
        return int(self._wire.call("HLEN", API_KEYS))

    def begin(self, key_id: str, record: bytes) -> bool:
        """Keep a new key; false where there is one with this id. Raises as `read`."""
        return self._add(key_id, record)

    def rotate(self, key_id: str, number: int, record: bytes) -> bool:
        """Keep the secret after the rotation of this number, from 1; false where somebody has been first.

        Raises: as `read`.
        """
        return self._add(f"{key_id}:{number}", record)

    def revoke(self, key_id: str, at_ms: int) -> bool:
        """Note that a key is revoked; false where it is already. Raises as `read`."""
        return self._add(f"{key_id}:revoked", str(at_ms).encode())

    def _add(self, name: str, value: bytes) -> bool:
        return bool(self._wire.call("HSETNX", API_KEYS, name, value))
