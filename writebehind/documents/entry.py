"""The value of an entry in Redis: 16 digits of version, one kind letter, then for a document ETag and BSON body.

The header is plain text, so that Lua compares it without a struct library. It carries the ETag, so that a
conditional write is decided in Redis by comparing 32 characters, not by hashing a body there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from writebehind.documents import codec
from writebehind.documents.raw_bson import etag
from writebehind.errors import UnreadableDocumentError

VERSION_DIGITS = 16
KIND_AT = VERSION_DIGITS
BODY_AT = KIND_AT + 1 + 32

_DOCUMENT = ord("D")
#: A document whose only value is a string that is no UTF-8.
_UNREADABLE = b"\x0d\0\0\0\x02\0\x02\0\0\0\xff\0\0"
#: Who is to be looked for, where a body cannot be read.
_IN_MONGODB = (
    "The document, as others wrote it to MongoDB, is no valid BSON. It can be replaced or deleted, not read."
)
_IN_REDIS = (
    "Others have changed the document's entry in Redis, and it is no valid BSON any more. It can be replaced or "
    "deleted; reconciling drops the entry, and then MongoDB's document is read."
)


class Kind(StrEnum):
    """State of a document, as its entry says it."""

    DOCUMENT = "D"
    DELETED = "X"
    ABSENT = "N"


@dataclass(frozen=True, slots=True)
class Entry:
    """The latest known state of a document.

    Attributes:
        version: microseconds of the Redis clock; 0 for a document that the pipeline never wrote.
        kind: document, deleted, or known to be absent in MongoDB.
        etag: 32 hex characters, '' unless a document.
        body: BSON without `_v`, b'' unless a document.
    """

    version: int
    kind: Kind
    etag: str = ""
    body: bytes = b""

    @classmethod
    def parse(cls, value: bytes) -> Entry:
        """Read what `payload` and a version were written as.

        Raises:
            ValueError, IndexError: other hands have made it something else.
        """
        version, kind = version_of(value), value[KIND_AT]
        if kind == _DOCUMENT:  # most are
            etag_ = value[KIND_AT + 1 : BODY_AT]
            if not etag_.isalnum():  # or it would not be one in a header either
                raise ValueError("no ETag")
            return cls(version, Kind.DOCUMENT, etag_.decode(), value[BODY_AT:])
        return cls(version, Kind(chr(kind)))

    @classmethod
    def shown(cls, value: bytes) -> Entry:
        """The same for readers: what other hands have made something else is a document that nobody can read."""
        try:
            return cls.parse(value)
        except (ValueError, IndexError):
            return cls(0, Kind.DOCUMENT, etag(value), _UNREADABLE)

    @classmethod
    def loaded(cls, body: bytes, version: int) -> Entry:
        """A document as it was read from MongoDB."""
        return cls(version, Kind.DOCUMENT, etag(body), body)

    @property
    def exists(self) -> bool:
        """Whether there is a document."""
        return self.kind is Kind.DOCUMENT

    def same_content(self, other: Entry) -> bool:
        """Whether both say the same: no document, or one of the same version and content, as far as ETags tell."""
        if not self.exists:
            return not other.exists
        return self.header == other.header

    @property
    def is_intact(self) -> bool:
        """Whether the body is the one that the ETag is of: else other hands, or a fault, have changed either."""
        return not self.exists or etag(self.body) == self.etag

    @property
    def document(self) -> dict[str, Any] | None:
        """The document as native values, decoded now; `None` if there is none.

        Raises:
            UnreadableDocumentError: others wrote it, and it is no valid BSON.
        """
        try:
            return codec.decode(self.body) if self.exists else None
        except UnreadableDocumentError as error:
            raise self.blamed(error) from error

    def blamed(self, error: UnreadableDocumentError) -> UnreadableDocumentError:
        """The error that this body cannot be read, naming the server in which others have changed it.

        By its ETag a body is known to be that which was acknowledged, or which MongoDB has.
        """
        why = str(error).removeprefix(UnreadableDocumentError.__doc__ or "").strip()
        return UnreadableDocumentError(f"{_IN_MONGODB if self.is_intact else _IN_REDIS} {why}")

    @property
    def version_digits(self) -> str:
        """The version as it stands in Redis."""
        return f"{self.version:016d}"

    @property
    def payload(self) -> bytes:
        """The part of the entry after the version in Redis."""
        if self.kind is Kind.DOCUMENT:
            return b"D" + self.etag.encode() + self.body
        return self.kind.value.encode()

    @property
    def header(self) -> str:
        """The part of the entry before the body in Redis."""
        if self.kind is Kind.DOCUMENT:  # most are
            return f"{self.version:016d}D{self.etag}"
        return self.version_digits + self.kind.value

    @property
    def value(self) -> bytes:
        """The whole value as it stands in Redis."""
        return self.version_digits.encode() + self.payload


def is_intact(value: bytes) -> bool:
    """Whether a value is an entry whose body is the one that its ETag is of."""
    if value[KIND_AT:].startswith(b"D"):  # most are; this is the way of many
        is_etag = value[KIND_AT + 1 : BODY_AT] == etag(value[BODY_AT:]).encode()
        return is_etag and value[:VERSION_DIGITS].isdigit()
    try:
        return Entry.parse(value).is_intact
    except (ValueError, IndexError):
        return False


def version_of(value: bytes) -> int:
    """The version that a value in Redis begins with.

    Raises:
        ValueError: it does not, or as no script would write it, and find it again.
    """
    digits = value[:VERSION_DIGITS]
    if len(digits) < VERSION_DIGITS or not digits.isdigit():
        raise ValueError(f"no version: {digits!r}")
    return int(digits)


#: What Redis holds for a document that MongoDB does not have.
ABSENT = Entry(0, Kind.ABSENT)
#: What a deletion commits.
DELETED = Entry(0, Kind.DELETED)
