"""Collections that have figures of their own besides those of the settings: one list, so that all label alike."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from writebehind.errors import RedisFullError
from writebehind.redis import keys
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs
from writebehind.tallies.families import MOST_UNLISTED


class Labels:
    """The list in one Redis: it grows until it is full, and no name leaves it. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def told_apart(self, names: Iterable[str]) -> list[str]:
        """The first `MOST_UNLISTED` names that anybody has given; these are added as long as there is room.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        noted = self._noted()
        room = max(0, MOST_UNLISTED - len(noted))
        if new := [one for one in dict.fromkeys(names) if one not in noted][:room]:
            # By turns, and no clock, which may step. What others add meanwhile may be too much: the last ones go.
            turns = enumerate(new, max(noted.values(), default=0) + 1)
            added = [part for turn, name in turns for part in (turn, name)]
            with suppress(RedisFullError):
                self._wire.call("ZADD", keys.LABELS, "NX", *added)
                self._wire.call("ZREMRANGEBYRANK", keys.LABELS, MOST_UNLISTED, -1)
            noted = self._noted()
        return [*noted]

    def _noted(self) -> dict[str, int]:
        """Names in their order, each with its turn."""
        noted = self._wire.call("ZRANGE", keys.LABELS, 0, MOST_UNLISTED - 1, "WITHSCORES")
        return {name.decode(errors="replace"): whole(turn) for name, turn in pairs(noted)}
