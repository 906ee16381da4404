"""Counts of looks at what readers see, by slots of time, and the documents that were not what they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from writebehind.errors import RedisFullError
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: A slot, and how long one is remembered, seconds.
SLOT_S, REMEMBERED_S = 300, 86_400
#: So many documents are remembered.
MOST_REMEMBERED = 300

#: The name under which an observer tells that it looks. What lies so far ahead says nothing, seconds.
_OBSERVER, _AHEAD_S = "consistency", 15.0

_ADD_SAMPLES, _RECORD = script("add_samples"), script("record_heartbeat")


class Samples:
    """Counts of one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire

    def add(self, counts: Mapping[str, int], wrong: Sequence[bytes] = ()) -> None:
        """Add counts to the slot of now, and documents to the latest; not while Redis is full.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        places = (keys.consistency(self.slot()), keys.INCONSISTENT)
        named = [part for one in counts.items() for part in one]
        with suppress(RedisFullError):
            self._wire.run(_ADD_SAMPLES, places, (REMEMBERED_S, MOST_REMEMBERED, len(counts), *named, *wrong))

    def note_observed(self) -> None:
        """Note that somebody looks now, whether there is anything to see or not. Raises as `add`."""
        self._wire.run(_RECORD, (keys.OBSERVED,), (_OBSERVER, REMEMBERED_S * 1000, 0))

    def observed_s(self, now_ms: int) -> float | None:
        """The time since somebody last looked, seconds; `None` where nobody has in a day. Raises as `add`."""
        at_ms = whole(self._wire.call("ZSCORE", keys.OBSERVED, _OBSERVER))
        ago_s = (now_ms - at_ms) / 1000
        return max(0.0, ago_s) if -_AHEAD_S < ago_s < REMEMBERED_S else None

    def slot(self) -> int:
        """The number of the slot of now."""
        return self._wire.now_ms() // 1000 // SLOT_S

    def counts(self, *, seconds: int) -> dict[str, int]:
        """The counts of the last so many seconds, and of the rest of the slot in which they begin."""
        last = self.slot()
        return self._counts(range(last - seconds // SLOT_S, last + 1))

    def counts_from(self, slot: int) -> dict[str, int]:
        """The counts of a slot and all later ones: they only grow, until the slot is forgotten."""
        return self._counts(range(slot, self.slot() + 1))

    def _counts(self, slots: range) -> dict[str, int]:
        found: dict[str, int] = {}
        for flat in self._wire.calls([("HGETALL", keys.consistency(slot)) for slot in slots]):
            for name, count in pairs(flat) if isinstance(flat, list) else ():
                known = name.decode(errors="replace")
                found[known] = found.get(known, 0) + whole(count)
        return found

    def wrong(self, limit: int) -> list[bytes]:
        """The latest documents, the last first."""
        found: list[bytes] = self._wire.call("LRANGE", keys.INCONSISTENT, 0, limit - 1)
        return found
