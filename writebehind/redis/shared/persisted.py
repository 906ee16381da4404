"""Documents persisted in each of the last seconds, whoever has flushed them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from writebehind.redis.strays import count, whole
from writebehind.sequences import pairs

#: Seconds of which it is remembered how many were persisted: a minute, and the present second.
REMEMBERED_S: Final = 61
#: Present rates are of so many seconds, and the best one of the last minute as well.
RATE_S: Final = 10


@dataclass(frozen=True, slots=True)
class Persisted:
    """Documents persisted in the last minute.

    Attributes:
        now: the present by the clock of Redis, seconds since the epoch.
        by_second: how many, by the second in which they were, since the epoch; only where any was.
    """

    now: float
    by_second: Mapping[int, int]

    @property
    def per_second(self) -> float:
        """The present rate: of the last 10 s, and what has passed of this second."""
        since = math.floor(self.now) - RATE_S
        return self.since(since) / (self.now - since)

    @property
    def best_per_second(self) -> float:
        """The rate of the best 10 s of the last minute."""
        now = math.floor(self.now)
        slots = [0] * (REMEMBERED_S // RATE_S)
        for second, number in self.by_second.items():
            if (slot := (now - second) // RATE_S) < len(slots):
                slots[slot] += number
        return max(slots) / RATE_S

    @property
    def last_s(self) -> float:
        """The time since anything was last persisted, seconds; a minute at most."""
        last = max(self.by_second, default=-math.inf)
        return min(float(REMEMBERED_S), max(0.0, self.now - last - 1))

    def since(self, second: int) -> int:
        """Documents persisted from the beginning of a second on."""
        return sum(number for at, number in self.by_second.items() if at >= second)


def read(noted: Sequence[bytes], now: float) -> Persisted:
    """The answer of Redis: seconds and counts in turn. Other hands' values count as nothing."""
    counts = ((whole(second), count(number)) for second, number in pairs(noted))
    return Persisted(now, {at: number for at, number in counts if number and now - REMEMBERED_S < at <= now})
