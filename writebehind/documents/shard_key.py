"""The shard key of a collection: which of its values a document has follows from the document's id.

So every operation by id finds the one shard that has the document, be it a read or a deletion, and no write can
put a second document with the same `_id` on another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from writebehind.documents.ids import DocumentId, read_id
from writebehind.errors import InvalidDocumentError, InvalidIdError

KeyType = Literal["string", "int", "objectid", "uuid"]
_ANY_TEXT = r"(?s:.+)"


@dataclass(frozen=True)
class KeyPart:
    """A field of a shard key: what of an id's text is its value.

    Attributes:
        field: its name, or a path such as `address.country`.
        pattern: a regular expression that matches the whole id; its one group is the value.
        kind: the type of the value.
    """

    field: str
    pattern: str
    kind: KeyType

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def value(self, text: str) -> object | None:
        """The value for an id, as it stands in MongoDB; `None` where the id has none."""
        found = self._compiled.fullmatch(text)
        if found is None or not found[1]:
            return None
        try:
            return DocumentId.of("", read_id(found[1], self.kind, _ANY_TEXT)).value
        except InvalidIdError:
            return None


@dataclass(frozen=True)
class ShardKey:
    """The fields of a shard key, in the server's order; `_id` may be among them."""

    fields: tuple[str, ...]
    parts: tuple[KeyPart, ...]

    def values(self, document_id: DocumentId) -> dict[str, Any] | None:
        """The values by field, without `_id`; `None` where the id does not have them all."""
        found = {part.field: part.value(document_id.text) for part in self.parts}
        return None if None in found.values() else found

    def check(self, document_id: DocumentId) -> dict[str, Any]:
        """The same of an id that a caller gives.

        Raises:
            InvalidIdError: it does not have them all.
        """
        values = self.values(document_id)
        if values is None:
            text = repr(document_id.text[:40])
            raise InvalidIdError(
                f"{text} is no id of {document_id.collection}: its ids hold the values of "
                f"the shard key {', '.join(self.fields)}"
            )
        return values

    def fill(self, document: Mapping[str, Any], document_id: DocumentId) -> dict[str, Any]:
        """The document with the fields of the shard key as its id says.

        Raises:
            InvalidDocumentError: it has another value in one of them.
            InvalidIdError: its id does not have them all.
        """
        filled = dict(document)
        for field, value in self.check(document_id).items():
            _put(filled, field, field.split("."), value)
        return filled


def address(document_id: DocumentId, key: ShardKey | None) -> dict[str, Any]:
    """A filter that matches one document, on the shard that has it."""
    where = {"_id": document_id.value}
    if key is not None:
        where |= key.values(document_id) or {}
    return where


def addresses(ids: Sequence[DocumentId], key: ShardKey | None) -> dict[str, Any]:
    """A filter that matches several documents, on the shards that have them."""
    where: dict[str, Any] = {"_id": {"$in": [one.value for one in ids]}}
    if key is None or not key.parts:
        return where
    found = [key.values(one) for one in ids]
    known = [values for values in found if values is not None]
    if len(known) < len(found):  # the others could be anywhere
        return where
    for part in key.parts:
        where[part.field] = {"$in": list(dict.fromkeys(values[part.field] for values in known))}
    return where


def _put(document: dict[str, Any], field: str, path: list[str], value: object) -> None:
    name, *rest = path
    if rest:
        inner = document.get(name, {})
        if not isinstance(inner, Mapping):
            raise InvalidDocumentError(f"{field!r} is part of the shard key, and {name!r} holds no fields")
        document[name] = inner = dict(inner)
        _put(inner, field, rest, value)
        return
    if name not in document:
        document[name] = value
        return
    given, wanted = DocumentId.stored("", document[name]), DocumentId.stored("", value)
    if given is None or given != wanted:
        raise InvalidDocumentError(
            f"{field!r} is part of the shard key and follows from the id: leave it out, or let it be {value!r}"
        )
