"""Loads what is read much before somebody has to wait for it: hot keys, and what the settings say.

Warming fills under the same right to load as reading, so it can never hide a write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from writebehind import forks
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError, MongoUnavailableError, RedisUnavailableError
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.finder import MOST_IDS
from writebehind.mongodb.refused_collections import RefusedCollections
from writebehind.mongodb.sink import Sink
from writebehind.reading.freshness import EARLIEST, Freshness, state_of
from writebehind.reading.loader import Loader
from writebehind.redis import keys
from writebehind.redis.cache import Filled, Refresh
from writebehind.redis.reach import each_reached, is_away
from writebehind.redis.shared.lease import Lease
from writebehind.redis.shared.load_sample import Sampler
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings
from writebehind.warming.hot_keys import WARMED, HotKeys

log = logging.getLogger(__name__)

#: The name of the task among the periodic ones.
WARM = "warm"
#: How long one pass may take, seconds; and how long nobody else begins one, ms.
MOST_S, LEASE_MS = 60.0, 90_000
#: An entry is about to expire when it will before the next pass but one, roughly: so many intervals.
HORIZON = 1.5
#: Documents in the smallest batch, where MongoDB is slow.
LEAST_BATCH = 10
#: For so long it is remembered which documents were warmed and not read yet, seconds.
REMEMBERED_S = 3_600

#: Keys that one step of a search for what is cold looks at, and about the most that one search does.
SLICE, MOST_SCANNED = 200, 10_000

_NO_RIGHTS: Mapping[str, Refresh] = {}
#: Is called with the documents looked at so far, and how many there are to look at.
WarmReport = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WarmLimits:
    """Settings of a pass.

    Attributes:
        interval_s: how often there is one.
        keys: most hot keys that it looks at.
        rate: documents per second that it loads at most.
        batch_target_s: how long a batch should take; after one that takes longer there is a pause as long.
        max_memory: part of Redis's maxmemory from which it fills nothing, where Redis does not evict.
        load_timeout_ms: the life of the right to fill an entry.
    """

    interval_s: float
    keys: int
    rate: float
    batch_target_s: float
    max_memory: float
    load_timeout_ms: int


@dataclass(slots=True)
class Warmed:
    """Counts of a pass.

    Attributes:
        looked_at: documents that should be warm.
        loaded: those of them that were not, or not for long, and nobody else was loading.
        warmed: those that are now; the others were written meanwhile, or are absent.
        absent: those that MongoDB does not have, and that are forgotten until somebody reads them again.
        seconds: how long it took.
        stopped: why it ended early, '' if it did not.
    """

    looked_at: int = 0
    loaded: int = 0
    warmed: int = 0
    absent: int = 0
    seconds: float = 0.0
    stopped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For a status."""
        return asdict(self) | {"stopped": self.stopped or None}


class _PressureError(Exception):
    """It is better not to go on."""


class Warmer:
    """Warms one installation."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        loader: Loader,
        hot_keys: HotKeys,
        limits: WarmLimits,
        *,
        sampler: Sampler,
        breaker: MongoBreaker,
        listed: Collection[str],
        settings: Callable[[str], CollectionSettings],
    ) -> None:
        """Join the parts; `settings` are those of a collection, by name, and `listed` the names that have any."""
        self._store = store
        self._sink = sink
        self._collections = RefusedCollections()
        self._loader = loader
        self._hot_keys = hot_keys
        self._limits = limits
        self._sampler = sampler
        self._breaker = breaker
        self._listed = listed
        self._settings = settings
        self._cursor = b"0"  # of the search for what is cold
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Nobody has stopped it yet."""
        self._stopping = threading.Event()

    def warm(
        self,
        *,
        collections: Collection[str] = (),
        limit: int | None = None,
        report: WarmReport = lambda _, __: None,
    ) -> Warmed | None:
        """Make one pass, if nobody else does: `None` then.

        Args:
            collections: only the documents of these.
            limit: most hot keys; by default what the settings say.
            report: is told how far it is.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        lease = self._store.lease(keys.WARM_LEASE, LEASE_MS, needed=False)
        if not lease.take():
            return None
        began, done = time.monotonic(), Warmed()
        try:
            self._pass(lease, collections, self._limits.keys if limit is None else limit, done, report)
        except (_PressureError, MongoUnavailableError) as error:
            done.stopped = str(error)
        finally:
            lease.release()
        done.seconds = round(time.monotonic() - began, 3)
        self._store.metrics.count({WARMED: done.warmed})
        return done

    def stop(self) -> None:
        """Let the pass under way end after its batch."""
        self._stopping.set()

    def _pass(
        self, lease: Lease, collections: Collection[str], limit: int, done: Warmed, report: WarmReport
    ) -> None:
        self._check_pressure()
        wanted = self._wanted(collections, limit)
        waiting, size, began = list(wanted), MOST_IDS, time.monotonic()
        while waiting:
            vitals = self._store.load()  # a batch may fill Redis before the sampler looks again
            room = vitals.room
            if room is not None and vitals.displaces and done.looked_at >= room:
                break  # each document more would displace one that is hotter
            if not lease.renew():  # the queries, or a batch, took longer than it lasts
                raise _PressureError("somebody else has begun to warm")
            report(done.looked_at, len(wanted))
            some, waiting = waiting[:size], waiting[size:]
            started, before = time.monotonic(), done.loaded
            self._warm_each(some, done, free=None if room is None else room - vitals.expiring)
            took = time.monotonic() - started
            slow = took > self._limits.batch_target_s
            size = max(LEAST_BATCH, size // 2) if slow else min(MOST_IDS, size * 2)
            if waiting:
                due_s = (done.loaded - before) / self._limits.rate
                if self._stopping.wait(took if slow else max(0.0, due_s - took)):
                    raise _PressureError("this process ends")
                if time.monotonic() - began > MOST_S:
                    raise _PressureError(f"{MOST_S:g} s are over: the next pass goes on")
                self._check_pressure()
        report(done.looked_at, len(wanted))

    def _wanted(self, collections: Collection[str], limit: int) -> dict[DocumentId, None]:
        """The documents that should be warm: the hottest first, then those that the settings list."""
        hot = (one.id for one in self._hot_keys.top(limit))
        wanted = dict.fromkeys(one for one in hot if not collections or one.collection in collections)
        for name in collections or self._listed:
            for query in self._settings(name).warm:
                try:
                    places, _ = self._sink.find_places(name, query.native, query.sort, query.limit)
                except MongoUnavailableError as error:
                    if error.outage:
                        raise
                    self._collections.refused(name, f"warmed by the query {query.filter} of the settings", error)
                    continue
                self._collections.served(name, f"warmed by the query {query.filter} of the settings")
                wanted.update(dict.fromkeys(one for one in places if one is not None))
        return wanted

    def _check_pressure(self) -> None:
        if reason := self._broken():
            raise _PressureError(f"MongoDB is left alone: {reason}")
        vitals = self._sampler.look()
        if not vitals.evicts and vitals.uses(self._limits.max_memory):
            raise _PressureError(f"Redis uses {vitals.used_memory} of {vitals.max_memory} bytes")

    def _broken(self) -> str:
        """The reason for which MongoDB is left alone; '' for none, or where its server does not say."""
        try:
            return self._breaker.state().reason
        except RedisUnavailableError as error:
            if not (is_away(error) and self._store.has_several):
                raise
            return ""

    def _warm_each(self, ids: Sequence[DocumentId], done: Warmed, *, free: int | None) -> None:
        """One batch, as `_warm`; while a server of several is away, those are warmed that answer."""
        try:
            self._warm(ids, done, free=free)
        except RedisUnavailableError as error:
            if not (is_away(error) and self._store.has_several):
                raise
            self._warm_others(ids, done, free=free)

    def _warm_others(self, ids: Sequence[DocumentId], done: Warmed, *, free: int | None) -> None:
        by_server, before = grouped(ids, lambda one: self._store.server_of_member(one.member)), done.loaded

        def warm(some: Sequence[DocumentId]) -> None:
            self._warm(some, done, free=None if free is None else free - (done.loaded - before))

        each_reached(by_server.values(), warm)

    def _warm(self, ids: Sequence[DocumentId], done: Warmed, *, free: int | None) -> None:
        """One batch: what is missing is loaded, and what is about to expire is refreshed.

        `free` is for how many entries more there is room, `None` for any number.
        """
        missing: list[DocumentId] = []
        old: dict[DocumentId, int] = {}
        gone: list[str] = []
        for one, (entry, ttl_ms) in zip(ids, self._headers(ids), strict=True):
            settings = self._settings(one.collection)
            if entry is None:
                missing.append(one)
            elif not entry.exists:
                gone.append(one.member)
            elif state_of(entry, ttl_ms, settings, self._early_ms(settings)) is not Freshness.FRESH:
                old[one] = ttl_ms
        done.looked_at += len(ids)
        self._forget(gone, done)
        token, life_ms = uuid4().hex, self._limits.load_timeout_ms
        leases = self._store.loads.get_or_lease_many([one.member for one in missing], token, life_ms=life_ms)
        ours = [one for one, lease in zip(missing, leases, strict=True) if lease.may_load]
        if free is not None and len(ours) > free:
            self._make_room(len(ours) - free)
        self._fill(ours, token, done)
        # Only now, or they would be held in vain if that fails, and readers would wait for whoever has them.
        ttls_ms = {one.member: ttl_ms for one, ttl_ms in old.items()}
        token, rights = self._store.loads.lease_refreshes(ttls_ms, life_ms=life_ms)
        self._fill([one for one in old if one.member in rights], token, done, rights)

    def _fill(
        self,
        ids: Sequence[DocumentId],
        token: str,
        done: Warmed,
        rights: Mapping[str, Refresh] = _NO_RIGHTS,
    ) -> None:
        """Load documents, and fill what is missing, or what there are `rights` to replace."""
        waiting = grouped(ids, lambda one: one.collection)
        while waiting:
            collection, some = waiting.popitem()
            try:
                settings = self._settings(collection)
                loaded = self._loader.fill_many(some, token, settings, rights, keep=True, bodies=False)
            except MongoRefusesError as error:  # which keeps no other collection from being warm
                self._collections.refused(collection, "warmed", error)
                continue
            except MongoUnavailableError:
                left = [one.member for others in waiting.values() for one in others]
                self._store.loads.abandon(left, token)
                raise
            self._collections.served(collection, "warmed")
            warmed = [member for member, (entry, how) in loaded.items() if how is Filled.FILLED and entry.exists]
            self._forget([member for member, (entry, _) in loaded.items() if not entry.exists], done)
            done.loaded += len(loaded)
            done.warmed += len(warmed)
            self._remember(warmed)

    def _forget(self, absent: Sequence[str], done: Warmed) -> None:
        """Let documents not be hot that do not exist: their absence would be loaded for ever."""
        if absent:
            self._store.heat.forget(absent)
            done.absent += len(absent)

    def _make_room(self, wanted: int) -> None:
        """Drop so many entries that are not hot, or what is found of them: Redis would evict others as well."""
        dropped = looked_at = 0
        while dropped < wanted and looked_at < MOST_SCANNED:
            cursor, members = self._store.cache.scan(self._cursor, count=SLICE)
            dropped += self._store.cache.drop_cold(members)
            looked_at += SLICE
            self._cursor = cursor
            if cursor == b"0":
                break

    def _remember(self, members: Sequence[str]) -> None:
        """For `HotKeys.send`, which tells how many of them are read."""
        self._store.heat.warmed(members, most=self._limits.keys, remembered_s=REMEMBERED_S)

    def _headers(self, ids: Sequence[DocumentId]) -> list[tuple[Entry | None, int]]:
        """The entries without their bodies, and their TTLs in ms, in one round trip."""
        headers = self._store.cache.headers([one.member for one in ids])
        return [(Entry.shown(one.header) if one.header else None, one.ttl_ms) for one in headers]

    def _early_ms(self, settings: CollectionSettings) -> float:
        """Entries that are fresh for no longer than this are about to be stale, ms."""
        return min(HORIZON * self._limits.interval_s, EARLIEST * settings.ttl) * 1000
