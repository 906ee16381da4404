"""Writes that callers were told have failed: counted by the reason, or by the cap that they met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from writebehind.errors import (
    MemoryPressureError,
    PartitionFullError,
    RedisFullError,
    TooManyDeadLettersError,
    WritebehindError,
)
from writebehind.tallies import families
from writebehind.tallies.failures import Failures

#: The caps that writes meet, as they are counted.
CAPS: Final[Mapping[type[WritebehindError], str]] = {
    PartitionFullError: "pending",
    MemoryPressureError: "memory",
    TooManyDeadLettersError: "dead-letters",
    RedisFullError: "redis-full",
}


class FailedWrites(Failures[WritebehindError]):
    """Counts the failed writes of one collection: a `with` block is one write.

    Its place is where a caller is told, so that a write which is tried several times, or waits for MongoDB after
    it was committed, fails once.
    """

    kind = WritebehindError

    def note(self, error: WritebehindError, writes: int = 1) -> None:
        """Count so many writes that ended so; a request that is wrong in itself is none."""
        if cap := CAPS.get(type(error)):
            self._tallies.add(families.REFUSED_WRITES, (self._collection, cap), writes)
        elif error.reason is not None:
            self._tallies.add(families.FAILED_WRITES, (self._collection, error.reason.value), writes)
