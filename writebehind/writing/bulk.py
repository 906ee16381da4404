"""Several writes in one go: what each is, what bounds them all, and how they are carried out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import length_hint
from typing import Any, Literal

from pydantic import BaseModel

from writebehind import strict
from writebehind.documents.durability import Durability
from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId
from writebehind.documents.large import TakesMuchError
from writebehind.errors import (
    DocumentTooLargeError,
    InvalidArgumentError,
    RedisUnavailableError,
    RequestError,
    TooMuchWorkError,
    WritebehindError,
    without_frames,
)
from writebehind.strict import UNCONDITIONAL
from writebehind.writing.changer import Change, Changer, check_change, steps_of
from writebehind.writing.failures import FailedWrites
from writebehind.writing.request_key import request_key
from writebehind.writing.writer import Writer, Written

#: Commits sent to Redis in one go, and about their bytes, so that a large bulk does not keep others waiting.
COMMITS_AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
#: Bytes of documents that the changes of a bulk may read and write: a patch of few bytes may change a large one.
MOST_CHANGED_BYTES = 32 << 20
#: After so many seconds no further operation of a bulk begins.
DEADLINE_S = 10.0
#: What each operation takes beside an id and a condition: one of these.
_TAKES: dict[str, set[str]] = {"put": {"document"}, "patch": {"change", "json_patch"}, "delete": set()}

BulkResult = Written | WritebehindError


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One item of a bulk write.

    Attributes:
        op: `put`, `patch` or `delete`.
        id: of the document.
        document: what to put.
        change: for a patch, as `Collection.patch` takes it; or `json_patch`.
        json_patch: operations of a JSON Patch.
        if_match: ETags of which the document must have one, or `ANY`.
        key: an idempotency key, as for `Collection.put`.
    """

    op: Literal["put", "patch", "delete"]
    id: object
    document: Mapping[str, Any] | BaseModel | None = None
    change: Change | None = None
    if_match: str | Iterable[str] = UNCONDITIONAL
    json_patch: Iterable[Mapping[str, Any]] | None = None
    key: str | IdempotencyKey | None = None

    def __post_init__(self) -> None:
        """See that it says one thing.

        Raises:
            InvalidArgumentError: `op` is no operation, or it has not exactly what goes with it.
            InvalidDocumentError: what is to be put is no document.
        """
        if strict.text("op", self.op) not in _TAKES:
            raise InvalidArgumentError(f"op must be one of {', '.join(_TAKES)}, not {self.op[:60]!r}")
        takes = _TAKES[self.op]
        given = {one for one in ("document", "change", "json_patch") if getattr(self, one) is not None}
        if not given <= takes or len(given) != bool(takes):
            raise InvalidArgumentError(
                f"{self.op} takes of document, change and json_patch {' or '.join(sorted(takes)) or 'none'}"
            )
        if self.op == "put":
            object.__setattr__(self, "document", strict.document(self.document))
        if self.op == "patch":
            check_change(self.change, self.json_patch)
        object.__setattr__(self, "if_match", strict.etags(self.if_match))


class Bulk:
    """Carries out several writes to one collection in their order. Used once."""

    def __init__(
        self, writer: Writer, changer: Changer, failures: FailedWrites, durability: Durability | None
    ) -> None:
        """Take what commits, what changes and what counts, and what each write is to wait for."""
        self._writer = writer
        self._changer = changer
        self._failures = failures
        self._durability = durability
        self._results: list[BulkResult] = []
        self._ids: dict[int, DocumentId] = {}
        self._commits = Commits(writer, self._results, durability)
        self._work = Work()

    def run(self, operations: Iterable[BulkOperation | RequestError]) -> list[BulkResult]:
        """Carry them out. Raises as `Collection.bulk`."""
        expected = length_hint(operations, 1)  # of an iterator nobody knows before it is read
        try:
            self._writer.check_offered(self._durability)
            results = self._carried_out(operations)
        except WritebehindError as error:  # in the place of all results
            self._failures.note(error, max(expected, len(self._results)))
            raise
        for one in results:
            if isinstance(one, WritebehindError):
                self._failures.note(one)
        return results

    def _carried_out(self, operations: Iterable[BulkOperation | RequestError]) -> list[BulkResult]:
        for at, operation in enumerate(operations):
            self._results.append(WritebehindError())
            try:
                self._one(at, operation)
            except WritebehindError as error:
                self._results[at] = without_frames(error)
            except TakesMuchError:  # nothing of this one is written; of those before it some is
                self._results[at] = DocumentTooLargeError(
                    "others wrote this document larger than a bulk may read: change it by a request of its own"
                )
        self._commits.write()
        return self._persisted()

    def _one(self, at: int, operation: BulkOperation | RequestError) -> None:
        if isinstance(operation, RequestError):
            raise operation
        strict.instance("an operation", operation, BulkOperation)
        self._work.check()
        self._ids[at] = document_id = self._writer.id(operation.id)
        if operation.op == "patch" or operation.if_match:
            # What depends on the state before it has to wait for what comes before it.
            self._commits.write()
            self._results[at] = self._alone(document_id, operation)
        else:
            key = request_key(operation.key, operation.op, document_id, operation.document)
            self._commits.put(at, document_id, self._entry(document_id, operation), key)

    def _alone(self, document_id: DocumentId, operation: BulkOperation) -> Written:
        etags, done = strict.etags(operation.if_match), self._work.done
        if operation.op == "patch":
            steps = steps_of(operation.json_patch)
            patch = self._changer.patch_of(operation.change, steps)
            shown = None if callable(operation.change) else operation.change
            key = request_key(operation.key, operation.op, document_id, etags, shown, steps)
            return self._changer.patch(document_id, patch, etags, self._durability, key=key, done=done)
        key = request_key(operation.key, operation.op, document_id, etags, operation.document)
        entry = self._entry(document_id, operation)
        done(len(entry.body))
        return self._writer.write(document_id, entry, self._durability, if_match=etags, key=key, read=done)

    def _entry(self, document_id: DocumentId, operation: BulkOperation) -> Entry:
        return DELETED if operation.op == "delete" else self._writer.entry(document_id, operation.document)

    def _persisted(self) -> list[BulkResult]:
        results, ids = self._results, self._ids
        if self._writer.wants(self._durability) is not Durability.PERSISTED:
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


class Work:
    """Work that has been done for one bulk."""

    def __init__(self) -> None:
        self._bytes = 0
        self._until = time.monotonic() + DEADLINE_S

    def done(self, count: int) -> None:
        """Count bytes of documents that were read or written for a change."""
        self._bytes += count

    def check(self) -> None:
        """See that there may be more.

        Raises:
            TooMuchWorkError: all the bytes or the time are used up.
        """
        if self._bytes >= MOST_CHANGED_BYTES:
            raise TooMuchWorkError(
                f"the changes before this one have taken {self._bytes} bytes of documents, and "
                f"{MOST_CHANGED_BYTES} are allowed in one request: send this one in another"
            )
        if time.monotonic() > self._until:
            raise TooMuchWorkError(
                f"the request has taken the {DEADLINE_S:.0f} seconds that are allowed: send this one in another"
            )


class Commits:
    """Writes that depend on nothing before them, which are committed together."""

    def __init__(
        self, writer: Writer, results: list[Written | WritebehindError], durability: Durability | None
    ) -> None:
        """Take what commits them, and where their results go, by their place."""
        self._writer = writer
        self._results = results
        self._durability = durability
        self._waiting: dict[int, tuple[DocumentId, Entry]] = {}
        self._keys: list[IdempotencyKey | None] = []
        self._bytes = 0

    def put(self, at: int, document_id: DocumentId, entry: Entry, key: IdempotencyKey | None) -> None:
        """Add the write with this place; commit what there is where it is much."""
        self._waiting[at] = document_id, entry
        self._keys.append(key)
        self._bytes += len(entry.body)
        if len(self._waiting) >= COMMITS_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Commit what waits."""
        if not self._waiting:
            return
        try:
            written: Sequence[Written | WritebehindError] = self._writer.write_all(
                list(self._waiting.values()), self._durability, self._keys
            )
        except RedisUnavailableError as error:
            written = [without_frames(error)] * len(self._waiting)
        for at, result in zip(self._waiting, written, strict=True):
            self._results[at] = result
        self._waiting.clear()
        self._keys.clear()
        self._bytes = 0
