"""The unique values that a document is given."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from writebehind.documents.deprecated_types import BSON_ERRORS
from writebehind.documents.elements import NO_BSON
from writebehind.documents.entry import Entry
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.mql.filters import compile_filter, has_key

#: Unique values of one document that are looked at. A document has more of them only where a field has a list.
MOST_CLAIMS = 100
#: Bytes of a value that is noted; who waits for a longer one is replayed whenever its holder changes.
LONGEST_NOTED = 1_024

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Claim:
    """A unique value that a document is given."""

    field: str
    value: object

    @property
    def text(self) -> str:
        """The claim as it is noted in Redis; '' for a value that is too long for that."""
        noted = bson.encode({self.field: self.value})
        return b64encode(noted).decode() if len(noted) <= LONGEST_NOTED else ""

    @classmethod
    def of_text(cls, text: str) -> Claim:
        """Read what `text` was written as."""
        [(field, value)] = RawBSONDocument(b64decode(text), RAW_OPTIONS).items()
        return cls(field, value)

    def is_of(self, entry: Entry) -> bool:
        """Whether a document has the value; one that is no BSON is taken to have it, so that nothing is done."""
        has_it = compile_filter({self.field: has_key(self.value)})
        try:
            return entry.exists and has_it(entry.body)
        except NO_BSON:
            return True


def is_noted_of(text: str, entry: Entry) -> bool:
    """Whether a document has the value of a claim as it is noted; of one that says nothing nobody can tell."""
    try:
        return Claim.of_text(text).is_of(entry)
    except (ValueError, BSONError):  # '', or what other hands have put there
        return False


def claims_of(entry: Entry, fields: Collection[str]) -> list[Claim]:
    """The unique values of a document, as MongoDB's indexes have them: null is one, and each element of a list.

    See "Multikey Indexes" and "Unique Indexes" in MongoDB's manual. What is no BSON has none.
    """
    if not entry.exists:
        return []
    found: dict[bytes, Claim] = {}
    try:
        document = RawBSONDocument(entry.body, RAW_OPTIONS)
        for field in fields:
            for value in _keys(document, field.split(".")):
                found[bson.encode({field: value})] = Claim(field, value)  # what cannot be sent is not asked for
    except BSON_ERRORS:
        return []
    return list(found.values())[:MOST_CLAIMS]


def _keys(document: RawBSONDocument, path: Sequence[str]) -> Iterator[Any]:
    """The keys of a document in a sparse index on a path; one that is missing besides others is null."""
    values = list(islice(_values(document, path), MOST_CLAIMS))
    if any(one is not _MISSING for one in values):
        yield from (None if one is _MISSING else one for one in values)


def _values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if not path:
        yield from value if isinstance(value, list) and value else [value]
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, RawBSONDocument):
                yield from _values(one, path)
    elif isinstance(value, RawBSONDocument) and path[0] in value:
        yield from _values(value[path[0]], path[1:])
    else:
        yield _MISSING
