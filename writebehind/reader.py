"""Cache-aside reads: one load per cold document, and never a fill that hides a write."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from writebehind.entry import DELETED, Entry
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.flights import Flight, Flights
from writebehind.freshness import Refresher, fresh_ms, is_due_early, lifetime_ms, may_be_due
from writebehind.ids import DocumentId
from writebehind.near import NearCache
from writebehind.settings import CollectionSettings
from writebehind.sink import Sink
from writebehind.store import Filled, Refresh, RefreshSink, Store
from writebehind.vitals import Sampler

log = logging.getLogger(__name__)

#: Steps between two looks for an entry that another reader loads, seconds: they double, with jitter.
WAIT_FROM_S, WAIT_TO_S = 0.002, 0.1
#: Share of the latest load in the average that early refreshes go by.
LOAD_WEIGHT = 0.2


class Source(StrEnum):
    """Where a read was answered from."""

    HIT = "hit"
    NEAR = "near"
    """From this process's own memory."""
    STALE = "stale"
    """Served from Redis after its TTL, while it is read anew or because MongoDB does not answer."""
    REVALIDATED = "revalidated"
    """Loaded from MongoDB because what Redis had was stale."""
    MISS = "miss"
    COLLAPSED = "collapsed"
    """Loaded by another reader while this one waited."""
    BYPASS = "bypass"
    """Read from MongoDB, because Redis does not answer: it may miss what is pending."""


@dataclass(frozen=True, slots=True)
class Read:
    """The state of a document, where it came from, and for a hit the ms it is fresh yet: see `fresh_ms`."""

    entry: Entry
    source: Source
    ttl_ms: int = -1


class Reader:
    """Reads documents through the cache. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        load_timeout_ms: int,
        sampler: Sampler | None = None,
        settings: Callable[[str], CollectionSettings] | None = None,
        near: NearCache | None = None,
        seen: Callable[[str], None] | None = None,
        refreshes: RefreshSink | None = None,
    ) -> None:
        """Join a store and a sink.

        Args:
            store: the cache.
            sink: what MongoDB has.
            load_timeout_ms: the life of the right to fill an entry.
            sampler: with it, nothing is read from a Redis that has been divided anew: entries are elsewhere then.
            settings: of a collection, by name; by default the built-in ones.
            near: what this process keeps of collections whose settings say so.
            seen: is told each member that is read.
            refreshes: takes the refreshes of stale entries; by default a thread of this process does.
        """
        self._store = store
        self._sampler = sampler
        self._sink = sink
        self._load_timeout_ms = load_timeout_ms
        self._settings = settings or (lambda _: CollectionSettings.model_validate({}))
        self._near = near
        self._seen = seen
        self._flights = Flights()
        self._refresher = Refresher(self._try_to_refresh)
        self._refreshes = refreshes or self._refresher
        #: How long MongoDB took lately to find a document, ms.
        self._load_ms = 1.0
        #: Reads answered from Redis, and reads that had to wait for MongoDB, in this process.
        self.hits = 0
        self.misses = 0

    def read(self, document_id: DocumentId, settings: CollectionSettings, *, near: bool = True) -> Read:
        """Read one document for somebody who would rather have what MongoDB has than nothing.

        With `near` it may come from the near cache, if the collection has one.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
        """
        try:
            if near and settings.near_cache and self._near is not None:
                return self._get_near(document_id, settings, self._near)
            return self.get(document_id, settings)
        except RedisUnavailableError:
            if not settings.bypass:
                raise
            return self._bypass(document_id)

    def forget_near(self, members: Iterable[str]) -> None:
        """Drop from the near cache what this process has just written."""
        if self._near is not None:
            self._near.drop(map(self._store.entry_key, members))

    def read_many(self, ids: Sequence[DocumentId], settings: CollectionSettings) -> tuple[list[Entry], bool]:
        """`read` for several documents of one collection, in their order; and whether Redis was bypassed."""
        try:
            return self.get_many(ids, settings), False
        except RedisUnavailableError:
            if not settings.bypass:
                raise
            return self._sink.find_many(ids), True

    def get(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        """Read the latest acknowledged state of one document.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, or is divided in another way than this process knows.
        """
        self._check_division()
        if self._seen is not None:
            self._seen(document_id.member)
        entry, ttl_ms = self._store.get(document_id.member)
        if entry is not None:
            self.hits += 1
            if ttl_ms >= 0 and may_be_due(ttl_ms - settings.grace_ms, settings):
                return self._old(document_id, settings, entry, ttl_ms)
            return Read(entry, Source.HIT, ttl_ms if ttl_ms < 0 else fresh_ms(entry, ttl_ms, settings))
        self.misses += 1
        return self._miss(document_id, settings)

    def count(self, members: Iterable[str]) -> None:
        """Count documents as read, of which more were looked at than read."""
        if self._seen is not None:
            for one in members:
                self._seen(one)

    def get_many(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, *, counted: bool = True
    ) -> list[Entry]:
        """`get` for several documents of one collection, in their order; one round trip when all are cached.

        Unless they are `counted`, they do not become hot by this: see `count`.

        Raises:
            MongoUnavailableError: some are not cached, and MongoDB does not answer.
            RedisUnavailableError: as `get`.
        """
        self._check_division()
        if counted:
            self.count(one.member for one in ids)
        found = self._cached_many(ids, settings) if ids else {}
        missing = list({one.member: one for one in ids if one.member not in found}.values())
        self.hits += len(ids) - len(missing)
        self.misses += len(missing)
        if missing:
            found |= self._load_many(missing, settings)
        return [found[one.member] for one in ids]

    def _get_near(self, document_id: DocumentId, settings: CollectionSettings, near: NearCache) -> Read:
        self._check_division()
        key = self._store.entry_key(document_id.member)
        kept = near.get(key)
        if kept is not None:
            self.hits += 1
            if self._seen is not None:
                self._seen(document_id.member)
            return Read(kept[0], Source.NEAR, kept[1])
        ticket = near.expect(key)
        read = self.get(document_id, settings)
        if read.source is Source.HIT:
            near.keep(key, ticket, read.entry, read.ttl_ms)
        return read

    def _check_division(self) -> None:
        if self._sampler is not None:
            self._sampler.look().check_division()

    def refresh(self, wanted: Refresh) -> Filled:
        """Replace an entry by what MongoDB has, unless it has changed since.

        Raises:
            MongoUnavailableError: MongoDB does not answer; the right to refresh is given back.
            RedisUnavailableError: Redis does not answer.
        """
        document_id = DocumentId.from_member(wanted.member)
        entry = self._load(document_id, wanted.token)
        settings = self._settings(document_id.collection)
        return self._store.fill(
            wanted.member,
            wanted.token,
            entry,
            ttl_ms=lifetime_ms(entry, settings, replaces=wanted.ttl_ms),
            seen=wanted.seen,
        )

    def close(self) -> None:
        """End the threads that refresh and listen."""
        self._refresher.close()
        if self._near is not None:
            self._near.close()

    def _full(self) -> bool:
        """Whether Redis has room only for what is hot.

        Its own policies do not know that what is new will not be read again. This is the admission of Einziger,
        Friedman and Manes, "TinyLFU", ACM Transactions on Storage 13 (4), 2017.
        """
        return self._sampler is not None and self._sampler.look().keeps_for_hot

    def _try_to_refresh(self, wanted: Refresh) -> None:
        try:
            self.refresh(wanted)
        except (MongoUnavailableError, RedisUnavailableError) as error:
            log.info("%s not refreshed: %s", wanted.member, error)

    def _old(self, document_id: DocumentId, settings: CollectionSettings, entry: Entry, ttl_ms: int) -> Read:
        """Serve an entry that is stale or soon will be; one reader of all sees to it that it is read anew."""
        left_ms = fresh_ms(entry, ttl_ms, settings)
        if left_ms > 0:
            if entry.exists and is_due_early(left_ms, self._load_ms):
                self._ask(document_id.member, ttl_ms, self._refresher)
            return Read(entry, Source.HIT, left_ms)
        if -left_ms <= settings.stale_while_revalidate * 1000:
            self._ask(document_id.member, ttl_ms, self._refreshes)
            return Read(entry, Source.STALE, left_ms)
        # Only an error may keep it alive. Whoever has the right to load finds out, and the others are served.
        wanted = self._store.refresh_get(document_id.member, ttl_ms, life_ms=self._load_timeout_ms)
        if wanted is not None:
            try:
                if self.refresh(wanted) is not Filled.REFUSED:
                    fresh, ttl_ms = self._store.get(document_id.member)
                    if fresh is not None:
                        return Read(fresh, Source.REVALIDATED, fresh_ms(fresh, ttl_ms, settings))
            except MongoUnavailableError as error:
                log.debug("%s is served stale: %s", document_id.member, error)
        return Read(entry, Source.STALE, left_ms)

    def _ask(self, member: str, ttl_ms: int, refreshes: RefreshSink) -> None:
        wanted = self._store.refresh_get(member, ttl_ms, life_ms=self._load_timeout_ms)
        if wanted is not None:
            refreshes(wanted)

    def _cached_many(self, ids: Sequence[DocumentId], settings: CollectionSettings) -> dict[str, Entry]:
        members = [one.member for one in ids]
        if not settings.grace_ms:
            return self._store.get_many(members)
        by_member = {one.member: one for one in ids}
        return {
            member: self._old(by_member[member], settings, entry, ttl_ms).entry
            if entry.exists and 0 <= ttl_ms <= settings.grace_ms
            else entry
            for member, (entry, ttl_ms) in self._store.get_many_with_ttl(members).items()
        }

    def _miss(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        member = document_id.member
        flight, leads = self._flights.board(member)
        if leads:
            try:
                return self._lead(document_id, settings, flight)
            except MongoUnavailableError as error:
                flight.error = error  # the others would only wait for the same time-out, one after the other
                raise
            finally:
                self._flights.land(member, flight)
        flight.done.wait(self._load_timeout_ms / 1000)
        if flight.entry is not None:
            return Read(flight.entry, Source.COLLAPSED)
        if flight.error is not None:
            raise MongoUnavailableError(str(flight.error)) from flight.error
        # A write came in between, or the time is over: what this reader may see is for Redis to say.
        return self._lead(document_id, settings, None)

    def _bypass(self, document_id: DocumentId) -> Read:
        """Load without Redis, which cannot say that others load the same; those of this process share it."""
        key = f"bypass {document_id.member}"
        flight, leads = self._flights.board(key)
        if leads:
            try:
                flight.entry = self._sink.find(document_id)
            except MongoUnavailableError as error:
                flight.error = error
                raise
            finally:
                self._flights.land(key, flight)
        else:
            flight.done.wait(self._load_timeout_ms / 1000)
        if flight.error is not None:
            raise MongoUnavailableError(str(flight.error)) from flight.error
        return Read(flight.entry or self._sink.find(document_id), Source.BYPASS)

    def _lead(self, document_id: DocumentId, settings: CollectionSettings, flight: Flight | None) -> Read:
        member, token = document_id.member, uuid4().hex
        deadline = time.monotonic() + self._load_timeout_ms / 1000
        step, source = WAIT_FROM_S, Source.HIT
        while time.monotonic() < deadline:
            lookup = self._store.lease_get(member, token, life_ms=self._load_timeout_ms)
            if lookup.entry is not None:
                return Read(lookup.entry, source, fresh_ms(lookup.entry, lookup.ttl_ms, settings))
            if lookup.may_load:
                entry = self._load(document_id, token)
                if flight is not None:
                    self._flights.leave(member, flight)
                ttl_ms = lifetime_ms(entry, settings)
                filled = self._store.fill(member, token, entry, ttl_ms=ttl_ms, full=self._full())
                if filled is not Filled.REFUSED:
                    entry = entry if filled is Filled.FILLED else DELETED
                    if flight is not None:
                        flight.entry = entry
                    return Read(entry, Source.MISS)
            else:
                source = Source.COLLAPSED
                time.sleep(step * random.uniform(0.5, 1))  # noqa: S311 - no secret
                step = min(step * 2, WAIT_TO_S)
        # Whoever had the right to load has not come back. This reader's own look at MongoDB is as good.
        return Read(self._sink.find(document_id), Source.MISS)

    def _load(self, document_id: DocumentId, token: str) -> Entry:
        began = time.monotonic()
        try:
            entry = self._sink.find(document_id)
        except MongoUnavailableError:
            self._store.abandon([document_id.member], token)
            raise
        self._load_ms += LOAD_WEIGHT * ((time.monotonic() - began) * 1000 - self._load_ms)
        return entry

    def _load_many(self, missing: Sequence[DocumentId], settings: CollectionSettings) -> dict[str, Entry]:
        token = uuid4().hex
        lookups = self._store.lease_get_many([one.member for one in missing], token, life_ms=self._load_timeout_ms)
        pairs = list(zip(missing, lookups, strict=True))
        found = {one.member: lookup.entry for one, lookup in pairs if lookup.entry is not None}
        ours = [one for one, lookup in pairs if lookup.may_load]
        try:
            loaded = self._sink.find_many(ours)
        except MongoUnavailableError:
            self._store.abandon([one.member for one in ours], token)
            raise
        filled = self._store.fill_many(
            [(one.member, entry, lifetime_ms(entry, settings)) for one, entry in zip(ours, loaded, strict=True)],
            token,
            full=self._full(),
        )
        found |= {
            one.member: entry if how is Filled.FILLED else DELETED
            for one, entry, how in zip(ours, loaded, filled, strict=True)
            if how is not Filled.REFUSED
        }
        for one in missing:  # loaded by others, or written meanwhile
            if one.member not in found:
                found[one.member] = self._miss(one, settings).entry
        return found
