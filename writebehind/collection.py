"""Documents of one collection: what the HTTP API and library users call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from writebehind import strict
from writebehind.documents import codec, patches
from writebehind.documents.durability import Durability
from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.ids import DocumentId, new_id
from writebehind.documents.large import TakesMuchError
from writebehind.documents.patches import Document, Patch
from writebehind.errors import (
    DeadLetterError,
    DocumentNotFoundError,
    DocumentTooLargeError,
    InvalidArgumentError,
    InvalidIdError,
    RequestError,
    UnknownQueryError,
    WritebehindError,
    without_frames,
)
from writebehind.querying.answers import Answer
from writebehind.querying.cached_queries import Queries
from writebehind.querying.unique_fields import Lookups
from writebehind.reading.read import Read
from writebehind.settings.installation import CollectionSettings
from writebehind.strict import UNCONDITIONAL
from writebehind.writing.bulk import Queue, Work
from writebehind.writing.writer import Writer, WriterParts, Written, check_match

#: What each operation of a bulk takes beside an id and a condition.
_TAKES: dict[str, set[str]] = {"put": {"document"}, "patch": {"change"}, "delete": set()}


@dataclass(frozen=True, slots=True)
class Incremented:
    """An acknowledged increment, and the new values by path."""

    written: Written
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One item of a bulk write: `document` for a put, `change` for a patch."""

    op: Literal["put", "patch", "delete"]
    id: object
    document: Document | None = None
    change: Patch | None = None
    if_match: str | Iterable[str] = UNCONDITIONAL

    def __post_init__(self) -> None:
        """See that it says one thing.

        Raises:
            InvalidArgumentError: `op` is no operation, or it has not exactly what goes with it.
            InvalidDocumentError: what is to be put is no document.
        """
        if strict.text("op", self.op) not in _TAKES:
            raise InvalidArgumentError(f"op must be one of {', '.join(_TAKES)}, not {self.op[:60]!r}")
        takes = _TAKES[self.op]
        if takes != {name for name in ("document", "change") if getattr(self, name) is not None}:
            raise InvalidArgumentError(
                f"{self.op} takes of document and change {' and '.join(takes) or 'neither'}"
            )
        if self.op == "put":
            strict.document(self.document)
        if self.op == "patch":
            strict.function("change", self.change)
        object.__setattr__(self, "if_match", strict.etags(self.if_match))


BulkResult = Written | WritebehindError


class Collection:
    """Documents of one collection. Safe to share between threads."""

    def __init__(
        self, name: str, settings: CollectionSettings, parts: WriterParts, lookups: Lookups, queries: Queries
    ) -> None:
        """Bind a collection to a pipeline.

        Raises:
            ConfigurationError: its schema file is not a JSON Schema.
        """
        self.name = name
        self.settings = settings
        self._reader = parts.reader
        self._lookups = lookups
        self._queries = queries
        self._writer = Writer(name, settings, parts)

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
        entry = self.read(given).entry
        return codec.decode(entry.body) if entry.exists else None

    def read(self, given: object) -> Read:
        """The document's entry, and where it came from. Raises as `get`."""
        return self._reader.get_or_bypass(self._writer.id(given), self.settings)

    def read_many(self, given: Iterable[object]) -> tuple[list[Entry], bool]:
        """The entries of several documents, in their order; and whether Redis was bypassed. Raises as `get`."""
        ids = [self._writer.id(one) for one in strict.each("ids", given)]
        return self._reader.get_many_or_bypass(ids, self.settings)

    def read_each(self, given: Iterable[object]) -> Iterator[tuple[Entry, bool]]:
        """`read_many` one after the other, so that few are held: of each whether Redis was bypassed."""
        ids = [self._writer.id(one) for one in strict.each("ids", given)]
        return self._reader.get_each_or_bypass(ids, self.settings)

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
        return self._queries.find(self.name, name, query, given, self.settings, most_bytes=most_bytes)

    # Writing ----------------------------------------------------------------------------------------

    def put(
        self,
        given: object,
        document: Document,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        if_absent: bool = False,
        durability: Durability | str | None = None,
    ) -> Written:
        """Create or replace a document.

        Args:
            given: its id.
            document: its fields, as native BSON values. `_id` may be among them if it is the same.
            if_match: ETags of which it must have one, or `ANY`; an empty list is refused.
            if_absent: whether it must not exist yet.
            durability: what to wait for; by default what the collection's settings say.

        Raises:
            RequestError: of the kind that says what is wrong with the request.
            DeadLetterError: it waited for MongoDB, which did not take it. It was acknowledged by Redis, and is a
                dead letter.
            UnavailableError: a server that is needed does not answer; the write may have happened.
        """
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        if strict.flag("if_absent", if_absent) and etags:
            raise InvalidArgumentError("if_match and if_absent contradict each other: give one of them")
        document_id = self._writer.id(given)
        entry = self._writer.entry(document_id, document)
        written = self._writer.write(document_id, entry, wanted, if_match=etags, if_absent=if_absent)
        return self._persisted(document_id, written, wanted)

    def create(self, document: Document, *, durability: Durability | str | None = None) -> Written:
        """Create a document under its `_id` if it has one, else under a generated id. Raises as `put`.

        Raises:
            PreconditionFailedError: there is a document with that `_id`.
        """
        wanted, document = strict.durability(durability), strict.document(document)
        if "_id" in document:
            return self.put(document["_id"], document, if_absent=True, durability=wanted)
        document_id = DocumentId.of(self.name, new_id(self.settings.id))
        # Nobody has the new id yet, so there is nothing that a condition could protect.
        written = self._writer.write(document_id, self._writer.entry(document_id, document), wanted)
        return self._persisted(document_id, replace(written, created=True), wanted)

    def delete(
        self,
        given: object,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        durability: Durability | str | None = None,
    ) -> Written:
        """Delete a document; deleting one that does not exist is no error. Raises as `put`."""
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        document_id = self._writer.id(given)
        written = self._writer.write(document_id, DELETED, wanted, if_match=etags)
        return self._persisted(document_id, written, wanted)

    def patch(
        self,
        given: object,
        change: Patch,
        *,
        if_match: str | Iterable[str] = UNCONDITIONAL,
        durability: Durability | str | None = None,
    ) -> Written:
        """Apply a change to the latest acknowledged state. Raises as `put`.

        Raises:
            DocumentNotFoundError: there is no document to change.
            ConflictError: others changed it again and again meanwhile.
        """
        wanted, etags = strict.durability(durability), strict.etags(if_match)
        strict.function("change", change)
        document_id = self._writer.id(given)
        written = self._patch(document_id, change, etags, wanted)
        return self._persisted(document_id, written, wanted)

    def increment(
        self, given: object, deltas: object, *, durability: Durability | str | None = None
    ) -> Incremented:
        """Add to numbers of a document, atomically; one that does not exist is created. Raises as `put`.

        Args:
            given: its id.
            deltas: numbers by dotted path, as for `patches.increment`.
            durability: what to wait for; by default what the collection's settings say.
        """
        wanted = strict.durability(durability)
        document_id = self._writer.id(given)
        add = patches.increment(deltas)
        values: dict[str, Any] = {}

        def step(entry: Entry) -> Entry:
            self._writer.check_changeable(entry)
            document = codec.decode_exactly(entry.body) if entry.exists else {}
            values.clear()
            values.update(add(document))
            return self._writer.entry(document_id, document)

        written = self._writer.change(document_id, step, wanted)
        return Incremented(self._persisted(document_id, written, wanted), values)

    def bulk(
        self, operations: Iterable[BulkOperation | RequestError], *, durability: Durability | str | None = None
    ) -> list[BulkResult]:
        """Carry out several writes in their order; one that fails does not affect the others.

        They are taken one after the other, so that an iterator need not hold them all.

        Args:
            operations: what to do; an error in the place of one is its result.
            durability: what to wait for; by default what the collection's settings say.

        Returns:
            For each operation what was written, or the error that its own method would raise; `TooMuchWorkError`
            where those before it have taken all the time or the bytes that there are for changing documents.

        Raises:
            DurabilityNotOfferedError: Redis cannot promise the durability.
            InvalidArgumentError: this is nothing that has operations, or there is no such durability.
            RedisUnavailableError: Redis does not answer while it is asked whether MongoDB has the writes.
        """
        wanted = strict.durability(durability)
        self._writer.check_offered(wanted)
        results: list[BulkResult] = []
        queue = Queue(self._writer, results, wanted)
        ids: dict[int, DocumentId] = {}
        work = Work()
        for at, operation in enumerate(strict.each("operations", operations)):
            results.append(WritebehindError())
            try:
                if isinstance(operation, RequestError):
                    raise operation
                strict.instance("an operation", operation, BulkOperation)
                work.check()
                ids[at] = document_id = self._writer.id(operation.id)
                if operation.op == "patch" or operation.if_match:
                    # What depends on the state before it has to wait for what comes before it.
                    queue.write()
                    results[at] = self._one_of_bulk(document_id, operation, wanted, work)
                elif operation.op == "delete":
                    queue.put(at, document_id, DELETED)
                else:
                    queue.put(at, document_id, self._entry(document_id, operation))
            except WritebehindError as error:
                results[at] = without_frames(error)
            except TakesMuchError:  # nothing of this one is written; of those before it some is
                results[at] = DocumentTooLargeError(
                    "others wrote this document larger than a bulk may read: change it by a request of its own"
                )
        queue.write()
        return self._bulk_persisted(ids, results, wanted)

    def _patch(
        self,
        document_id: DocumentId,
        change: Patch,
        if_match: Sequence[str],
        durability: Durability | None,
        work: Work | None = None,
    ) -> Written:
        def step(entry: Entry) -> Entry:
            check_match(entry, if_match)
            if not entry.exists:
                raise DocumentNotFoundError(f"there is no document {document_id.text} to change")
            self._writer.check_changeable(entry)
            changed = self._writer.entry(document_id, change(codec.decode_exactly(entry.body)))
            if work is not None:
                work.done(len(entry.body) + len(changed.body))
            return changed

        return self._writer.change(document_id, step, durability)

    def _one_of_bulk(
        self, document_id: DocumentId, operation: BulkOperation, durability: Durability | None, work: Work
    ) -> Written:
        if operation.op == "patch" and operation.change is not None:
            return self._patch(document_id, operation.change, strict.etags(operation.if_match), durability, work)
        entry = DELETED if operation.op == "delete" else self._entry(document_id, operation)
        work.done(len(entry.body))
        etags = strict.etags(operation.if_match)
        return self._writer.write(document_id, entry, durability, if_match=etags, read=work.done)

    def _entry(self, document_id: DocumentId, operation: BulkOperation) -> Entry:
        return self._writer.entry(document_id, strict.document(operation.document))

    def _bulk_persisted(
        self, ids: dict[int, DocumentId], results: list[BulkResult], durability: Durability | None
    ) -> list[BulkResult]:
        if self._writer.wants(durability) is not Durability.PERSISTED:
            return results
        # The last write to a document counts: an earlier one needs MongoDB no more when a later one is there.
        last = {ids[at]: one for at, one in enumerate(results) if isinstance(one, Written)}
        reached = self._writer.persisted(last)
        for at, one in enumerate(results):
            became = reached.get(ids[at]) if isinstance(one, Written) else None
            if isinstance(one, Written) and isinstance(became, Written):
                results[at] = replace(one, durability=became.durability)
            elif became is not None:
                results[at] = became
        return results

    def _persisted(self, document_id: DocumentId, written: Written, durability: Durability | None) -> Written:
        if self._writer.wants(durability) is not Durability.PERSISTED:
            return written
        became = self._writer.persisted({document_id: written})[document_id]
        if isinstance(became, DeadLetterError):
            raise became
        return became
