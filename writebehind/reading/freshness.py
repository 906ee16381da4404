"""The life of entries, their freshness, and the early refresh by one reader."""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

from writebehind import forks
from writebehind.documents.entry import Entry
from writebehind.logs.quoting import quoted
from writebehind.outage_log import OutageLog
from writebehind.redis.cache import Refresh
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: TTLs are shortened by up to this part, so that entries filled together do not expire together.
TTL_JITTER = 0.1
#: A document is refreshed when at most this part of its TTL is left; and no TTL gets longer by more than that.
EARLIEST = 0.1
#: Where loading is slow compared with the TTL it is refreshed earlier: by so many times of what a refresh takes,
#: but not before this part of the TTL is left.
EARLIEST_TIMES, EARLIEST_AT_ALL = 10, 0.5
#: The time of a refresh besides loading, ms: until its thread has its turn in a busy process.
BACKGROUND_MS = 10.0
#: How early refreshes begin. 1 suits readers who load themselves; here another thread does, and nobody waits.
BETA = 2.0
#: Share of the latest load in the average that early refreshes go by, and how many collections it is known of.
LOAD_WEIGHT, MOST_COLLECTIONS = 0.2, 1_000
#: How long loading is thought to take where it is not known yet, ms.
UNKNOWN_LOAD_MS = 1.0
#: Refreshes that may wait in one process. What is more is left to later readers.
MOST_WAITING = 1_000
#: A refresh begins within this part of the life of its right, or never: the rest is for loading.
BEGINS_WITHIN = 0.5


class Freshness(Enum):
    """Freshness of an entry: whether it may be served, and whether it is due to be read anew."""

    FRESH = auto()
    DUE = auto()
    """It is fresh, but not for long: it should be read anew in the background."""
    STALE = auto()
    """It is served nevertheless, and should be read anew in the background."""
    OVER = auto()
    """It is served only where MongoDB does not answer."""


def state_of(entry: Entry, ttl_ms: int, settings: CollectionSettings, early_ms: float) -> Freshness:
    """The freshness of an entry with this TTL in Redis, which is due when it is fresh for `early_ms` or less."""
    left_ms = fresh_ms(entry, ttl_ms, settings)
    if ttl_ms < 0 or not entry.exists or left_ms > early_ms:
        return Freshness.FRESH
    if left_ms >= 0:
        return Freshness.DUE
    return Freshness.STALE if -left_ms <= settings.stale_while_revalidate * 1000 else Freshness.OVER


def lifetime_ms(entry: Entry, settings: CollectionSettings, *, replaces: int | None = None) -> int:
    """The time that an entry stays in Redis which MongoDB has as well, ms: while it is fresh, and may be stale.

    One that `replaces` another with that TTL, ms, which was fresh yet, has its whole TTL, as they are spread
    already, and what the other one had left besides, up to a tenth: so MongoDB is read once for each TTL. Those
    that were stale are not spread: after an outage of MongoDB many of them are read anew at once.
    """
    if not entry.exists:
        return jittered_ms(settings.negative_ttl)
    left_ms = 0 if replaces is None else fresh_ms(entry, replaces, settings)
    if left_ms <= 0:
        return jittered_ms(settings.ttl) + settings.grace_ms
    ttl_ms = settings.ttl * 1000
    return int(ttl_ms + min(left_ms, EARLIEST * ttl_ms)) + settings.grace_ms


def ttls_ms(count: int, settings: CollectionSettings) -> list[int]:
    """The same of so many documents that replace no others; 0 where they are written around, and do not stay."""
    if settings.write == "around":
        return [0] * count
    ttl_ms, grace_ms, chance = settings.ttl * 1000, settings.grace_ms, random.random
    return [max(1, int(ttl_ms * (1 - TTL_JITTER * chance()))) + grace_ms for _ in range(count)]


def fresh_ms(entry: Entry, ttl_ms: int, settings: CollectionSettings) -> int:
    """Freshness left to an entry with this TTL in Redis, ms: below 0 where it is stale, -1 without a TTL."""
    return ttl_ms - settings.grace_ms if entry.exists and ttl_ms >= 0 else ttl_ms


def early_ms(load_ms: float, settings: CollectionSettings) -> float:
    """For how long an entry is fresh yet, ms, when this reader has it refreshed, where loading takes so long.

    It is drawn anew for each read, so that about one reader does, however many read: the nearer the end and the
    slower the load, the likelier. XFetch, of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache
    Stampede Prevention", VLDB 2015.
    """
    drawn = (load_ms + BACKGROUND_MS) * (1 - BETA * math.log(1 - random.random()))  # noqa: S311 - no secret
    return min(most_early_ms(load_ms, settings), drawn)


def most_early_ms(load_ms: float, settings: CollectionSettings) -> float:
    """The most that `early_ms` may be."""
    ttl_ms = settings.ttl * 1000
    slow_ms = min(EARLIEST_AT_ALL * ttl_ms, EARLIEST_TIMES * (load_ms + BACKGROUND_MS))
    return max(EARLIEST * ttl_ms, slow_ms)


def jittered_ms(seconds: float) -> int:
    """A TTL, ms, shortened at random by up to a tenth."""
    return max(1, int(seconds * 1000 * (1 - TTL_JITTER * random.random())))  # noqa: S311 - no secret


class LoadTimes:
    """Times that MongoDB lately takes to find a document, by collection. Safe to share between threads."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._ms: dict[str, float] = {}

    def of(self, collection: str) -> float:
        """The average, ms."""
        return self._ms.get(collection, UNKNOWN_LOAD_MS)

    def note(self, collection: str, took_ms: float) -> None:
        """Count one more load."""
        if len(self._ms) >= MOST_COLLECTIONS:  # their names may come from clients
            self._ms.clear()
        known = self._ms.get(collection, took_ms)
        self._ms[collection] = known + LOAD_WEIGHT * (took_ms - known)


class Refresher:
    """Refreshes entries in a thread of its own, so that no reader waits for it. Safe to share between threads."""

    def __init__(
        self,
        refresh: Callable[[Refresh], None],
        give_back: Callable[[Sequence[Refresh]], None],
        *,
        life_ms: int,
    ) -> None:
        """Bind it to what it calls; the thread begins with the first refresh.

        Args:
            refresh: refreshes one entry.
            give_back: takes rights that are not used, so that another reader may ask for them. Does not raise.
            life_ms: of a right.
        """
        self._faults = OutageLog(log, "refresh", "refreshes")
        self._refresh = refresh
        self._give_back = give_back
        self._begins_within_s = BEGINS_WITHIN * life_ms / 1000
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have nothing to do: the parent process refreshes what it was given."""
        #: Until when each may begin, by the monotonic clock.
        self._waiting: queue.Queue[tuple[float, Refresh] | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def __call__(self, wanted: Refresh) -> None:
        """Take a refresh; neither blocks nor raises. Where too many wait it is left to a later reader."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait((time.monotonic() + self._begins_within_s, wanted))
        except queue.Full:
            self._give_back([wanted])

    @property
    def room(self) -> int:
        """The number of refreshes that it would take now."""
        return max(0, self._waiting.maxsize - self._waiting.qsize())

    def close(self, timeout_s: float = 2.0) -> None:
        """End after what is under way, for which it waits for at most `timeout_s`; give the others back."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        left = []
        try:
            while True:
                if (one := self._waiting.get_nowait()) is not None:
                    left.append(one[1])
        except queue.Empty:
            self._waiting.put(None)
        self._give_back(left)
        thread.join(timeout_s)

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            begins_until, wanted = one
            try:
                if time.monotonic() < begins_until:
                    self._refresh(wanted)
                else:  # it would be refused: load what is behind it in time, instead of everything too late
                    self._give_back([wanted])
            except Exception as error:  # noqa: BLE001 - one document must not end the refreshing of all others
                line = f"{quoted(wanted.member)} not refreshed: {error!r}"
                self._faults.note("refreshes", line, level=logging.ERROR, event="fault", error=error)
