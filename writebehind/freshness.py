"""How long entries live and are fresh, and when one reader refreshes them before that is over."""

from __future__ import annotations

import math
import queue
import random
import threading
from collections.abc import Callable

from writebehind.entry import Entry
from writebehind.settings import CollectionSettings
from writebehind.store import Refresh

#: TTLs are shortened by up to this part, so that entries filled together do not expire together.
TTL_JITTER = 0.1
#: A document is never refreshed before so much of its TTL is left, as a part of it.
EARLIEST = 0.1
#: What a refresh takes besides loading, ms: until its thread has its turn in a busy process.
BACKGROUND_MS = 10.0
#: How early refreshes begin. 1 suits readers who load themselves; here another thread does, and nobody waits.
BETA = 2.0
#: Refreshes that may wait in one process. What is more is left to later readers.
MOST_WAITING = 1_000


def lifetime_ms(entry: Entry, settings: CollectionSettings, *, replaces: int | None = None) -> int:
    """How long an entry that MongoDB has as well stays in Redis, ms: while it is fresh, and may be stale.

    One that `replaces` another with that TTL, ms, has its whole TTL, as they are spread already, and what the
    other one had left besides. So MongoDB is read once for each TTL, however early that is.
    """
    if not entry.exists:
        return jittered_ms(settings.negative_ttl)
    if replaces is None:
        return jittered_ms(settings.ttl) + settings.grace_ms
    ttl_ms = settings.ttl * 1000
    left_ms = max(0, fresh_ms(entry, replaces, settings))
    return int(ttl_ms + min(left_ms, EARLIEST * ttl_ms)) + settings.grace_ms


def fresh_ms(entry: Entry, ttl_ms: int, settings: CollectionSettings) -> int:
    """How long an entry with this TTL in Redis is fresh yet, ms: below 0 where it is stale, -1 without a TTL."""
    return ttl_ms - settings.grace_ms if entry.exists and ttl_ms >= 0 else ttl_ms


def may_be_due(left_ms: float, settings: CollectionSettings) -> bool:
    """Whether an entry that is fresh for so long may be refreshed already."""
    return left_ms <= EARLIEST * settings.ttl * 1000


def is_due_early(left_ms: float, load_ms: float) -> bool:
    """Whether this reader has an entry refreshed that is fresh for so long, where loading takes so long.

    The nearer the end and the slower the load, the likelier, so that about one reader does, however many read:
    XFetch, of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
    """
    takes_ms = load_ms + BACKGROUND_MS
    return left_ms <= takes_ms * (1 - BETA * math.log(1 - random.random()))  # noqa: S311 - no secret


def jittered_ms(seconds: float) -> int:
    """A TTL, ms, shortened at random by up to a tenth."""
    return max(1, int(seconds * 1000 * (1 - TTL_JITTER * random.random())))  # noqa: S311 - no secret


class Refresher:
    """Refreshes entries in a thread of its own, so that no reader waits for it. Safe to share between threads."""

    def __init__(self, refresh: Callable[[Refresh], None]) -> None:
        """Take what refreshes one entry and does not raise; the thread begins with the first one."""
        self._refresh = refresh
        self._waiting: queue.Queue[Refresh | None] = queue.Queue(MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, wanted: Refresh) -> None:
        """Take a refresh; neither blocks nor raises. Where too many wait it is left to a later reader."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(wanted)
        except queue.Full:
            return

    def close(self, timeout_s: float = 2.0) -> None:
        """End after what is under way, for which it waits for at most `timeout_s`."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            while True:
                self._waiting.get_nowait()  # their rights to load run out by themselves
        except queue.Empty:
            self._waiting.put(None)
        thread.join(timeout_s)

    def _run(self) -> None:
        while (wanted := self._waiting.get()) is not None:
            self._refresh(wanted)
