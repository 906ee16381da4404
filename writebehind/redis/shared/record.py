"""Records of an installation: what all of its processes must agree on, noted by the first that uses a Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from writebehind.errors import RedisUnavailableError
from writebehind.logs.events import OTHER_HANDS
from writebehind.redis.reach import is_away
from writebehind.redis.scripts import script
from writebehind.redis.topology.confirming import see_recorded
from writebehind.redis.wire import Wire

log = logging.getLogger(__name__)

_RECORD_FIRST, _CHANGE_RECORD = script("record_first"), script("change_record")


class Recordable(Protocol):
    """A value that can be recorded."""

    @property
    def record(self) -> str | bytes:
        """The record as it stands in Redis; never empty."""


R = TypeVar("R", bound=Recordable)


class Record(Generic[R]):
    """One record in one Redis, and what is done to change it. Safe to share between threads."""

    def __init__(self, wire: Wire, key: str, parse: Callable[[bytes | None], R | None]) -> None:
        """Keep it at a key; `parse` returns `None` for nothing, or what other hands have written."""
        self._wire = wire
        self._key = key
        self._parse = parse
        #: The last one that was seen, which holds while its server is away and others are not.
        self._known: R | None = None

    def recorded(self) -> R | None:
        """The record; `None` in a Redis that nobody has used yet.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return self.read(self._wire.call("GET", self._key))

    def read(self, record: bytes | None) -> R | None:
        """The record, by what was found at its key."""
        found = self._parse(record)
        self._known = found or self._known
        return found

    def known(self) -> R | None:
        """The last one that this process has seen, where its server is away and others may not be."""
        return self._known if self._wire.has_several else None

    def first(self, value: R) -> R:
        """Record a value where there is none yet, also in a full Redis; what is recorded then.

        While its server is away, what this process has seen there last. Raises as `recorded`.
        """
        try:
            record = self._wire.run(_RECORD_FIRST, (self._key,), (value.record,))
        except RedisUnavailableError as error:
            known = self.known() if is_away(error) else None
            if known is None:
                raise
            return known
        found = self.read(record)
        if found is None:
            log.critical("other hands put %r in the place of %s", record, self._key, extra=OTHER_HANDS)
            self._wire.run(_CHANGE_RECORD, (self._key,), (record, value.record))
            found = self.recorded() or value
        return found

    def see_confirmed(self) -> None:
        """See that replicas have the record as it stands, before anybody goes on by it.

        Raises:
            MoveError: they do not.
            RedisUnavailableError: as `recorded`.
        """
        see_recorded(self._wire.connections(self._key), self._key)

    def change(self, seen: R, new: R) -> bool:
        """Change the record, if it is still what was seen. Raises as `recorded`."""
        return bool(self._wire.run(_CHANGE_RECORD, (self._key,), (seen.record, new.record)))
