"""Caps from which new documents are refused, as processes tell that apply them: each has settings of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: Between two times that a process tells its caps, seconds; and for so long one counts as applying them, ms.
TELL_EVERY_S, LIVE_MS = 5.0, 15_000
#: For so long it is remembered what was told last, ms: a day.
REMEMBERED_MS = 24 * 3_600_000

_RECORD = script("record_heartbeat")
_TOLD = re.compile(rb"([1-9][0-9]{0,17}) ([0-9]{1,3}(?:\.[0-9]{1,6})?)")


@dataclass(frozen=True, slots=True)
class Caps:
    """Caps from which new documents are refused: pending in one partition, and the part of Redis's `maxmemory`."""

    max_pending: int
    max_memory: float

    def as_dict(self) -> dict[str, float]:
        """As settings say it."""
        return {
            "max_pending_per_partition": self.max_pending,
            "max_memory_percent": round(100 * self.max_memory, 6),
        }

    @property
    def told(self) -> str:
        """The caps as they stand in Redis."""
        return f"{self.max_pending} {round(100 * self.max_memory, 6):f}"

    @classmethod
    def parse(cls, told: bytes) -> Self | None:
        """Read what `told` wrote; `None` for what other hands have put there."""
        found = _TOLD.fullmatch(told)
        caps = None if found is None else cls(int(found[1]), float(found[2]) / 100)
        return caps if caps is not None and 0 < caps.max_memory <= 1 else None


@dataclass(frozen=True, slots=True)
class Applied:
    """Caps that processes apply.

    Attributes:
        caps: of all that apply some now each the lowest; where none does now, those that were told last.
        differ: whether these processes apply different ones.
        told_s: since when they were told last, seconds; `None` where none were: they are those of this process.
    """

    caps: Caps
    differ: bool = False
    told_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a status."""
        return {**self.caps.as_dict(), "differ": self.differ, "told_seconds_ago": self.told_s}


class CapsRecord:
    """The caps in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire

    def tell(self, caps: Caps) -> None:
        """Note that this process applies these now, also in a full Redis.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._wire.run(_RECORD, (keys.CAPS,), (caps.told, REMEMBERED_MS, 0))

    def applied(self, own: Caps, now_ms: int) -> Applied:
        """The caps that processes apply; `own` where none has told any lately. Raises as `tell`."""
        noted = pairs(self._wire.call("ZRANGE", keys.CAPS, 0, -1, "WITHSCORES"))
        # What lies ahead is from before a clock stepped back, and says nothing.
        told = [
            ((now_ms - at) / 1000, caps)
            for one, score in noted
            if (caps := Caps.parse(one)) and -LIVE_MS <= now_ms - (at := whole(score)) < REMEMBERED_MS
        ]
        if not told:
            return Applied(own)
        last_s = min(ago_s for ago_s, _ in told)
        live = {caps for ago_s, caps in told if ago_s <= max(last_s, LIVE_MS / 1000)}
        lowest = Caps(min(one.max_pending for one in live), min(one.max_memory for one in live))
        return Applied(lowest, len(live) > 1, max(0.0, last_s))
