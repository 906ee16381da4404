"""Cached queries: which documents MongoDB has found is kept, and overlaid with what it may not have found yet.

The answer of a query is exact, although MongoDB lags behind and results are kept for long. A result is the list of
the documents that MongoDB has found, with the number of the last change that it had by then. Their bodies come
from their entries. With them, those are looked at that are pending, and those that have changed in MongoDB since:
see docs/queries.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import Any

import bson
from bson import Int64
from bson.codec_options import CodecOptions, DatetimeConversion

from writebehind.documents.deprecated_types import BSON_ERRORS
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId, named
from writebehind.documents.raw_bson import etag
from writebehind.errors import MongoUnavailableError, RedisFullError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.mql.sorts import compile_sort
from writebehind.querying.answers import Answer, Kept, in_order, satisfying
from writebehind.reading.freshness import jittered_ms
from writebehind.reading.portions import by_size, each
from writebehind.reading.read import Source
from writebehind.reading.reader import Reader
from writebehind.reading.single_flight import LIVES, Turn, take_turns
from writebehind.redis.derived.results import MOST_CHANGED, LeasedResult, Look
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.queries import NamedQuery
from writebehind.tracing import spans

#: Dead letters in all that are looked at besides what MongoDB has found.
MOST_DEAD = 2_000
#: How many documents more than wanted are asked for, as some may be deleted before the result is loaded anew; how
#: many times as many, where those were too few; and how many at most.
SPARE, MORE, MOST_FOUND = 5, 4, 20_000
#: The format of `_Found.dump`. A process that writes another one has another number, and so results of its own.
_FORMAT = 1
#: A document without fields; and how to read one whatever strings and dates others have put there.
_EMPTY = bson.encode({})
_ANY: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One query with its arguments, and what its result is called."""

    collection: str
    query: NamedQuery
    filter: Mapping[str, Any]
    name: str
    settings: CollectionSettings
    most_bytes: float


@dataclass(frozen=True, slots=True)
class _Found:
    """Documents that MongoDB has found.

    Attributes:
        at: the number of the last change of which it is known that MongoDB had it.
        members: the documents, in the order of the query.
        last: of the last of them the fields of the sort, BSON; '' where MongoDB has found no more than these.
    """

    at: int
    members: Sequence[str]
    last: bytes = b""

    def dump(self) -> bytes:
        """As it stands in Redis."""
        return bson.encode({"at": Int64(self.at), "members": self.members, "last": self.last})

    @classmethod
    def parse(cls, value: bytes) -> _Found | None:
        """Read what `dump` wrote; `None` for what other hands have put there."""
        try:
            told = bson.decode(value)
            match told:
                case {"at": int() as at, "members": list() as members, "last": bytes() as last}:
                    bson.decode(last or _EMPTY, _ANY)
                    known = [isinstance(one, str) and named(one.encode()) is not None for one in members]
                    return cls(at, members, last) if all(known) else None
        except BSON_ERRORS:
            pass
        return None


@dataclass(frozen=True, slots=True)
class _Since:
    """Changes since a result was loaded, as far as they are known; `partial` says that there are more."""

    look: Look
    unsettled: frozenset[str]
    partial: bool

    def touched(self, found: _Found) -> set[str]:
        """Members that are not known to be as MongoDB found them."""
        changed = self.look.changed.items()
        return {member for member, number in changed if number > found.at}.union(self.unsettled)

    def serves(self, found: _Found) -> bool:
        """Whether a result can be served: it is known what has changed since."""
        if found.at < self.look.before:
            return False
        return len(self.look.changed) < MOST_CHANGED or min(self.look.changed.values()) <= found.at


class Queries:
    """The cached queries of all collections. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        reader: Reader,
        *,
        load_timeout_ms: int,
        interval_ms: int,
        dead: Callable[[str], int],
        settings: Callable[[str], CollectionSettings],
    ) -> None:
        """Join the parts.

        Args:
            store: where results are kept.
            sink: what MongoDB finds.
            reader: where the documents come from.
            load_timeout_ms: the life of the right to load a result.
            interval_ms: within which the results of a collection are to be loaded anew once at most.
            dead: how many dead letters a collection has, or had a moment ago.
            settings: those of a collection, by name.
        """
        self._store = store
        self._sink = sink
        self._reader = reader
        self._load_timeout_ms = load_timeout_ms
        self._interval_ms = interval_ms
        self._dead = dead
        self._settings = settings

    # Changes ----------------------------------------------------------------------------------------

    def changed(self, collection: str, members: Collection[str]) -> None:
        """Note that MongoDB has changed: before what the pipeline has written there is settled.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if members and self._settings(collection).queries:
            self._store.results.record_changes(collection, members, interval_ms=self._interval_ms)

    def forget(self, collection: str) -> None:
        """Load the results of a collection anew, as nobody knows what has changed.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if self._settings(collection).queries:
            self._store.results.outdate(collection, interval_ms=self._interval_ms)

    # Reading ----------------------------------------------------------------------------------------

    def find(
        self,
        collection: str,
        name: str,
        query: NamedQuery,
        arguments: Mapping[str, Any],
        settings: CollectionSettings,
        *,
        most_bytes: float = inf,
    ) -> Answer:
        """The answer of a query, with every write that was acknowledged before.

        From `most_bytes` on, documents are left out, and only their ids are there.

        Raises:
            MongoUnavailableError: Redis does not know, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
            SpoiledError: what other hands have put there is in the way.
        """
        filter_ = query.bound(arguments)
        result_name = f"{collection}/{name}/{_digest(query, filter_)}"
        wanted = _Wanted(collection, query, filter_, result_name, settings, most_bytes)
        try:
            return self._find(wanted)
        except RedisUnavailableError as error:
            if not settings.may_bypass(error):
                raise
            return self._bypass(wanted)

    def _find(self, wanted: _Wanted) -> Answer:
        self._reader.check()
        found = take_turns(
            lambda token, waited: self._turn(wanted, token, Source.COLLAPSED if waited else Source.HIT),
            lambda token: self._load(wanted, token),
            lambda token: self._abandon(wanted, token),
            until=time.monotonic() + LIVES * self._load_timeout_ms / 1000,
        )
        return found or self._load(wanted, "")  # whoever had the right to load has not come back

    def _turn(self, wanted: _Wanted, token: str, source: Source) -> Answer | Turn | None:
        since = self._since(wanted)
        served, is_current = self._served(wanted, since, source)
        if served is not None and is_current:
            return served
        leased = self._store.results.get_or_lease(
            wanted.name, token, life_ms=self._load_timeout_ms, outdated=since.look.value
        )
        if leased is LeasedResult.LOAD:
            return Turn.OURS
        if served is not None:  # with all that has changed; another reader loads it anew
            return served
        return Turn.ANOTHERS if leased is LeasedResult.WAIT else None

    def _served(self, wanted: _Wanted, since: _Since, source: Source) -> tuple[Answer | None, bool]:
        """The answer from Redis, if there is one, and whether it need not be loaded anew."""
        value = since.look.value
        found = None if value is None else _Found.parse(value)
        if found is None or not since.serves(found):
            return None, False
        return self._overlaid(wanted, found, since, source), found.at >= since.look.epoch

    def _since(self, wanted: _Wanted) -> _Since:
        # What was counted a moment ago says nothing of a letter that has come since: only whether there are many.
        too_many = self._dead(wanted.collection) > MOST_DEAD
        look = self._store.results.look(wanted.collection, wanted.name, dead=not too_many)
        return _Since(look, look.pending | look.dead, look.partial or too_many)

    def _load(self, wanted: _Wanted, token: str) -> Answer:
        """Ask MongoDB, and keep what it finds; where it does not answer, what was found before serves."""
        since = self._since(wanted)
        try:
            with spans.load(wanted.collection):
                found, answer = self._ask(wanted, since)
        except MongoUnavailableError:
            served, _ = self._served(wanted, since, Source.HIT)
            if served is None:
                raise
            self._abandon(wanted, token)
            return served
        stored = True
        try:
            ttl_ms = jittered_ms(wanted.query.ttl)
            self._store.results.fill(wanted.name, token, found.dump(), ttl_ms=ttl_ms)
        except RedisFullError:  # the answer is right without being kept
            self._abandon(wanted, token)
            stored = False
        return replace(answer, stored=stored)

    def _abandon(self, wanted: _Wanted, token: str) -> None:
        self._store.results.abandon(wanted.name, token)

    def _ask(self, wanted: _Wanted, since: _Since) -> tuple[_Found, Answer]:
        """The result that MongoDB has now, with all changes up to the last one that is known; and the answer.

        It is asked for more where so many of what it finds are gone or changed that others may come in.
        """
        query, most = wanted.query, wanted.query.limit + SPARE
        while True:
            places, last = self._sink.find_places(wanted.collection, wanted.filter, query.sort, most)
            members = [one.member for one in places if one is not None]
            are_more = len(places) == most < MOST_FOUND
            found = _Found(since.look.number, members, last if are_more else b"")
            answer = self._overlaid(wanted, found, since, Source.MISS)
            if answer is not None:
                return found, answer
            most = min(most * MORE, MOST_FOUND)

    # Overlaying -------------------------------------------------------------------------------------

    def _overlaid(self, wanted: _Wanted, found: _Found, since: _Since, source: Source) -> Answer | None:
        """The result as its documents are now, with new ones; `None` where MongoDB has to be asked for more."""
        query = wanted.query
        touched = since.touched(found)
        sort = query.sort if touched else {}
        documents = self._each([*found.members, *sorted(touched)], wanted)
        kept = satisfying(documents, wanted.filter, sort, query.limit)
        if sort:
            end = compile_sort(sort)(found.last) if found.last else None
            kept = in_order(kept, end, set(found.members) - touched)
        if len(kept) < query.limit and found.last:
            return None
        answered = dict(islice(kept.items(), query.limit))
        self._reader.count(answered)
        ttl_ms = -1 if source is Source.MISS else since.look.ttl_ms
        again = self._each([one for one, it in answered.items() if it.entry is None], wanted)
        answer = Answer.of(answered, again, wanted.filter, query, wanted.most_bytes)
        return replace(answer, source=source, ttl_ms=ttl_ms, partial=since.partial)

    def _bypass(self, wanted: _Wanted) -> Answer:
        """The answer of MongoDB alone."""
        query = wanted.query
        with spans.load(wanted.collection):
            places, _ = self._sink.find_places(wanted.collection, wanted.filter, query.sort, query.limit)
        answered = {one.member: Kept() for one in places if one is not None}
        ids = list(map(DocumentId.from_member, answered))
        self._reader.count_reads(ids, Source.BYPASS, len(ids))
        documents = zip(answered, by_size(self._store, ids, self._sink.find_many), strict=False)
        return Answer.of(answered, documents, wanted.filter, query, wanted.most_bytes)

    def _each(self, members: Sequence[str], wanted: _Wanted) -> Iterator[tuple[str, Entry]]:
        """Documents in their order, each once; so many at a time are read as take few bytes."""
        ids = [one for one in map(named, map(str.encode, dict.fromkeys(members))) if one is not None]
        settings = wanted.settings
        entries = each(
            self._store,
            ids,
            lambda some, below: self._reader.get_short(some, settings, below_bytes=below, counted=False),
            lambda some: self._reader.get_many(some, settings, counted=False),
        )
        return zip((one.member for one in ids), entries, strict=True)


def _digest(query: NamedQuery, filter_: Mapping[str, Any]) -> str:
    """All that decides which list a result is: processes with other settings have results of their own."""
    decides = {"format": _FORMAT, "filter": filter_, "sort": query.sort, "limit": query.limit}
    return etag(bson.encode(decides))
