"""The unique values that a document is given."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from writebehind.documents.deprecated_types import BSON_ERRORS
from writebehind.documents.elements import NO_BSON
from writebehind.documents.entry import Entry
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.mql.filters import compile_filter

#: Bytes of a value that is noted; who waits for a longer one is replayed whenever its holder changes.
LONGEST_NOTED = 1_024


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
        has_it = compile_filter({self.field: {"$eq": self.value}})
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
    """The unique values of a document; a list has none, as it may have many, nor has what is no BSON."""
    found: list[Claim] = []
    if not entry.exists:
        return found
    try:
        document = RawBSONDocument(entry.body, RAW_OPTIONS)
        for field in fields:
            value: Any = document
            for name in field.split("."):
                value = value.get(name) if isinstance(value, RawBSONDocument) else None
            if value is not None and not isinstance(value, list):
                bson.encode({field: value})  # what cannot be sent is not asked for
                found.append(Claim(field, value))
    except BSON_ERRORS:
        return []
    return found
