"""Points of the history: a list of those of a second, and one of those of longer times, the last first."""

from __future__ import annotations

from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.lease import Lease
from writebehind.redis.wire import Wire

_RECORD_POINT = script("record_point")


class HistoryLog:
    """The points in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire

    def add(self, lease: Lease, point: bytes, coarse: bytes, *, most: int, most_coarse: int) -> bool:
        """Add a point, and one of a longer time, b'' for none yet; false where somebody else has the lease.

        No more than `most` and `most_coarse` of them are kept, also in a full Redis.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        keys_of = (keys.HISTORY_LEASE, keys.HISTORY, keys.HISTORY_COARSE)
        return bool(self._wire.run(_RECORD_POINT, keys_of, (lease.token, point, most, coarse, most_coarse)))

    def points(self, most: int) -> list[bytes]:
        """The last points of a second, at most so many, the last one first. Raises as `add`."""
        found: list[bytes] = self._wire.call("LRANGE", keys.HISTORY, 0, most - 1)
        return found

    def all(self) -> tuple[list[bytes], list[bytes]]:
        """All points of a second, and all of longer times, each the last one first. Raises as `add`."""
        fine, coarse = self._wire.calls(
            (("LRANGE", keys.HISTORY, 0, -1), ("LRANGE", keys.HISTORY_COARSE, 0, -1)),
        )
        return fine, coarse
