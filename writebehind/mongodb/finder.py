"""MongoDB as the protocol reads it: documents by id, by a unique value or by a query, and their versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from bson import ObjectId
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from writebehind.documents import large
from writebehind.documents.elements import elements
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import RAW_OPTIONS, VERSION_FIELD, first_element, split_version, version_of
from writebehind.documents.shard_key import ShardKey, address, addresses
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb import error_table
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.deployment import Deployment
from writebehind.mongodb.fresh_reads import OF_PRIMARY, FreshReads
from writebehind.mongodb.id_ranges import ranges_after
from writebehind.mongodb.outcomes import NOTHING
from writebehind.mql.filters import has_key
from writebehind.mql.order import Key, key
from writebehind.sequences import grouped, slices

#: Ids in one `$in`: servers differ in how they take long lists.
MOST_IDS = 200
#: About the most that one answer is to bring, where documents are looked at one by one, bytes.
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Placed:
    """A document at its place among the others of its collection.

    Attributes:
        id: `None` where no document of the pipeline can have it.
        value: `_id` as MongoDB has it.
        key: its place in MongoDB's order.
        body: BSON without `_v`.
    """

    id: DocumentId | None
    value: object
    key: Key
    body: bytes

    @classmethod
    def of(cls, collection: str, found: RawBSONDocument) -> Placed:
        """A document as it was read."""
        raw, value = bytes(found.raw), _id_of(found)
        place = next(one for name, one in elements(raw) if name == b"_id")  # the first, as MongoDB stores it
        return cls(DocumentId.stored(collection, value), value, key(raw, place), split_version(raw)[0])


class Finder(Deployment):
    """The documents in MongoDB. Safe to share between threads."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        *,
        timeout_ms: int,
        breaker: MongoBreaker | None = None,
        shard_key: Callable[[str], ShardKey | None] = lambda _: None,
        reads: FreshReads = OF_PRIMARY,
    ) -> None:
        """Read from one database.

        Args:
            client: as of the deployment, and so are `database`, `timeout_ms` and `breaker`.
            database: its name.
            timeout_ms: bounds every operation.
            breaker: in front of it.
            shard_key: by which key a collection is sharded, if not by `_id`.
            reads: where documents are read that readers are given. What decides about writes is the primary's.
        """
        self._reads = reads
        super().__init__(client, database, timeout_ms=timeout_ms, breaker=breaker)
        self._shard_key = shard_key

    def find(self, document_id: DocumentId) -> Entry:
        """The document as MongoDB has it, or `ABSENT`.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            TakesMuchError: this thread may not read so large a document.
        """
        where = self._where(document_id)
        with (
            self._guard(),
            self._deadline(),
            self._reads.of(self._database[document_id.collection], where) as (target, session),
        ):
            found = target.find_one(where, session=session)
        _see(found)
        # By the collation of its collection MongoDB may take another id for the same.
        if found is None or DocumentId.stored(document_id.collection, _id_of(found)) != document_id:
            return ABSENT
        return Entry.loaded(*split_version(found.raw))

    def find_by(self, collection: str, field: str, value: object) -> tuple[DocumentId | None, Entry]:
        """The document that has a value in a field that is unique, or `None` and `ABSENT`.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            TakesMuchError: this thread may not read so large a document.
        """
        where = {field: value}
        with (
            self._guard(),
            self._deadline(),
            self._reads.of(self._database[collection], where) as (target, session),
        ):
            found = target.find_one(where, session=session)
        _see(found)
        if found is None:
            return None, ABSENT
        return DocumentId.stored(collection, found["_id"]), Entry.loaded(*split_version(found.raw))

    def find_holders(
        self, collection: str, field: str, value: object, *, limit: int = 2
    ) -> list[tuple[object, object]]:
        """Documents that have a value as a key of an index: of each its `_id`, and its `_v` or `NOTHING`.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        with self._guard(), self._deadline():
            found = self._database[collection].find({field: has_key(value)}, {VERSION_FIELD: 1}, limit=limit)
            return [(one["_id"], one.get(VERSION_FIELD, NOTHING)) for one in found]

    def find_many(self, ids: Sequence[DocumentId]) -> list[Entry]:
        """The documents of one collection, in the order of the ids; `ABSENT` where there is none.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            TakesMuchError: this thread may not read one of them, as it is so large.
        """
        found: dict[DocumentId | None, Entry] = {}
        for some in slices(ids, MOST_IDS):
            found |= self._find_some(some)[0]
        return [found.get(one, ABSENT) for one in ids]

    def find_states(self, ids: Sequence[DocumentId]) -> list[Entry]:
        """The same without the bodies, of which one is held at a time: as many requests as large ones need."""
        found: dict[DocumentId | None, Entry] = {}
        left, size = list(ids), MOST_IDS
        while left:
            some, left = left[:size], left[size:]
            part, is_whole = self._find_some(some, most_bytes=MOST_BYTES, bodies=False)
            found |= part
            if is_whole:
                size = min(MOST_IDS, size * 2)
            else:
                left = [one for one in some if one not in part] + left
                size = len(part)
        return [found.get(one, ABSENT) for one in ids]

    def find_portion(
        self, ids: Sequence[DocumentId], *, most_bytes: int
    ) -> tuple[dict[DocumentId, Entry], list[DocumentId]]:
        """Some of the documents of one collection, until they take `most_bytes`, and the ids that are left then.

        Raises: as `find_many`.
        """
        some = ids[:MOST_IDS]
        found, is_whole = self._find_some(some, most_bytes=most_bytes)
        known = {one: found.get(one, ABSENT) for one in some if is_whole or one in found}
        return known, [one for one in ids if one not in known]

    def _find_some(
        self, ids: Sequence[DocumentId], *, most_bytes: float = inf, bodies: bool = True
    ) -> tuple[dict[DocumentId | None, Entry], bool]:
        """Those that there are, and whether these are all: there may be more where they take `most_bytes`."""
        found: dict[DocumentId | None, Entry] = {}
        wanted: set[DocumentId | None] = set(ids)
        collection, size, largest = ids[0].collection, 0, 0
        query = addresses(ids, self._shard_key(collection))
        with (
            self._guard(),
            self._deadline(),
            self._reads.of(self._database[collection], query) as (target, session),
            target.find(query, session=session) as cursor,
        ):
            for document in cursor:
                largest = max(largest, len(document.raw))
                if largest > large.most():
                    break
                one = DocumentId.stored(collection, _id_of(document))
                if one not in wanted:  # MongoDB takes it for the same, by the collation of its collection
                    continue
                entry = Entry.loaded(*split_version(document.raw))
                found[one] = entry if bodies else replace(entry, body=b"")
                size += len(document.raw)
                if size >= most_bytes:
                    break
        large.see(largest)
        return found, size < most_bytes

    def find_places(
        self, collection: str, filter_: Mapping[str, Any], sort: Mapping[str, int], limit: int
    ) -> tuple[list[DocumentId | None], bytes]:
        """The ids of documents that satisfy a filter, in order, and of the last one the fields of the sort, BSON.

        An id is `None` where no document of the pipeline can have it. The fields are whole: in a part of an array
        what has no such part, and counts as null, would be missing. They may be large: one is held at a time.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or refuses the query.
        """
        fields = {"_id": 1, **{name.partition(".")[0]: 1 for name in sort}}
        ids: list[DocumentId | None] = []
        last: bytes | memoryview = b""
        with (
            self._guard(),
            self._deadline(error_table.of_query),
            self._reads.of(self._database[collection], {"_id": ObjectId()}) as (target, session),
        ):
            cursor = target.find(filter_, fields, limit=limit, session=session)
            try:
                for one in cursor.sort(list(sort.items())) if sort else cursor:
                    ids.append(DocumentId.stored(collection, _id_of(one)))
                    last = one.raw
            except (BSONError, OverflowError) as error:  # the driver does not even send it
                raise MongoUnavailableError("the query cannot be sent", inner=error) from error
        return ids, bytes(last)

    def find_after(
        self, collection: str, value: object, *, limit: int, most_bytes: int
    ) -> tuple[list[Placed], bool]:
        """Documents after an id, in the order of their ids; all from the first one on after `None`.

        Some of them, until there are `limit`, or they take `most_bytes`; and whether no others follow these.
        A document that this thread may not read ends them, too.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            TakesMuchError: this thread may not read the first one, as it is so large.
        """
        found: list[Placed] = []
        largest = size = 0
        for one_range in ranges_after(value):
            where, left = {"_id": one_range}, limit - len(found)
            with (
                self._guard(),
                self._deadline(),
                self._reads.of(self._database[collection], where) as (target, session),
                target.find(where, session=session, limit=left, batch_size=left).sort("_id", 1) as cursor,
            ):
                for document in cursor:
                    largest = len(document.raw)
                    if largest > large.most():
                        break
                    found.append(Placed.of(collection, document))
                    size += largest
                    if size >= most_bytes:
                        break
            if largest > large.most() and not found:
                large.see(largest)
            if largest > large.most() or size >= most_bytes or len(found) == limit:
                return found, False
        return found, True

    def versions(self, ids: Sequence[DocumentId]) -> dict[str, int]:
        """The versions of the documents that MongoDB has, by member; 0 for one whose `_v` counts as none.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        found: dict[str, object] = {}
        for collection, some in grouped(ids, lambda one: one.collection).items():
            with self._guard():
                found |= self._versions(collection, some)
        return {member: version_of(value) for member, value in found.items()}

    def _versions(self, collection: str, ids: Sequence[DocumentId]) -> dict[str, object]:
        """MongoDB's `_v` of each document of a collection that exists, by member."""
        target, key = self._database[collection], self._shard_key(collection)
        versions: dict[DocumentId | None, object] = {}
        for some in slices(ids, MOST_IDS):
            with self._deadline():
                for document in target.find(addresses(some, key), {VERSION_FIELD: 1}):
                    versions[DocumentId.stored(collection, document["_id"])] = document.get(VERSION_FIELD, NOTHING)
        return {one.member: versions[one] for one in ids if one in versions}

    def _where(self, document_id: DocumentId) -> dict[str, Any]:
        """A filter that matches a document, with its shard key."""
        return address(document_id, self._shard_key(document_id.collection))


def _see(found: RawBSONDocument | None) -> None:
    """See that this thread may read what was found. Raises as `large.see`."""
    if found is not None:
        large.see(len(found.raw))


def _id_of(document: RawBSONDocument) -> object:
    """Its `_id`, which MongoDB stores first; the other fields, which may be many, are not looked at."""
    first = RawBSONDocument(first_element(bytes(document.raw)), RAW_OPTIONS)
    return first["_id"] if "_id" in first else document["_id"]
