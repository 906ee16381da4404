"""Cache-aside reads: one load per cold document, and never a fill that hides a write."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.large import TakesMuchError
from writebehind.errors import MongoUnavailableError, RedisFullError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.reading.freshness import (
    LoadTimes,
    Refresher,
    State,
    early_ms,
    fresh_ms,
    lifetime_ms,
    most_early_ms,
    state_of,
)
from writebehind.reading.near_cache import NearCache
from writebehind.reading.portions import each
from writebehind.reading.single_flight import LIVES, Flight, Flights, Turn, take_turns
from writebehind.redis.load_sample import Sampler
from writebehind.redis.store import Filled, Refresh, RefreshSink, Store
from writebehind.settings.installation import CollectionSettings

log = logging.getLogger(__name__)

#: Of more documents that are read at once, so many are looked at whether they should be read anew. A PTTL costs
#: about as much as the rest of reading a document.
MOST_TIMED = 4

_NO_RIGHTS: Mapping[str, Refresh] = {}


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
    """The state of a document.

    Attributes:
        entry: the document.
        source: where it came from.
        ttl_ms: of a hit: how long it is fresh yet, see `fresh_ms`.
        stored: of what was loaded: whether it is cached now.
    """

    entry: Entry
    source: Source
    ttl_ms: int = -1
    stored: bool = True


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
        self._refresher = Refresher(self._try_to_refresh, self._give_back, life_ms=load_timeout_ms)
        self._refreshes = refreshes or self._refresher
        self._load_times = LoadTimes()
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

    def read_each(self, ids: Sequence[DocumentId], settings: CollectionSettings) -> Iterator[tuple[Entry, bool]]:
        """`read_many` in portions, which are read when their turn comes; of each whether Redis was bypassed."""

        def short(some: Sequence[DocumentId], below_bytes: int) -> dict[str, tuple[Entry, bool]]:
            found = self.get_short(some, settings, below_bytes=below_bytes)
            return {member: (entry, False) for member, entry in found.items()}

        def read(some: Sequence[DocumentId]) -> list[tuple[Entry, bool]]:
            entries, bypassed = self.read_many(some, settings)
            return [(entry, bypassed) for entry in entries]

        return each(self._store, ids, short, read)

    def get(self, document_id: DocumentId, settings: CollectionSettings, *, keep: bool = False) -> Read:
        """Read the latest acknowledged state of one document.

        With `keep` it is in Redis afterwards, whatever it displaces there: for a write on a condition.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisFullError: Redis has no memory to `keep` it.
            RedisUnavailableError: Redis does not answer, or is divided in another way than this process knows.
        """
        self._check_division()
        if self._seen is not None:
            self._seen(document_id.member)
        entry, ttl_ms = self._store.get(document_id.member)
        if entry is not None:
            self.hits += 1
            member = document_id.member
            return self._served(document_id.collection, {member: (entry, ttl_ms)}, settings)[member]
        self.misses += 1
        return self._miss(document_id, settings, keep=keep)

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
        found = self._cached_many(ids, settings)
        missing = list({one.member: one for one in ids if one.member not in found}.values())
        self.hits += len(ids) - len(missing)
        self.misses += len(missing)
        if missing:
            found |= self._missing_many(missing, settings)
        return [found[one.member] for one in ids]

    def get_short(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, *, below_bytes: int, counted: bool = True
    ) -> dict[str, Entry]:
        """Those of several documents that Redis has and that take less than so many bytes there, by member.

        One round trip, which brings no more of any. `counted` as for `get_many`.

        Raises:
            RedisUnavailableError: as `get`.
        """
        self._check_division()
        found = self._cached_many(ids, settings, below_bytes=below_bytes)
        if counted:
            self.count(found)
        self.hits += len(found)
        return found

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
        try:
            entry = self._find(document_id)
        except MongoUnavailableError:
            self._store.give_back([wanted])
            raise
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

    def _give_back(self, rights: Sequence[Refresh]) -> None:
        try:
            self._store.give_back(rights)
        except RedisUnavailableError as error:  # they run out by themselves
            log.debug("%d rights to refresh not given back: %s", len(rights), error)

    def _served(
        self, collection: str, found: Mapping[str, tuple[Entry, int]], settings: CollectionSettings
    ) -> dict[str, Read]:
        """Serve entries of a collection, given with their TTLs in ms.

        Of those that are stale or soon will be, one reader of all sees to it that each is read anew.
        """
        reads, old = {}, {}
        load_ms = self._load_times.of(collection)
        earliest_ms = settings.grace_ms + most_early_ms(load_ms, settings)
        for member, (entry, ttl_ms) in found.items():
            # Every read would pay for the draw: what has no TTL, or a long one, is not due.
            near = 0 <= ttl_ms <= earliest_ms
            state = state_of(entry, ttl_ms, settings, early_ms(load_ms, settings)) if near else State.FRESH
            source = Source.HIT if state is State.FRESH or state is State.DUE else Source.STALE
            reads[member] = Read(entry, source, fresh_ms(entry, ttl_ms, settings))
            if state is not State.FRESH:
                old[member] = state
        if old:
            try:
                reads |= self._read_anew(old, {member: found[member][1] for member in old}, settings)
            except (MongoUnavailableError, RedisUnavailableError) as error:
                log.debug("%d entries are served as they are: %s", len(old), error)
        return reads

    def _read_anew(
        self, states: Mapping[str, State], ttls_ms: Mapping[str, int], settings: CollectionSettings
    ) -> dict[str, Read]:
        """See to entries that are not fresh, or soon will not be; those whose time is over are loaded at once."""
        sinks: dict[State, RefreshSink] = {State.DUE: self._refresher, State.STALE: self._refreshes}
        here = [member for member, state in states.items() if sinks.get(state) is self._refresher]
        wanted = dict(ttls_ms)
        for member in here[self._refresher.room :]:  # the rest is left to later readers
            del wanted[member]
        if not wanted:
            return {}
        token, rights = self._store.refresh_get_many(wanted, life_ms=self._load_timeout_ms)
        over = {}
        for member, right in rights.items():
            sink = sinks.get(states[member])
            if sink is None:
                over[member] = right
            else:
                sink(right)
        loaded = self._load_many([DocumentId.from_member(one) for one in over], token, settings, over)
        return {
            member: Read(entry, Source.REVALIDATED, stored=how is not Filled.NOT_KEPT)
            for member, (entry, how) in loaded.items()
            if how is not Filled.REFUSED
        }

    def _cached_many(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, *, below_bytes: int = 0
    ) -> dict[str, Entry]:
        if not ids:
            return {}
        timed = members = [one.member for one in ids]
        if not settings.grace_ms and len(members) > MOST_TIMED:
            timed = random.sample(members, MOST_TIMED)  # what is hot is read, and drawn, again and again
        if below_bytes:
            cached = self._store.get_short_with_ttl(members, timed, below_bytes=below_bytes)
        else:
            cached = self._store.get_many_with_ttl(members, timed)
        looked_at = {member: cached[member] for member in timed if member in cached}
        reads = self._served(ids[0].collection, looked_at, settings)
        entries = {member: entry for member, (entry, _) in cached.items()}
        return entries | {member: read.entry for member, read in reads.items()}

    def _miss(self, document_id: DocumentId, settings: CollectionSettings, *, keep: bool = False) -> Read:
        until = time.monotonic() + LIVES * self._load_timeout_ms / 1000
        # Whoever needs it in Redis must not share a load that leaves it out.
        key = f"keep {document_id.member}" if keep else document_id.member
        flight, leads = self._flights.board(key)
        if leads:
            try:
                return self._lead(document_id, settings, until, flight, key, keep=keep)
            except MongoUnavailableError as error:
                flight.failure = str(
                    error
                )  # the others would only wait for the same time-out, one after the other
                raise
            finally:
                self._flights.land(key, flight)
        flight.done.wait(until - time.monotonic())
        if flight.entry is not None:
            return Read(flight.entry, Source.COLLAPSED)
        if flight.failure is not None:
            raise MongoUnavailableError(flight.failure)
        # A write came in between, or the time is over: what this reader may see is for Redis to say.
        return self._lead(document_id, settings, until, Flight(), key, keep=keep)

    def _bypass(self, document_id: DocumentId) -> Read:
        """Load without Redis, which cannot say that others load the same; those of this process share it."""
        key = f"bypass {document_id.member}"
        flight, leads = self._flights.board(key)
        if leads:
            try:
                flight.entry = self._sink.find(document_id)
            except MongoUnavailableError as error:
                flight.failure = str(error)
                raise
            finally:
                self._flights.land(key, flight)
        else:
            flight.done.wait(self._load_timeout_ms / 1000)
        if flight.failure is not None:
            raise MongoUnavailableError(flight.failure)
        return Read(flight.entry or self._sink.find(document_id), Source.BYPASS)

    def _lead(
        self,
        document_id: DocumentId,
        settings: CollectionSettings,
        until: float,
        flight: Flight,
        key: str,
        *,
        keep: bool,
    ) -> Read:
        member = document_id.member

        def look(token: str, waited: bool) -> Read | Turn:
            lookup = self._store.lease_get(member, token, life_ms=self._load_timeout_ms)
            if lookup.entry is None:
                return Turn.OURS if lookup.may_load else Turn.ANOTHERS
            source = Source.COLLAPSED if waited else Source.HIT
            return Read(lookup.entry, source, fresh_ms(lookup.entry, lookup.ttl_ms, settings))

        def load(token: str) -> Read | None:
            entry = self._find(document_id)
            self._flights.leave(key, flight)
            ttl_ms = lifetime_ms(entry, settings)
            how = self._store.fill(member, token, entry, ttl_ms=ttl_ms, full=not keep and self._full())
            if how is Filled.REFUSED:
                return None
            if keep and how is Filled.NOT_KEPT:
                raise RedisFullError
            flight.entry = _known(entry, how)
            return Read(flight.entry, Source.MISS, stored=how is not Filled.NOT_KEPT)

        read = take_turns(look, load, lambda token: self._store.abandon([member], token), until=until)
        # Whoever had the right to load has not come back. This reader's own look at MongoDB is as good.
        return read or Read(self._sink.find(document_id), Source.MISS, stored=False)

    def _find(self, document_id: DocumentId) -> Entry:
        began = time.monotonic()
        entry = self._sink.find(document_id)
        self._load_times.note(document_id.collection, (time.monotonic() - began) * 1000)
        return entry

    def _missing_many(self, missing: Sequence[DocumentId], settings: CollectionSettings) -> dict[str, Entry]:
        token = uuid4().hex
        lookups = self._store.lease_get_many([one.member for one in missing], token, life_ms=self._load_timeout_ms)
        pairs = list(zip(missing, lookups, strict=True))
        found = {one.member: lookup.entry for one, lookup in pairs if lookup.entry is not None}
        loaded = self._load_many([one for one, lookup in pairs if lookup.may_load], token, settings)
        found |= {member: entry for member, (entry, how) in loaded.items() if how is not Filled.REFUSED}
        for one in missing:  # loaded by others, or written meanwhile
            if one.member not in found:
                found[one.member] = self._miss(one, settings).entry
        return found

    def _load_many(
        self,
        ids: Sequence[DocumentId],
        token: str,
        settings: CollectionSettings,
        rights: Mapping[str, Refresh] = _NO_RIGHTS,
    ) -> dict[str, tuple[Entry, Filled]]:
        """Load documents of one collection, and fill what is missing, or what there are `rights` to replace."""
        if not ids:
            return {}
        members = [one.member for one in ids]
        try:
            loaded = dict(zip(members, self._sink.find_many(ids), strict=True))
        except (MongoUnavailableError, TakesMuchError):
            self._store.abandon(members, token)
            raise
        ttls_ms = {one: rights[one].ttl_ms for one in members if one in rights}
        filled = self._store.fill_many(
            [
                (member, entry, lifetime_ms(entry, settings, replaces=ttls_ms.get(member)))
                for member, entry in loaded.items()
            ],
            token,
            {member: right.seen for member, right in rights.items()},
            full=not rights and self._full(),
        )
        return {
            member: (_known(entry, how), how) for (member, entry), how in zip(loaded.items(), filled, strict=True)
        }


def _known(loaded: Entry, how: Filled) -> Entry:
    """What a load says of a document, once it is known what became of its fill."""
    return DELETED if how is Filled.DELETED else loaded
