"""Collections that have figures of their own besides those of the settings: one list, so that all label alike."""

from __future__ import annotations

from collections.abc import Iterable

from writebehind.errors import RedisFullError
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire
from writebehind.tallies.families import MOST_UNLISTED

_TELL_APART = script("tell_apart")


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
        try:
            told = self._wire.run(_TELL_APART, (keys.LABELS,), (MOST_UNLISTED, *names))
        except RedisFullError:
            told = self._wire.call("ZRANGE", keys.LABELS, 0, MOST_UNLISTED - 1)
        return [name.decode(errors="replace") for name in told]
