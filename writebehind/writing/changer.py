"""Changes to documents: read the latest acknowledged state, change it, write it back if nobody came before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel

from writebehind import strict
from writebehind.documents import codec, patches
from writebehind.documents.durability import Durability
from writebehind.documents.entry import Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId
from writebehind.documents.patches import MOST_OPERATIONS, Document, Patch
from writebehind.errors import DocumentNotFoundError, InvalidArgumentError
from writebehind.mql.updates.update import compile_update, is_update
from writebehind.writing.writer import Writer, Written, check_match

#: A function from a document to the document that it becomes, a merge patch, or a model: its fields that were set.
Change = Patch | Mapping[str, Any] | BaseModel


class Changer:
    """Changes documents of one collection. Safe to share between threads."""

    def __init__(self, writer: Writer, *, max_document_bytes: int) -> None:
        """Take what commits; `max_document_bytes` bounds what a change may blow up."""
        self._writer = writer
        self._most_bytes = max_document_bytes

    def patch_of(self, change: object, json_patch: object) -> Patch:
        """The function that either of the two stands for; `None` is none.

        Raises:
            InvalidArgumentError: both are given or neither, or one is of another type.
            InvalidDocumentError: BSON cannot hold what stands in it.
            InvalidPatchError: the JSON Patch is malformed.
        """
        check_change(change, json_patch)
        if json_patch is not None:
            steps = [_plain(one) for one in islice(strict.each("json_patch", json_patch), MOST_OPERATIONS + 1)]
            return patches.json_patch(steps, most_bytes=self._most_bytes)
        if isinstance(change, Mapping | BaseModel):
            return patches.merge_patch(_plain(strict.document(change, only_set=True)))
        return strict.function("change", change)

    def update_of(self, given: object) -> Patch:
        """The change that MongoDB's update operators make; or that sets fields to values, whatever these replace.

        Raises:
            InvalidDocumentError: they are not values by name.
            InvalidPatchError: the operators are malformed.
        """
        new = strict.document(given, only_set=True)
        if is_update(new):
            return compile_update(new, most_bytes=self._most_bytes)

        def change(document: Document) -> Document:
            return document | new

        return change

    def patch(
        self,
        document_id: DocumentId,
        patch: Patch,
        if_match: Sequence[str] = (),
        durability: Durability | None = None,
        *,
        key: IdempotencyKey | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> Written:
        """Apply a change to a document that exists; `done` is told how many bytes were read and written for it.

        Raises: as `Collection.patch`.
        """

        def step(entry: Entry) -> Entry:
            check_match(entry, if_match)
            if not entry.exists:
                raise DocumentNotFoundError(f"there is no document {document_id.text} to change")
            self._writer.check_changeable(entry)
            changed = self._writer.entry(document_id, patch(codec.decode_exactly(entry.body)))
            done(len(entry.body) + len(changed.body))
            return changed

        return self._writer.change(document_id, step, durability, key=key)

    def increment(
        self,
        document_id: DocumentId,
        deltas: object,
        durability: Durability | None = None,
        *,
        key: IdempotencyKey | None = None,
    ) -> tuple[Written, dict[str, Any]]:
        """Add to numbers of a document, which is created if need be; the new values by path.

        Raises: as `Collection.increment`.
        """
        add = patches.increment(dict(deltas) if isinstance(deltas, Mapping) else deltas)
        values: dict[str, Any] = {}

        def step(entry: Entry) -> Entry:
            self._writer.check_changeable(entry)
            document = codec.decode_exactly(entry.body) if entry.exists else {}
            values.clear()
            values.update(add(document))
            return self._writer.entry(document_id, document)

        return self._writer.change(document_id, step, durability, key=key, values=values), values


def steps_of(json_patch: object) -> list[Any] | None:
    """The operations of a JSON Patch, to be read more than once: no more of them than say that there are too many.

    Raises:
        InvalidArgumentError: it is no list of them.
    """
    return None if json_patch is None else [*islice(strict.each("json_patch", json_patch), MOST_OPERATIONS + 1)]


def check_change(change: object, json_patch: object) -> None:
    """See that there is one change, of a type that is one.

    Raises:
        InvalidArgumentError: there is none, there are two, or it is something else.
    """
    if (change is None) is (json_patch is None):
        raise InvalidArgumentError("a patch takes either a change or a json_patch")
    if json_patch is not None:
        strict.each("json_patch", json_patch)
    elif not isinstance(change, Mapping | BaseModel) and not callable(change):
        raise InvalidArgumentError(
            f"change must be a merge patch, a pydantic model or a function, not {strict.shown(change)}"
        )
    elif isinstance(change, type):
        raise InvalidArgumentError(f"change must be an instance or a function, not the class {change.__name__}")


def _plain(given: Any) -> Any:
    """A mapping, and all that is in it, as the document that readers would get; anything else as it is.

    Raises:
        InvalidDocumentError: BSON cannot hold it.
    """
    return codec.decode(codec.encode(dict(given))) if isinstance(given, Mapping) else given
