"""Bodies that a walk compares with their ETags: drawn by size, so that each walk reads about as much."""

from __future__ import annotations

import random
from collections.abc import Mapping

from writebehind.documents.entry import BODY_AT
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Shown

#: Bodies are read in about so many bytes in a walk, and in a step, where larger ones are drawn the less often.
WALK_BYTES, STEP_BYTES = 16 << 20, 4 << 20
#: Bodies of less than so many bytes are read in the step that reads the headers.
SHORT = 4_096


class BodyDraw:
    """Draws bodies for one walk after the other. Each is drawn with a chance of `share` bytes by its size.

    For one thread.
    """

    def __init__(self, store: Store) -> None:
        """Read them from a store."""
        self._store = store
        self._share = 1.0

    def begin(self, keys: int, step: int) -> None:
        """Begin a walk over so many keys, about `step` at a time."""
        self._share = min(WALK_BYTES / max(1, keys), STEP_BYTES / max(1, min(keys, step)))

    def short(self) -> int:
        """Less than so many bytes of each body are to be read in the next step."""
        return int(min(SHORT, self._drawn()))

    def damaged(self, shown: Mapping[str, Shown]) -> set[str]:
        """Those of the entries whose larger bodies are drawn, and not what their ETags are of.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        drawn = {
            member: most
            for member, one in shown.items()
            if one.intact is None and len(one.header) == BODY_AT and (most := self._drawn()) >= SHORT
        }
        if not drawn:
            return set()
        sizes = zip(drawn, self._store.cache.sizes(list(drawn)), strict=True)
        return self._store.bodies.damaged([member for member, size in sizes if size <= drawn[member]])

    def _drawn(self) -> float:
        """A size that is at least any given one with a chance of the share by that."""
        return self._share / (1 - random.random())  # noqa: S311 - no secret
