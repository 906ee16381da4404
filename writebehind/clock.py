"""The clock of Redis, which all times in Redis are made of: steps of it are noticed, and times move along.

Versions need no clock that goes steadily. When a document is due, and how long it has waited, is told by times in
Redis; after a step of minutes they would be wrong by minutes.
"""

from __future__ import annotations

import logging
import time

from writebehind import forks
from writebehind.connections import script
from writebehind.keys import partition_keys
from writebehind.store import Store

log = logging.getLogger(__name__)

#: A difference from this process's steady clock from which it is a step, ms: more than a slow answer makes.
STEP_MS = 2_000
#: For so long it is remembered that a step was seen to, ms: other processes see it when they look next.
NOTED_MS = 600_000

_STEPPED = script("stepped")


class ClockWatch:
    """Compares the clock of Redis with this process's steady clock. Safe to share between threads.

    Any process that lives long may look now and then. Whoever sees a step first moves the times in Redis.
    """

    def __init__(self, store: Store) -> None:
        """Bind it to a store; nothing is asked before the first look."""
        self._store = store
        self._lock = forks.lock()
        self._last: tuple[int, float] | None = None

    def look(self) -> int:
        """See whether the clock has stepped since the last look, and if so move the times; by how much, ms.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if not self._lock.acquire(blocking=False):
            return 0  # another thread is at it
        try:
            asked = time.monotonic()
            now_ms = self._store.now_ms()
            answered = time.monotonic()
            last, self._last = self._last, (now_ms, answered)
            if last is None:
                return 0
            passed_ms = (answered - last[1]) * 1000
            step_ms = round(now_ms - last[0] - passed_ms)
            # The answer may have been on its way for any part of this time, and so may the last one.
            if abs(step_ms) < STEP_MS + (answered - asked) * 1000:
                return 0
            moved = self._move(now_ms - round(passed_ms), now_ms, step_ms)
            if moved:
                log.warning(
                    "the clock of Redis has stepped by %.1f s: %d times moved along", step_ms / 1000, moved
                )
            return step_ms
        finally:
            self._lock.release()

    def _move(self, from_ms: int, to_ms: int, step_ms: int) -> int:
        arguments = (from_ms, to_ms, step_ms, self._store.longest_wait_ms, NOTED_MS)
        moved = 0
        for partition in range(self._store.partitions):  # one at a time: each may have many
            of = partition_keys(partition)
            moved += int(self._store.wire.run(_STEPPED, (of.stepped, of.pending, of.deleted_at), arguments))
        return moved
