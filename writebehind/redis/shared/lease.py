"""Leases: the right to do what only one process may do at a time; and that of the listener, with its position."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from writebehind.errors import RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.reach import is_away
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

_TAKE_LEASE, _ABANDON, _TAKE_LEAD = script("take_lease"), script("abandon"), script("take_lead")


class Lease:
    """The right to do something, until it is released or runs out: nobody waits long for a process that died.

    A holder that was stopped for longer than the lease may find that somebody else has had it meanwhile. So it
    renews at each step, notes what it has done only with that, and stops when that fails.

    One that only saves work is not needed: while its server is away and others are not, each has it.
    """

    def __init__(self, wire: Wire, key: str, life_ms: int, *, needed: bool = True) -> None:
        """Prepare to take it.

        Args:
            wire: the server.
            key: where its token stands.
            life_ms: how long it lasts without being renewed.
            needed: whether it is safe only by this that one process does it at a time, or goes on with it.
        """
        self._is_needed = needed
        self._wire = wire
        self._key = key
        self._life_ms = life_ms
        self.token = uuid4().hex

    def take(self) -> bool:
        """Take it, or keep it; false when somebody else has it.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return self._run((self._key,), (self.token, self._life_ms, 1))

    def renew(self, key: str = "", noted: bytes = b"") -> bool:
        """Keep it, and note something under a key; false when it is lost, and then nothing is noted.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        places = (self._key, key) if key else (self._key,)
        return self._run(places, (self.token, self._life_ms, "", noted))

    def release(self) -> None:
        """Give it back, if it is held.

        Raises:
            RedisUnavailableError: Redis does not answer; it runs out.
        """
        try:
            self._wire.run(_ABANDON, (self._key,), (self.token,))
        except RedisUnavailableError as error:
            if not self._is_dispensable(error):
                raise

    def _run(self, places: Sequence[str], arguments: Sequence[object]) -> bool:
        try:
            return bool(self._wire.run(_TAKE_LEASE, places, arguments))
        except RedisUnavailableError as error:
            if not self._is_dispensable(error):
                raise
            return True

    def _is_dispensable(self, error: RedisUnavailableError) -> bool:
        return not self._is_needed and is_away(error) and self._wire.has_several


class Position:
    """The place to which the change stream has been followed, and who leads. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def lead(self, token: str, *, life_ms: int, noted: bytes) -> bytes | None:
        """Become or stay the one that follows, and note how far it has come, b'' for nothing new.

        Returns:
            What was noted last; `None` when another one leads.
        """
        leads, known = self._wire.run(_TAKE_LEAD, (keys.LISTENER_LEASE, keys.LISTENER), (token, life_ms, noted))
        return bytes(known) if leads else None

    def noted(self) -> bytes:
        """The last note; b'' for none."""
        noted: bytes | None = self._wire.call("GET", keys.LISTENER)
        return noted or b""

    def forget(self) -> None:
        """Let whoever leads next begin anew, with an empty cache."""
        self._wire.call("DEL", keys.LISTENER)

    def give_up(self, token: str) -> None:
        """Let another one lead."""
        self._wire.run(_ABANDON, (keys.LISTENER_LEASE,), (token,))
