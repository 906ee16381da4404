"""Complaints of MongoDB: its words about writes that it took none of, as flushers have heard them last.

It may answer each ping, and refuse whatever is written, as one whose disk is full does: then no breaker opens, and
only flushers know why nothing is persisted.
"""

from __future__ import annotations

import time
from contextlib import suppress

from writebehind.errors import RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

#: A process notes one so often at most, seconds; and for so long one says something of now, ms: documents that are
#: refused are tried again every five seconds at least.
NOTE_EVERY_S, LIVE_MS = 1.0, 15_000
#: So much of MongoDB's words is kept, characters.
MOST_CHARACTERS = 300

_RECORD = script("record_heartbeat")


class Complaints:
    """The complaints in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire
        self._noted_s = float("-inf")

    def note(self, words: str) -> None:
        """Note one, which begins with the collection that it is about, if Redis answers: only figures need it."""
        now_s = time.monotonic()
        if not words or now_s - self._noted_s < NOTE_EVERY_S:
            return
        self._noted_s = now_s
        with suppress(RedisUnavailableError):
            self._wire.run(_RECORD, (keys.COMPLAINTS,), (words[:MOST_CHARACTERS], LIVE_MS, 0))

    def latest(self, now_ms: int) -> str:
        """The latest one that says something of now; '' for none.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        # What lies further ahead is of a clock that was set back since.
        lately = (now_ms + LIVE_MS, now_ms - LIVE_MS)
        found = self._wire.call("ZRANGE", keys.COMPLAINTS, *lately, "BYSCORE", "REV", "LIMIT", 0, 1)
        return str(found[0], errors="replace") if found else ""
