"""So many of something in each second, and no more."""

from __future__ import annotations

from time import monotonic


class Allowance:
    """Bounds what others can cause. Threads that share one may exceed it by a few."""

    def __init__(self, most: int) -> None:
        """Allow so many in a second."""
        self._most = self._left = most
        self._second = 0

    def take(self) -> bool:
        """Take one of this second; whether there was one left."""
        if (second := int(monotonic())) != self._second:
            self._second, self._left = second, self._most
        if self._left <= 0:
            return False
        self._left -= 1
        return True
