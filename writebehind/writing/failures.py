"""Writes that callers were told have failed: counted by the reason, or by the cap that they met."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final

from writebehind.errors import (
    MemoryPressureError,
    PartitionFullError,
    RedisFullError,
    TooManyDeadLettersError,
    WritebehindError,
)
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

#: The caps that writes meet, as they are counted.
CAPS: Final[Mapping[type[WritebehindError], str]] = {
    PartitionFullError: "pending",
    MemoryPressureError: "memory",
    TooManyDeadLettersError: "dead-letters",
    RedisFullError: "redis-full",
}


class Failures:
    """Counts the failed writes of one collection: a `with` block is one write. Safe to share between threads.

    Its place is where a caller is told, so that a write which is tried several times, or waits for MongoDB after
    it was committed, fails once.
    """

    def __init__(self, tallies: Tallies, collection: str) -> None:
        """Count in these tallies."""
        self._tallies = tallies
        self._collection = collection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, WritebehindError):
            self.note(error)

    def note(self, error: WritebehindError, writes: int = 1) -> None:
        """Count so many writes that ended so; a request that is wrong in itself is none."""
        if cap := CAPS.get(type(error)):
            self._tallies.add(families.REFUSED_WRITES, (self._collection, cap), writes)
        elif error.reason is not None:
            self._tallies.add(families.FAILED_WRITES, (self._collection, error.reason.value), writes)
