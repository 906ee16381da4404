"""Cache-aside reads: one load per cold document, and never a fill that hides a write."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from writebehind.entry import DELETED, Entry
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.ids import DocumentId
from writebehind.settings import CollectionSettings
from writebehind.sink import Sink
from writebehind.store import Filled, Store
from writebehind.vitals import Sampler

#: Steps between two looks for an entry that another reader loads, seconds: they double, with jitter.
WAIT_FROM_S, WAIT_TO_S = 0.002, 0.1


class Source(StrEnum):
    """Where a read was answered from."""

    HIT = "hit"
    MISS = "miss"
    COLLAPSED = "collapsed"
    """Loaded by another reader while this one waited."""
    BYPASS = "bypass"
    """Read from MongoDB, because Redis does not answer: it may miss what is pending."""


@dataclass(frozen=True, slots=True)
class Read:
    """The state of a document, where it came from, and for a hit the ms it stays cached: -1 while pending."""

    entry: Entry
    source: Source
    ttl_ms: int = -1


class _Flight:
    """One load that several threads of this process wait for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.entry: Entry | None = None
        self.error: MongoUnavailableError | None = None


class Reader:
    """Reads documents through the cache. Safe to share between threads."""

    def __init__(self, store: Store, sink: Sink, *, load_timeout_ms: int, sampler: Sampler | None = None) -> None:
        """Join a store and a sink; `load_timeout_ms` is the life of the right to fill an entry.

        With a `sampler`, nothing is read from a Redis that has been divided anew: entries are elsewhere then.
        """
        self._store = store
        self._sampler = sampler
        self._sink = sink
        self._load_timeout_ms = load_timeout_ms
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()
        #: Reads answered from Redis, and reads that had to wait for MongoDB, in this process.
        self.hits = 0
        self.misses = 0

    def read(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        """Read one document for somebody who would rather have what MongoDB has than nothing.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
        """
        try:
            return self.get(document_id, settings)
        except RedisUnavailableError:
            if not settings.bypass:
                raise
            return self._bypass(document_id)

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
        entry, ttl_ms = self._store.get(document_id.member)
        if entry is not None:
            self.hits += 1
            return Read(entry, Source.HIT, ttl_ms)
        self.misses += 1
        return self._miss(document_id, settings)

    def get_many(self, ids: Sequence[DocumentId], settings: CollectionSettings) -> list[Entry]:
        """`get` for several documents of one collection, in their order; one round trip when all are cached.

        Raises:
            MongoUnavailableError: some are not cached, and MongoDB does not answer.
            RedisUnavailableError: as `get`.
        """
        self._check_division()
        found = self._store.get_many([one.member for one in ids]) if ids else {}
        missing = list({one.member: one for one in ids if one.member not in found}.values())
        self.hits += len(ids) - len(missing)
        self.misses += len(missing)
        if missing:
            found |= self._load_many(missing, settings)
        return [found[one.member] for one in ids]

    def _check_division(self) -> None:
        if self._sampler is not None:
            self._sampler.look().check_division()

    def _miss(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        member = document_id.member
        flight, leads = self._board(member)
        if leads:
            try:
                return self._lead(document_id, settings, flight)
            except MongoUnavailableError as error:
                flight.error = error  # the others would only wait for the same time-out, one after the other
                raise
            finally:
                self._land(member, flight)
                flight.done.set()
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
        flight, leads = self._board(key)
        if leads:
            try:
                flight.entry = self._sink.find(document_id)
            except MongoUnavailableError as error:
                flight.error = error
                raise
            finally:
                self._land(key, flight)
                flight.done.set()
        else:
            flight.done.wait(self._load_timeout_ms / 1000)
        if flight.error is not None:
            raise MongoUnavailableError(str(flight.error)) from flight.error
        return Read(flight.entry or self._sink.find(document_id), Source.BYPASS)

    def _lead(self, document_id: DocumentId, settings: CollectionSettings, flight: _Flight | None) -> Read:
        member, token = document_id.member, uuid4().hex
        deadline = time.monotonic() + self._load_timeout_ms / 1000
        step, source = WAIT_FROM_S, Source.HIT
        while time.monotonic() < deadline:
            lookup = self._store.lease_get(member, token, life_ms=self._load_timeout_ms)
            if lookup.entry is not None:
                return Read(lookup.entry, source, lookup.ttl_ms)
            if lookup.may_load:
                entry = self._load(document_id, token)
                if flight is not None:
                    # Nobody may join from here on: a reader who comes after a later write must not share this.
                    self._land(member, flight)
                filled = self._store.fill(member, token, entry, ttl_ms=ttl_of(entry, settings))
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
        try:
            return self._sink.find(document_id)
        except MongoUnavailableError:
            self._store.abandon([document_id.member], token)
            raise

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
            [(one.member, entry, ttl_of(entry, settings)) for one, entry in zip(ours, loaded, strict=True)],
            token,
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

    def _board(self, key: str) -> tuple[_Flight, bool]:
        """The flight for a key, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = _Flight()
            return flight, True

    def _land(self, member: str, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(member) is flight:
                del self._flights[member]


def ttl_of(entry: Entry, settings: CollectionSettings) -> int:
    """How long an entry that is in MongoDB stays in Redis, ms."""
    return int((settings.ttl if entry.exists else settings.negative_ttl) * 1000)
