"""The size of a bulk write: as many as MongoDB answers in good time.

Additive increase, multiplicative decrease: D. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms
for Congestion Avoidance in Computer Networks", 1989.
"""

from __future__ import annotations

from writebehind import forks

#: Size of the first batch, and by how much the next may be larger.
START, STEP = 250, 50


class BatchSize:
    """One process's batch size. Safe to share between threads."""

    def __init__(self, *, least: int, most: int, target_s: float) -> None:
        """Take the limits in documents, and how long one bulk write should take."""
        self._least = least
        self._most = most
        self._target_s = target_s
        self._size = min(max(START, least), most)
        self._lock = forks.lock()

    @property
    def size(self) -> int:
        """Documents in the next batch."""
        return self._size

    def took(self, documents: int, seconds: float) -> None:
        """Note how long a bulk write took."""
        with self._lock:
            if seconds > self._target_s:
                self._size = max(self._least, self._size // 2)
            elif documents >= self._size:  # a smaller one says nothing of how a larger one would do
                fast = seconds < self._target_s / 4  # as after an outage: no need to feel the way in small steps
                self._size = min(self._most, self._size * 2 if fast else self._size + STEP)

    def failed(self) -> None:
        """Note that MongoDB did not take a bulk write."""
        with self._lock:
            self._size = max(self._least, self._size // 2)
