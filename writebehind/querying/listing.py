"""Lists of all documents of a collection, page by page, as they were last acknowledged, in the order of ids.

The order of the steps makes a page exact. What MongoDB may not have is asked for first, then MongoDB, then what
has become of the former. A document that is flushed in between is found twice, and never missed: what was not
pending at first has been in MongoDB since. So of each id there is one state, which was acknowledged when the page
began, or later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId, is_unicode, named
from writebehind.documents.large import TakesMuchError
from writebehind.errors import (
    MongoRefusesError,
    RedisUnavailableError,
    TooMuchPendingError,
    UnreadableDocumentError,
)
from writebehind.mongodb.finder import Placed
from writebehind.mongodb.sink import Sink
from writebehind.mql.order import MAXIMUM, MINIMUM, Key, key_of, key_of_tagged
from writebehind.querying.cursors import Cursors
from writebehind.querying.pages import Page
from writebehind.reading.portions import PORTION_BYTES, each
from writebehind.reading.read import Source
from writebehind.reading.reader import Reader
from writebehind.redis.shared.cursor_key import CursorKey
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tracing import spans

#: Documents of a page where nothing else is said, and at most.
DEFAULT_LIMIT: Final = 100
MOST: Final = 1_000
#: Bytes of the documents of a page, BSON: it ends with the one that brings it there.
MOST_BYTES: Final = 8 << 20
#: Documents after which a page ends though it is not full: most were deleted, or have ids that none of ours has.
MOST_LOOKED_AT: Final = 5_000
#: Pending members, and names of dead letters, that are read for a page: in all partitions, but so many of each;
#: and the dead letters of a collection from which on they are not even counted.
MOST_UNSETTLED: Final = 65_536
LEAST_UNSETTLED: Final = 64
MOST_DEAD: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A page: after which id of which collection, and how much at most."""

    settings: CollectionSettings
    cursors: Cursors
    after: object
    limit: int
    most_bytes: int

    @property
    def collection(self) -> str:
        return self.cursors.collection


class _Name(NamedTuple):
    """A name at its place, as Redis has it: of a document, unless other hands have made it up."""

    key: Key
    member: str


class _Unsettled(NamedTuple):
    """A document that MongoDB may not have as it is."""

    key: Key
    id: DocumentId


@dataclass(frozen=True, slots=True)
class _State:
    """State of an id, as MongoDB has it where it `is_stored`, else as was acknowledged last.

    No document of ours can have it where `id` is `None`, and none is there where `body` is.
    """

    value: object
    key: Key
    id: DocumentId | None = None
    body: bytes | None = None
    is_stored: bool = True


class Listing:
    """The lists of all collections. Safe to share between threads."""

    def __init__(self, store: Store, sink: Sink, reader: Reader, *, dead: Callable[[str], int]) -> None:
        """Join the parts.

        Args:
            store: what is pending.
            sink: what MongoDB has.
            reader: the states of what is pending.
            dead: how many dead letters a collection has, or had a moment ago.
        """
        self._store = store
        self._sink = sink
        self._reader = reader
        self._dead = dead
        self._key: CursorKey | None = None

    def page(
        self, collection: str, after: str | None, settings: CollectionSettings, *, limit: int, most_bytes: int
    ) -> Page:
        """Documents after a cursor, or the first ones, until there are `limit`, or they take `most_bytes`.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
            RequestError: the cursor is none.
            SpoiledError: what other hands have put there is in the way.
            TooMuchPendingError: more is pending than a page looks at.
        """

        def wanted(key: CursorKey) -> _Wanted:
            cursors = Cursors(collection, key.secret)
            place = None if after is None else cursors.read(after)
            return _Wanted(settings, cursors, place, limit, most_bytes)

        try:
            self._reader.check()
            self._key = self._store.cursor_key.first(CursorKey.new())
            page = wanted(self._key)
            return self._page(page, self._unsettled(page), Source.MISS)
        except RedisUnavailableError as error:
            if self._key is None or not settings.may_bypass(error):
                raise
            return self._page(wanted(self._key), (), Source.BYPASS)

    def _unsettled(self, wanted: _Wanted) -> list[_Name]:
        """Pending documents after the place where a page begins, and dead letters that readers see, in order."""
        most = max(LEAST_UNSETTLED, MOST_UNSETTLED // self._store.partitions)
        few_dead = self._dead(wanted.collection) <= MOST_DEAD
        members = self._store.unsettled.of_collection(wanted.collection, most=most) if few_dead else None
        if members is None:
            raise TooMuchPendingError
        begin, least = len(wanted.collection) + 1, _key_after(wanted)
        keys = ((key_of_tagged(member[begin:]), member) for member in members)
        return sorted(_Name(key, member) for key, member in keys if key is not None and key > least)

    def _page(self, wanted: _Wanted, unsettled: Sequence[_Name], source: Source) -> Page:
        page = self._filled(wanted, unsettled, source)
        # What MongoDB was asked for without a look into Redis says nothing of what that could have answered.
        self._reader.count_reads(page.ids, Source.HIT, page.unsettled)
        self._reader.count_reads(page.ids, Source.BYPASS, len(page.ids) - page.unsettled)
        return page

    def _filled(self, wanted: _Wanted, unsettled: Sequence[_Name], source: Source) -> Page:
        ids: list[DocumentId] = []
        bodies: list[bytes] = []
        states = self._states(wanted, unsettled)
        after: str | None = None
        size = looked_at = of_redis = 0
        is_full = False
        try:
            for state in states:
                if is_full:  # and there is more
                    return Page(ids, bodies, after, wanted.cursors, source, of_redis)
                looked_at += 1
                after = wanted.cursors.after(state.value) or after
                if state.id is not None and state.body is not None:
                    ids.append(state.id)
                    bodies.append(state.body)
                    of_redis += not state.is_stored
                    size += len(state.body)
                    is_full = len(ids) >= wanted.limit or size >= wanted.most_bytes
                is_full |= looked_at >= MOST_LOOKED_AT and after is not None
        except TakesMuchError:  # the next page begins with the large one
            if after is None:
                raise
            return Page(ids, bodies, after, wanted.cursors, source, of_redis)
        return Page(ids, bodies, None, wanted.cursors, source, of_redis)

    def _states(self, wanted: _Wanted, unsettled: Sequence[_Name]) -> Iterator[_State]:
        """The states of ids from the place on where the page begins, in their order, one after the other."""
        value, least, begin = wanted.after, _key_after(wanted), 0
        while True:
            with spans.load(wanted.collection):
                found, is_end = self._sink.find_after(
                    wanted.collection, value, limit=wanted.limit + 1, most_bytes=PORTION_BYTES
                )
            placed = _in_order(wanted.collection, found, least)
            if not is_end:
                placed = _to_be_continued(wanted.collection, placed)
            if placed:
                value, least = placed[-1].value, placed[-1].key
            through = MAXIMUM if is_end else least
            end = bisect_right(unsettled, through, key=attrgetter("key"))
            # A page ends before more of them than these: so many have been looked at by then.
            now = list(islice(_named(unsettled[begin:end]), MOST_LOOKED_AT + 1))
            known, begin = {one.id.member for one in now}, end
            stored = (
                _State(one.value, one.key, one.id, one.body)
                for one in placed
                if one.id is None or one.id.member not in known
            )
            yield from merge(stored, self._acknowledged(wanted, now), key=attrgetter("key"))
            if is_end:
                return

    def _acknowledged(self, wanted: _Wanted, unsettled: Sequence[_Unsettled]) -> Iterator[_State]:
        """The states of documents as readers see them: so many at a time are read as take few bytes."""
        settings = wanted.settings
        entries: Iterator[Entry] = each(
            self._store,
            [one.id for one in unsettled],
            lambda some, below: self._reader.get_short(
                some, settings, below_bytes=below, counted=False, told=False
            ),
            lambda some: self._reader.get_many(some, settings, counted=False, told=False),
        )
        for one, entry in zip(unsettled, entries, strict=True):
            yield _State(one.id.value, one.key, one.id, entry.body if entry.exists else None, is_stored=False)


def _named(names: Iterable[_Name]) -> Iterator[_Unsettled]:
    """The documents that have these names."""
    for key, member in names:
        document_id = named(member.encode())
        if document_id is not None:
            yield _Unsettled(key, document_id)


def _key_after(wanted: _Wanted) -> Key:
    """The place after which a page begins."""
    return MINIMUM if wanted.after is None else key_of(wanted.after)


def _in_order(collection: str, found: Sequence[Placed], least: Key) -> list[Placed]:
    """The documents that MongoDB has found after a place, each id once.

    Raises:
        MongoRefusesError: it is not in the order of ids.
    """
    placed: list[Placed] = []
    for one in found:
        if one.key < least and one.id is None:  # a binary that is no UUID, where a server compares those otherwise
            continue
        if one.key < least:
            raise MongoRefusesError(
                f"MongoDB lists {collection} in another order than that of ids: the collection has a collation"
            )
        if one.key > least:  # else it is on two shards
            placed.append(one)
            least = one.key
    return placed


def _to_be_continued(collection: str, placed: list[Placed]) -> list[Placed]:
    """The same up to the last id after which MongoDB can be asked for more.

    Raises:
        UnreadableDocumentError: there is none such.
    """
    for count in range(len(placed), 0, -1):
        value = placed[count - 1].value
        if not isinstance(value, str) or is_unicode(value):
            return placed[:count]
    raise UnreadableDocumentError(f"{collection} has more ids that are no UTF-8 than a page has documents")
