"""API keys in Redis: one hash, to which each change adds a field, so that no two of them undo each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from redis.exceptions import ResponseError

from writebehind.errors import RedisUnavailableError
from writebehind.redis.info import parse_info
from writebehind.redis.keys import API_KEYS
from writebehind.redis.scripts import script
from writebehind.redis.topology.routing import Answered
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: Stays when all keys are forgotten.
THERE_WERE = "there were keys"
#: For so long a replica is waited for, ms.
REPLICA_MS = 300

_ADD = script("add_key_field")


@dataclass(slots=True)
class Recorded:
    """One key as it is kept: how it began, its later secrets in order, and since when it is revoked."""

    begun: bytes = b""
    rotations: dict[int, bytes] = field(default_factory=dict)
    revoked: bytes = b""


class Kept(NamedTuple):
    """A change as it is kept.

    Attributes:
        is_first: whether nobody has made it before.
        replicated: whether a replica has it, so that a failover does not undo it; `None` where there are none.
    """

    is_first: bool
    replicated: bool | None


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

    def begin(self, key_id: str, record: bytes) -> Kept:
        """Keep a new key; not where there is one with this id. Raises as `read`."""
        return self._add(key_id, record)

    def rotate(self, key_id: str, number: int, record: bytes) -> Kept:
        """Keep the secret after the rotation of this number, from 1; not where somebody has been first.

        The rotation before stays, as its secret may be accepted; those before that go.

        Raises: as `read`.
        """
        return self._add(f"{key_id}:{number}", record, f"{key_id}:{number - 2}")

    def revoke(self, key_id: str, at_ms: int) -> Kept:
        """Note that a key is revoked, if it is not noted. Raises as `read`."""
        return self._add(f"{key_id}:revoked", str(at_ms).encode())

    def forget(self, key_id: str, recorded: Recorded) -> None:
        """Forget a key, but not that there were keys. Raises as `read`."""
        fields = [key_id, f"{key_id}:revoked", *(f"{key_id}:{number}" for number in recorded.rotations)]
        self._wire.call("HSETNX", API_KEYS, THERE_WERE, b"1")
        self._wire.call("HDEL", API_KEYS, *fields)

    def _add(self, name: str, value: bytes, *dropped: str) -> Kept:
        """Add a field, and wait for a replica, if there is one: a failover would undo what none has."""
        answers, (confirmed,) = self._wire.run_each(
            _ADD, [((API_KEYS,), (name, value, *dropped))], lambda _: [("WAIT", 1, REPLICA_MS)]
        )
        if isinstance(answers[0], Exception):
            raise answers[0]
        return Kept(bool(answers[0]), self._replicated(confirmed))

    def _replicated(self, confirmed: Answered | None) -> bool | None:
        if confirmed is not None and isinstance(confirmed[1], int) and confirmed[1]:
            return True
        try:
            facts = parse_info(self._wire.at(self._wire.server_of(API_KEYS), "INFO", "replication"))
        except (RedisUnavailableError, ResponseError):
            return False
        has_some = facts.get("connected_slaves", "0") != "0"
        return False if has_some or facts.get("repl_backlog_active") == "1" else None
