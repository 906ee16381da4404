"""Loads documents from MongoDB into Redis: one load per cold document, and never a fill that hides a write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from uuid import uuid4

from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.large import TakesMuchError
from writebehind.errors import MongoUnavailableError, RedisFullError
from writebehind.mongodb.sink import Sink
from writebehind.mongodb.waiting import waits
from writebehind.reading.freshness import LoadTimes, fresh_ms, lifetime_ms
from writebehind.reading.portions import PORTION_BYTES
from writebehind.reading.read import Read, Source
from writebehind.reading.single_flight import LIVES, Flight, Flights, Turn, take_turns
from writebehind.redis.cache import Filled, Refresh
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans

log = logging.getLogger(__name__)

_NO_RIGHTS: Mapping[str, Refresh] = {}
_NO_DELETIONS: Mapping[str, int] = {}
#: A reader who loses the right to fill so often answers what it has loaded: Redis seems to evict it.
MOST_LOST = 2


class Loader:
    """Loads what is missing or old. Safe to share between threads."""

    def __init__(
        self, store: Store, sink: Sink, *, load_timeout_ms: int, is_full: Callable[[], bool], tallies: Tallies
    ) -> None:
        """Join a store and a sink.

        Args:
            store: the cache.
            sink: what MongoDB has.
            load_timeout_ms: the life of the right to fill an entry.
            is_full: whether Redis has room only for what is hot. Its own policies do not know that what is new
                will not be read again. This is the admission of Einziger, Friedman and Manes, "TinyLFU", ACM
                Transactions on Storage 13 (4), 2017.
            tallies: count the loads.
        """
        self._store = store
        self._sink = sink
        self._load_timeout_ms = load_timeout_ms
        self._is_full = is_full
        self._tallies = tallies
        self._flights = Flights()
        self.load_times = LoadTimes()

    # One document -----------------------------------------------------------------------------------

    def load(self, document_id: DocumentId, settings: CollectionSettings, *, keep: bool = False) -> Read:
        """A document that is not cached: loaded by this reader, or by another one that it waits for.

        With `keep` it is in Redis afterwards, whatever it displaces there.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisFullError: Redis has no memory to `keep` it.
            RedisUnavailableError: Redis does not answer.
        """
        with waits(), spans.load(document_id.collection) as span:
            read = self._load(document_id, settings, keep=keep)
            span.set({"writebehind.source": read.source})
            return read

    def _load(self, document_id: DocumentId, settings: CollectionSettings, *, keep: bool) -> Read:
        until = time.monotonic() + LIVES * self._load_timeout_ms / 1000
        # Whoever needs it in Redis must not share a load that leaves it out.
        key = f"keep {document_id.member}" if keep else document_id.member
        flight, leads = self._flights.board(key)
        if leads:
            try:
                return self._lead(document_id, settings, until, flight, key, keep=keep)
            except MongoUnavailableError as error:
                # The others would only wait for the same time-out, one after the other.
                flight.failure = copy(error)
                raise
            finally:
                self._flights.land(key, flight)
        flight.done.wait(until - time.monotonic())
        if flight.entry is not None:
            return Read(flight.entry, Source.COLLAPSED)
        if flight.failure is not None:
            raise copy(flight.failure)
        # A write came in between, or the time is over: what this reader may see is for Redis to say.
        return self._lead(document_id, settings, until, Flight(), key, keep=keep)

    def bypass(self, document_id: DocumentId) -> Read:
        """Load without Redis, which cannot say that others load the same; those of this process share it.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        with waits(), spans.load(document_id.collection) as span:
            read = self._bypass(document_id)
            span.set({"writebehind.source": read.source})
            return read

    def _bypass(self, document_id: DocumentId) -> Read:
        key = f"bypass {document_id.member}"
        flight, leads = self._flights.board(key)
        if leads:
            try:
                flight.entry = self._sink.find(document_id)
            except MongoUnavailableError as error:
                flight.failure = copy(error)
                raise
            finally:
                self._flights.land(key, flight)
        else:
            flight.done.wait(self._load_timeout_ms / 1000)
        if flight.failure is not None:
            raise copy(flight.failure)
        return Read(flight.entry or self._sink.find(document_id), Source.BYPASS)

    def refresh(self, wanted: Refresh, settings: CollectionSettings) -> Filled:
        """Replace an entry by what MongoDB has, unless it has changed since.

        Raises:
            MongoUnavailableError: MongoDB does not answer; the right to refresh is given back.
            RedisUnavailableError: Redis does not answer.
        """
        document_id = DocumentId.from_member(wanted.member)
        with spans.load(document_id.collection):
            try:
                entry = self._find(document_id)
            except MongoUnavailableError:
                self._store.loads.give_back([wanted])
                raise
            ttl_ms = lifetime_ms(entry, settings, replaces=wanted.ttl_ms)
            return self._store.loads.fill(wanted.member, wanted.token, entry, ttl_ms=ttl_ms, seen=wanted.seen)

    # Many of one collection -------------------------------------------------------------------------

    def load_many(self, missing: Sequence[DocumentId], settings: CollectionSettings) -> dict[str, Entry]:
        """`load` for several documents of one collection, by member."""
        token = uuid4().hex
        members = [one.member for one in missing]
        leases = self._store.loads.get_or_lease_many(members, token, life_ms=self._load_timeout_ms)
        pairs = list(zip(missing, leases, strict=True))
        found = {one.member: lease.entry for one, lease in pairs if lease.entry is not None}
        deletions = {one.member: lease.deletion for one, lease in pairs if lease.may_load}
        ours = [one for one, lease in pairs if lease.may_load]
        loaded = self.fill_many(ours, token, settings, deletions=deletions, keep=False)
        found |= {
            member: entry
            for member, (entry, how) in loaded.items()
            if how is not Filled.REFUSED and (self._is_full() or not how.is_alone)
        }
        for one in missing:  # loaded by others, or written meanwhile
            if one.member not in found:
                found[one.member] = self.load(one, settings).entry
        return found

    def fill_many(
        self,
        ids: Sequence[DocumentId],
        token: str,
        settings: CollectionSettings,
        rights: Mapping[str, Refresh] = _NO_RIGHTS,
        *,
        deletions: Mapping[str, int] = _NO_DELETIONS,
        keep: bool,
        bodies: bool = True,
    ) -> dict[str, tuple[Entry, Filled]]:
        """Load documents of one collection, and fill what is missing, or what there are `rights` to replace.

        Args:
            ids: the documents.
            token: of the right to fill those that are missing.
            settings: of the collection.
            rights: to replace entries, by member.
            deletions: what came with the rights to load, by member.
            keep: whether to fill also what is not hot into a Redis that is full.
            bodies: whether to return documents; without them, a few MiB of them are held at a time.

        Returns:
            What MongoDB has, by member, and what became of the fill.

        Raises:
            MongoUnavailableError: MongoDB does not answer; the rights are given back.
            RedisUnavailableError: Redis does not answer.
        """
        done: dict[str, tuple[Entry, Filled]] = {}
        left, size = list(ids), len(ids)
        while left:
            with spans.load(left[0].collection, len(left[:size])):
                try:
                    found, after = self._sink.find_portion(left[:size], most_bytes=PORTION_BYTES)
                except (MongoUnavailableError, TakesMuchError):
                    self._store.loads.abandon([one.member for one in left], token)
                    raise
                loaded, left = {one.member: entry for one, entry in found.items()}, [*after, *left[size:]]
                self._meet(ids[0].collection, found.values())
                self._tallies.add(families.LOADED, (ids[0].collection,), len(found))
                size = len(found) if after else size * 2  # MongoDB may send far more than what is taken of it
                full = not keep and self._is_full()
                filled = self._fill_some(loaded, token, settings, rights, deletions, full=full)
            for member, (entry, how) in filled.items():
                done[member] = (entry if bodies else replace(entry, body=b""), how)
        return done

    def _fill_some(
        self,
        loaded: Mapping[str, Entry],
        token: str,
        settings: CollectionSettings,
        rights: Mapping[str, Refresh],
        deletions: Mapping[str, int],
        *,
        full: bool,
    ) -> dict[str, tuple[Entry, Filled]]:
        ttls_ms = {one: rights[one].ttl_ms for one in loaded if one in rights}
        filled = self._store.loads.fill_many(
            [
                (member, entry, lifetime_ms(entry, settings, replaces=ttls_ms.get(member)))
                for member, entry in loaded.items()
            ],
            token,
            {member: right.seen for member, right in rights.items() if member in loaded},
            deletions,
            full=full,
        )
        return {
            member: (_known(entry, how), how) for (member, entry), how in zip(loaded.items(), filled, strict=True)
        }

    # How --------------------------------------------------------------------------------------------

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
        member, loads = document_id.member, self._store.loads
        lost = deletion = 0

        def look(token: str, waited: bool) -> Read | Turn:
            nonlocal deletion
            lease = loads.get_or_lease(member, token, life_ms=self._load_timeout_ms)
            deletion = lease.deletion
            if lease.entry is None:
                return Turn.OURS if lease.may_load else Turn.ANOTHERS
            source = Source.COLLAPSED if waited else Source.HIT
            return Read(lease.entry, source, fresh_ms(lease.entry, lease.ttl_ms, settings))

        def load(token: str) -> Read | None:
            nonlocal lost
            entry = self._find(document_id)
            self._flights.leave(key, flight)
            is_full = self._is_full()
            ttl_ms, full = lifetime_ms(entry, settings), is_full and not keep
            how = loads.fill(member, token, entry, ttl_ms=ttl_ms, deletion=deletion, full=full)
            lost += how.is_alone
            # Where Redis has room an invalidation has taken the right: what is loaded anew can be kept.
            if how is Filled.REFUSED or (how.is_alone and not is_full and (keep or lost < MOST_LOST)):
                return None
            if keep and not how.is_stored:
                raise RedisFullError
            known = _known(entry, how)
            if not how.is_alone:
                flight.entry = known
            return Read(known, Source.MISS, stored=how.is_stored)

        read = take_turns(look, load, lambda token: loads.abandon([member], token), until=until)
        # Whoever had the right to load has not come back. This reader's own look at MongoDB is as good.
        return read or Read(self._sink.find(document_id), Source.MISS, stored=False)

    def _find(self, document_id: DocumentId) -> Entry:
        began = time.monotonic()
        entry = self._sink.find(document_id)
        seconds = time.monotonic() - began
        self.load_times.note(document_id.collection, seconds * 1000)
        self._meet(document_id.collection, [entry])
        self._tallies.observe(families.LOADS, (document_id.collection,), seconds)
        self._tallies.add(families.LOADED, (document_id.collection,))
        return entry

    def _meet(self, collection: str, loaded: Iterable[Entry]) -> None:
        """Let a collection have counts of its own once one of its documents is seen."""
        self._tallies.apart.meet(collection, has_documents=any(one.exists for one in loaded))


def _known(loaded: Entry, how: Filled) -> Entry:
    """The result of a load, once the outcome of its fill is known."""
    return DELETED if how in {Filled.DELETED, Filled.DELETED_ALONE} else loaded
