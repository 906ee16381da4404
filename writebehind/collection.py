"""Documents of one collection: what the HTTP API and library users call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NoReturn

from pydantic import BaseModel

from writebehind import strict
from writebehind.documents.durability import Durability
from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId
from writebehind.documents.patches import Document, Patch
from writebehind.errors import (
    DeadLetterError,
    InvalidArgumentError,
    InvalidIdError,
    RedisUnavailableError,
    RequestError,
    UnavailableError,
    UnknownQueryError,
)
from writebehind.hooks import Hooks
from writebehind.querying.answers import Answer
from writebehind.querying.cached_queries import Queries
from writebehind.querying.listing import DEFAULT_LIMIT, MOST, MOST_BYTES, Listing
from writebehind.querying.pages import Page
from writebehind.querying.unique_fields import Lookups
from writebehind.reading.failures import FailedReads
from writebehind.reading.read import Read
from writebehind.redis.round_trip import RoundTrip
from writebehind.settings.collection import CollectionSettings
from writebehind.strict import UNCONDITIONAL
from writebehind.writing.bulk import Bulk, BulkOperation, BulkResult
from writebehind.writing.changer import Change, Changer, steps_of
from writebehind.writing.committing import WriterParts
from writebehind.writing.failures import FailedWrites
from writebehind.writing.request_key import request_key
from writebehind.writing.writer import Writer, Written

__all__ = ["BulkOperation", "BulkResult", "Collection", "Incremented"]

#: A document to store: values by name, or a model, which gives its fields by their aliases.
Storable = Mapping[str, Any] | BaseModel
#: The name of a write that is to count once, however often it is repeated; `None` for none.
Key = str | IdempotencyKey | None


@dataclass(frozen=True, slots=True)
class Incremented:
    """An acknowledged increment, and the new values by path."""

    written: Written
    values: dict[str, Any]


class Collection:
    """Documents of one collection. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        settings: CollectionSettings,
        parts: WriterParts,
        lookups: Lookups,
        queries: Queries,
        *,
        listing: Listing,
        hooks: Hooks,
    ) -> None:
        """Bind a collection to a pipeline.

        Raises:
            ConfigurationError: its schema file is not a JSON Schema.
        """
        self.name = name
        self.settings = settings
        self._reader = parts.reader
        self._failed_reads = FailedReads(parts.tallies, name)
        self._failed_writes = FailedWrites(parts.tallies, name)
        self._lookups = lookups
        self._queries = queries
        self._listing = listing
        self._writer = Writer(name, settings, parts, hooks)
        self._changer = Changer(self._writer, max_document_bytes=parts.max_document_bytes)

    def id(self, given: object) -> DocumentId:
        """The document that a caller names, by native id or by its text.

        Raises:
            InvalidIdError: it does not fit the collection's id type.
        """
        return self._writer.id(given)

    def is_named_by_its_text(self, document_id: DocumentId) -> bool:
        """Whether the text of a document's id leads to it: one of others may have an id of another type."""
        try:
            return self.id(document_id.text) == document_id
        except InvalidIdError:
            return False

    # Reading ----------------------------------------------------------------------------------------

    def get(self, given: object) -> Document | None:
        """The document as native BSON values, or `None`.

        Raises:
            InvalidIdError: it is no id of this collection.
            UnavailableError: a server that is needed does not answer.
        """
        return self.read(given).entry.document

    def mget(self, given: Iterable[object]) -> list[Document | None]:
        """Several documents in the order of their ids, `None` where there is none; cached ones in one round trip.

        Raises: as `get`, also where one of several cannot be read.

        Raises:
            InvalidArgumentError: this is no list of ids.
        """
        return [entry.document for entry in self.read_many(given)[0]]

    def get_each(self, given: Iterable[object]) -> Iterator[Document | None]:
        """The same one after the other, so that few documents are in memory at a time, however many there are.

        Raises: as `mget`; what is wrong with an id at once, all else when its turn comes.
        """
        return (entry.document for entry, _ in self.read_each(given))

    def exists(self, given: object) -> bool:
        """Whether there is a document, which is not decoded. Raises as `get`."""
        return self.read(given).entry.exists

    def read(self, given: object) -> Read:
        """The document's entry, and where it came from. Raises as `get`."""
        document_id = self._writer.id(given)
        try:
            return self._reader.get_or_bypass(document_id, self.settings)
        except UnavailableError as error:
            self._failed_reads.note(error)
            raise

    def read_trip(self, given: object, *, most_bytes: int) -> RoundTrip[Read] | None:
        """`read` in two halves, of a document of so many bytes that Redis has; `None` where it may take more.

        Raises:
            InvalidIdError: it is no id of this collection.
        """
        return self._reader.trip(self._writer.id(given), self.settings, most_bytes)

    def read_many(self, given: Iterable[object]) -> tuple[list[Entry], bool]:
        """The entries of several documents, in their order; and whether Redis was bypassed. Raises as `get`."""
        ids = [self._writer.id(one) for one in strict.each("ids", given)]
        with self._failed_reads:
            return self._reader.get_many_or_bypass(ids, self.settings)

    def read_each(self, given: Iterable[object]) -> Iterator[tuple[Entry, bool]]:
        """`read_many` one after the other, so that few are held: of each whether Redis was bypassed."""
        ids = [self._writer.id(one) for one in strict.each("ids", given)]
        return self._each(ids)

    def look_up(self, field: str, text: str) -> tuple[DocumentId | None, Read]:
        """The document that has a value in a field listed under `lookup`, as it was last acknowledged.

        Args:
            field: the field, or a path such as `address.city`.
            text: the value, as in a URL.

        Returns:
            Its id and its entry, and where it came from; `None` and an absent entry if there is none.

        Raises:
            RequestError: the field is not listed, or the text is no value of its type.
            UnavailableError: as `get`.
        """
        alias = self._lookups.alias(self.name, self.settings, strict.text("field", field), text)
        with self._failed_reads:
            return self._lookups.find(alias, self.settings)

    def query(self, name: str, arguments: Mapping[str, object] | None = None) -> list[Document]:
        """The documents that satisfy a query of the collection's settings, as they were last acknowledged.

        Args:
            name: of the query.
            arguments: its parameters, as texts or native values.

        Returns:
            The documents as native values, with the fields that the query's projection wants.

        Raises:
            UnknownQueryError: there is no such query.
            RequestError: a parameter is missing, unknown, or of another type.
            UnavailableError: as `get`.
        """
        return self.read_query(name, {} if arguments is None else arguments).documents()

    def read_query(self, name: str, arguments: Mapping[str, object], *, most_bytes: float = inf) -> Answer:
        """The same, and where it came from; from `most_bytes` on only the ids. Raises as `query`."""
        query = self.settings.queries.get(strict.text("name", name))
        if query is None:
            offered = ", ".join(self.settings.queries) or "none"
            raise UnknownQueryError(f"{self.name} has no query {name[:120]!r}; queries: {offered}")
        given = query.arguments(strict.named("arguments", arguments))
        with self._failed_reads:
            return self._queries.find(self.name, name, query, given, self.settings, most_bytes=most_bytes)

    def page(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT, most_bytes: int = MOST_BYTES) -> Page:
        """Some documents of the collection in the order of their ids, each as it was last acknowledged.

        Args:
            after: the cursor of the page before, its `after`; `None` for the first page.
            limit: documents at most, from 1 to 1,000. A page may have fewer, or none, and not be the last.
            most_bytes: of the documents, BSON: the page ends with the one that brings it there.

        Raises:
            InvalidArgumentError: the limit is another one.
            RequestError: `after` is no cursor of this collection.
            TooMuchPendingError: more documents wait for MongoDB than a page looks at.
            UnavailableError: as `get`.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
            raise InvalidArgumentError(f"limit must be from 1 to {MOST}, not {strict.shown(limit)}")
        cursor = None if after is None else strict.text("after", after)
        with self._failed_reads:
            return self._listing.page(self.name, cursor, self.settings, limit=limit, most_bytes=most_bytes)

    def scan(self, *, limit: int = DEFAULT_LIMIT) -> Iterator[Document]:
        """All documents of the collection in the order of their ids, read in pages of `limit`. Raises as `page`.

        Each is there once, as it was acknowledged when the scan began, or later.
        """
        page = self.page(limit=limit)
        yield from page.documents()
        while page.after is not None:
            page = self.page(after=page.after, limit=limit)
            yield from page.documents()

    def _each(self, ids: Sequence[DocumentId]) -> Iterator[tuple[Entry, bool]]:
        with self._failed_reads:
            yield from self._reader.get_each_or_bypass(ids, self.settings)

    # Writing ----------------------------------------------------------------------------------------

    def put(
        self,
        given: object,
        document: Storable,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        if_absent: bool = False,
        durability: Durability | str | None = None,
        key: Key = None,
    ) -> Written:
        """Create or replace a document.

        Args:
            given: its id.
            document: its fields, as native BSON values; or a pydantic model, whose fields are stored by their
                aliases and as Python values. `_id` may be among them if it is the same.
            if_match: ETags of which it must have one, or `ANY`; an empty list is refused.
            if_absent: whether it must not exist yet.
            durability: what to wait for; by default what the collection's settings say.
            key: an idempotency key, best a new UUID: where the same call was acknowledged before with it, nothing
                is written, and the result is that one's, `replayed`. 1 to 255 printable characters of ASCII.

        Raises:
            RequestError: of the kind that says what is wrong with the request; a `KeyReusedError` where another
                one has had its key.
            DeadLetterError: it waited for MongoDB, which did not take it. It was acknowledged by Redis, and is a
                dead letter.
            UnavailableError: a server that is needed does not answer; the write may have happened.
        """
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        if strict.flag("if_absent", if_absent) and etags:
            raise InvalidArgumentError("if_match and if_absent contradict each other: give one of them")
        document_id = self._writer.id(given)
        once = request_key(key, "put", document_id, document, etags, if_absent)
        with self._failed_writes:
            entry = self._writer.entry(document_id, document)
            written = self._writer.write(document_id, entry, wanted, if_match=etags, if_absent=if_absent, key=once)
            return self._persisted(document_id, written, wanted)

    def puts_by_trips(self) -> bool:
        """Whether `put_trip` makes one, as far as is known before a document is looked at."""
        return self._writer.makes_trips()

    def put_trip(self, given: object, document: Storable, *, key: Key = None) -> RoundTrip[Written] | None:
        """`put` in two halves, without a condition and as durable as the settings say.

        `None` where it may take more than a round trip. Raises as `put` where the document or the id is wrong.
        """
        document_id = self._writer.id(given)
        once = request_key(key, "put", document_id, document, (), False)
        with self._failed_writes:
            entry = self._writer.entry(document_id, document)
            return self._writer.trip(document_id, entry, once, self._fail)

    def _fail(self, error: RedisUnavailableError) -> NoReturn:
        with self._failed_writes:
            raise error

    def create(
        self, document: Storable, *, durability: Durability | str | None = None, key: Key = None
    ) -> Written:
        """Create a document under its `_id` if it has one, else under a generated id. Raises as `put`.

        With a `key`, as for `put`, a call that is repeated creates no second document.

        Raises:
            PreconditionFailedError: there is a document with that `_id`.
        """
        wanted, fields = strict.durability(durability), strict.document(document)
        if "_id" in fields:
            return self.put(fields["_id"], fields, if_absent=True, durability=wanted, key=key)
        once = request_key(key, "create", self.name, fields)
        document_id = self._writer.new_id(once)
        with self._failed_writes:
            # Nobody has the new id yet, so there is nothing that a condition could protect.
            written = self._writer.write(document_id, self._writer.entry(document_id, fields), wanted, key=once)
            document_id = self._writer.id(written.id)  # of the first of equal requests
            return self._persisted(document_id, replace(written, created=True), wanted)

    def delete(
        self,
        given: object,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        durability: Durability | str | None = None,
        key: Key = None,
    ) -> Written:
        """Delete a document; deleting one that does not exist is no error. Arguments and errors as for `put`."""
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        document_id = self._writer.id(given)
        once = request_key(key, "delete", document_id, etags)
        with self._failed_writes:
            written = self._writer.write(document_id, DELETED, wanted, if_match=etags, key=once)
            return self._persisted(document_id, written, wanted)

    def patch(
        self,
        given: object,
        change: Change | None = None,
        *,
        json_patch: Iterable[Mapping[str, Any]] | None = None,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        durability: Durability | str | None = None,
        key: Key = None,
    ) -> Written:
        """Change the latest acknowledged state. Raises as `put`.

        Args:
            given: its id.
            change: a merge patch (RFC 7396), which removes the fields that it has `None` for; a pydantic model:
                those of its fields that were set; or a function from the document to what it becomes, which is
                called again where others came before it. What the function raises reaches the caller.
            json_patch: the operations of a JSON Patch (RFC 6902), in the place of a change.
            if_match: ETags of which it must have one, or `ANY`; an empty list is refused.
            durability: what to wait for; by default what the collection's settings say.
            key: as for `put`; of a function it is not known whether it is the same one.

        Raises:
            ConflictError: others changed it again and again meanwhile.
            DocumentNotFoundError: there is no document to change.
            InvalidPatchError: the patch is malformed.
            PatchConflictError: it does not fit the document as it is.
        """
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        steps = steps_of(json_patch)
        patch = self._changer.patch_of(change, steps)
        shown = None if callable(change) else change
        return self._patch(given, patch, etags, wanted, key, "patch", shown, steps)

    def update(
        self,
        given: object,
        change: Storable,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        durability: Durability | str | None = None,
        key: Key = None,
    ) -> Written:
        """Change a document that exists by MongoDB's update operators, or set fields of it. Raises as `patch`.

        Args:
            given: its id.
            change: operators, each with values by dotted path, such as `{"$inc": {"visits": 1}}`; or fields, which
                are set as `dict.update` does. Unlike a merge patch these replace objects as a whole, and store
                `None` as null. A pydantic model gives those of its fields that were set.
            if_match: ETags of which it must have one, or `ANY`; an empty list is refused.
            durability: what to wait for; by default what the collection's settings say.
            key: as for `put`.
        """
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        return self._patch(given, self._changer.update_of(change), etags, wanted, key, "update", change)

    def increment(
        self,
        given: object,
        deltas: Mapping[str, Any],
        *,
        durability: Durability | str | None = None,
        key: Key = None,
    ) -> Incremented:
        """Add to numbers of a document, atomically; one that does not exist is created. Raises as `put`.

        Args:
            given: its id.
            deltas: numbers by dotted path, as in MongoDB's `$inc`.
            durability: what to wait for; by default what the collection's settings say.
            key: as for `put`. A call that was not answered can be repeated with it until it is, and counts once.

        Raises:
            InvalidPatchError: these are not numbers by path.
            PatchConflictError: there is something else at a path.
        """
        wanted = strict.durability(durability)
        document_id = self._writer.id(given)
        once = request_key(key, "increment", document_id, deltas)
        with self._failed_writes:
            written, values = self._changer.increment(document_id, deltas, wanted, key=once)
            return Incremented(self._persisted(document_id, written, wanted), values)

    def bulk(
        self,
        operations: Iterable[BulkOperation | RequestError],
        *,
        durability: Durability | str | None = None,
        request: IdempotencyKey | None = None,
    ) -> list[BulkResult]:
        """Carry out several writes in their order; one that fails does not affect the others.

        They are taken one after the other, so that an iterator need not hold them all.

        Args:
            operations: what to do; an error in the place of one is its result.
            durability: what to wait for; by default what the collection's settings say.
            request: the key of all of them together, from which those of the operations follow: where it is that
                of another request, none is carried out.

        Returns:
            For each operation what was written, or the error that its own method would raise; `TooMuchWorkError`
            where those before it have taken all the time or the bytes that there are for changing documents.

        Raises:
            DurabilityNotOfferedError: Redis cannot promise the durability.
            InvalidArgumentError: this is nothing that has operations, or there is no such durability.
            KeyReusedError: the key is that of another request.
            TooManyReceiptsError: it could not be known by its key.
            RedisUnavailableError: Redis does not answer while it is asked whether MongoDB has the writes.
        """
        wanted, each = strict.durability(durability), strict.each("operations", operations)
        if request is not None:
            with self._failed_writes:
                self._writer.check_offered(wanted)
                self._writer.begin(request)
        return Bulk(self._writer, self._changer, self._failed_writes, wanted).run(each)

    def _patch(
        self,
        given: object,
        patch: Patch,
        etags: Sequence[str],
        durability: Durability | None,
        key: Key,
        *parts: object,
    ) -> Written:
        document_id = self._writer.id(given)
        once = request_key(key, document_id, etags, *parts)
        with self._failed_writes:
            written = self._changer.patch(document_id, patch, etags, durability, key=once)
            return self._persisted(document_id, written, durability)

    def _persisted(self, document_id: DocumentId, written: Written, durability: Durability | None) -> Written:
        if self._writer.wants(durability) is not Durability.PERSISTED:
            return written
        became = self._writer.persisted({document_id: written})[document_id]
        if isinstance(became, DeadLetterError):
            raise became
        return became
