"""Documents in Redis, in expected values: those that wait for MongoDB in an outage, and those that are cached."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from writebehind.planning.popularity import Group

#: Writes within a TTL from which a document is always there, and below which none keeps it there.
_ALWAYS, _HARDLY = 700.0, 1e-9
#: Steps in which a time is found.
_HALVINGS = 40


@dataclass(frozen=True)
class Accesses:
    """Accesses to documents.

    Attributes:
        groups: the documents that are accessed again and again.
        writes: to these in a second, and `reads` of them.
        created: documents in a second that are written once.
        ttl_s: how long a document stays after its last write, or after a read that did not find it.
    """

    groups: Sequence[Group]
    writes: float
    reads: float
    created: float
    ttl_s: float

    def waiting(self, seconds: float) -> float:
        """Documents that are written at least once in so many seconds."""
        return self.created * seconds + sum(
            group.documents * -math.expm1(-group.part * self.writes * seconds) for group in self.groups
        )

    def cached(self, seconds: float = 0.0) -> float:
        """Documents that are there, and were not written in an outage of so many seconds: none is loaded in it."""
        left = max(0.0, 1 - seconds / self.ttl_s)  # of those that are there some leave at any time
        return left * self.created * self.ttl_s + left * sum(
            group.documents * there * math.exp(-group.part * self.writes * seconds)
            for group, there in zip(self.groups, self._there, strict=True)
        )

    def misses(self) -> float:
        """Reads in a second of documents that are not there."""
        absent = ((1 - there) * group.part for group, there in zip(self.groups, self._there, strict=True))
        return self.reads * sum(part * group.documents for part, group in zip(absent, self.groups, strict=True))

    @cached_property
    def _there(self) -> list[float]:
        """The part of the time for which a document of each group is there."""
        return [self._time_there(group) for group in self.groups]

    def _time_there(self, group: Group) -> float:
        """The part of the time for which a document of a group is there.

        It stays until nobody has written it for `ttl_s`: for (exp(w * ttl_s) - 1) / w on average, where w is how
        often it is written in a second. Then it comes back with the next write or read.
        """
        written, read = group.part * self.writes, group.part * self.reads
        if not written + read:
            return 0.0
        exponent = written * self.ttl_s
        if exponent > _ALWAYS:
            return 1.0
        stays = math.expm1(exponent) / written if exponent > _HARDLY else self.ttl_s
        return stays / (stays + 1 / (written + read))


def when(amount: Callable[[float], float], most: float, until_s: float) -> float | None:
    """Seconds after which an amount that grows reaches `most`: 0 where it has, `None` where not by `until_s`."""
    if amount(until_s) < most:
        return None
    low, high = 0.0, until_s
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if amount(middle) >= most else (middle, high)
    return high if high > until_s / 2**39 else 0.0
