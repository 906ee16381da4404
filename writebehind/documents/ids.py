"""Document ids: the text in a URL, the `_id` in MongoDB, and the tagged form in Redis that keeps the type."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any
from uuid import UUID, uuid4

from bson import Binary, Code, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation

from writebehind.documents import grammar
from writebehind.documents.grammar import INT64_MAX, INT64_MIN
from writebehind.errors import InvalidIdError

Id = str | int | ObjectId | UUID

MAX_ID_BYTES = 512
#: Most members: of documents whose id is a text of ASCII characters. Each text is an id.
_PLAIN_MEMBER = re.compile(rb"[^/\x80-\xff]+/s:[\x00-\x7f]*")


@dataclass(frozen=True, slots=True)
class DocumentId:
    """One document: `(collection, id)`.

    Attributes:
        collection: name of the collection.
        value: `_id` as it stands in MongoDB.
        text: the id as it stands in a URL.
        member: `<collection>/<tagged id>`, its name in Redis.
    """

    collection: str
    value: object
    text: str
    member: str

    @classmethod
    def of(cls, collection: str, value: Id) -> DocumentId:
        """The document with this native id; of a subclass what it holds counts, and not what it shows."""
        match value:
            case str():
                text = str.__str__(value)
                return cls(collection, text, text, f"{collection}/s:{text}")
            case ObjectId():
                text = value.binary.hex()
                return cls(collection, ObjectId(value.binary), text, f"{collection}/o:{text}")
            case UUID():
                text = UUID.__str__(value)
                binary = Binary.from_uuid(value, UuidRepresentation.STANDARD)
                return cls(collection, binary, text, f"{collection}/u:{text}")
            case int():
                number = int.__index__(value)
                # bson writes a small int as int32 and MongoDB compares by value: one type is enough.
                return cls(collection, Int64(number), str(number), f"{collection}/i:{number}")

    @classmethod
    def stored(cls, collection: str, value: Any) -> DocumentId | None:
        """The document with this `_id` as MongoDB has it; `None` where no document of ours can have it."""
        if isinstance(value, Binary) and (value.subtype, len(value)) == (4, 16):
            value = value.as_uuid(UuidRepresentation.STANDARD)
        if isinstance(value, float | Decimal128):
            value = whole(value)  # to MongoDB 7.0 and 7 are one id, and JavaScript writes the former
        if isinstance(value, bool | Code) or not isinstance(value, str | int | ObjectId | UUID):
            return None
        if isinstance(value, str) and not is_text(value):
            return None
        return cls.of(collection, value)

    @classmethod
    def from_member(cls, member: str) -> DocumentId:
        """The document that a member names.

        Raises:
            ValueError: no document has this member.
        """
        collection, _, tagged = member.partition("/")
        if tagged.startswith("s:") and collection:  # most are, and each text is an id
            return cls(collection, tagged[2:], tagged[2:], member)
        read = _TAGGED.get(tagged[:2])
        if read is None or not collection:
            raise ValueError(f"{_shown(member)} is not a member")
        try:
            found = cls.of(collection, read(tagged[2:]))
        except ValueError as error:
            raise ValueError(f"{_shown(member)} is not a member: {error}") from error
        if found.member != member:  # it has another one
            raise ValueError(f"{_shown(member)} is not a member")
        return found


def named(member: bytes) -> DocumentId | None:
    """The document that a member in Redis names; `None` for what only other hands can have put there."""
    try:
        return DocumentId.from_member(member.decode())
    except ValueError:
        return None


def is_named(member: bytes) -> bool:
    """Whether a member in Redis names a document."""
    return _PLAIN_MEMBER.fullmatch(member) is not None or named(member) is not None


def whole(number: object) -> int | None:
    """The 64-bit integer that a number of any type is equal to, to MongoDB; `None` where there is none."""
    if isinstance(number, Decimal128):
        number = number.to_decimal()
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        return None
    if not (number.is_finite() if isinstance(number, Decimal) else isfinite(number)):
        return None
    return int(number) if INT64_MIN <= number <= INT64_MAX and number == int(number) else None


def read_id(given: object, kind: str, pattern: str) -> Id:
    """Turn what a caller gave, usually the text of a URL, into an id of the collection's type.

    Raises:
        InvalidIdError: it is not one.
    """
    if isinstance(given, Binary) and (given.subtype, len(given)) == (4, 16):  # a UUID as MongoDB stores it
        given = given.as_uuid(UuidRepresentation.STANDARD)
    if isinstance(given, str) and not isinstance(given, Code):  # which is a `str` to Python, not to BSON
        return _from_text(given, kind, pattern)
    fits = {
        "objectid": isinstance(given, ObjectId),
        "auto": isinstance(given, ObjectId),
        "uuid": isinstance(given, UUID),
    }
    found = whole(given) if kind == "int" else given if fits.get(kind) else None
    if found is None:
        raise InvalidIdError(f"{type(given).__name__} is not what ids of type {kind!r} are made of")
    return found  # type: ignore[return-value]


def is_unicode(value: str) -> bool:
    """Whether a string can be UTF-8: others may have made a string in MongoDB that cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_text(value: str) -> bool:
    """Whether a string can be a key: it is UTF-8, not empty, and not longer than ids may be."""
    try:
        return 0 < len(value.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


def new_id(kind: str) -> Id:
    """Generate an id for a new document.

    Raises:
        InvalidIdError: ids of this type cannot be made up.
    """
    match kind:
        case "objectid" | "auto":
            return ObjectId()
        case "uuid":
            return uuid4()
        case "string":
            return str(ObjectId())
    raise InvalidIdError(f"ids of type {kind!r} are not generated: PUT the document under an id of your own")


def _from_text(text: str, kind: str, pattern: str) -> Id:
    if kind == "string":
        return _checked(text, pattern)
    try:
        return _READERS[kind](text)
    except ValueError as error:
        if kind == "auto":
            return _checked(text, pattern)
        raise InvalidIdError(f"{_shown(text)} as an id of type {kind!r}: {error}") from error


# Each type has one text for one id but for the case of letters, so that one document has one URL.
_READERS: dict[str, Callable[[str], Id]] = {
    "auto": grammar.object_id,
    "objectid": grammar.object_id,
    "uuid": grammar.uuid,
    "int": grammar.integer,
}


#: The same by the tags of members.
_TAGGED: dict[str, Callable[[str], Id]] = {
    "s:": str,
    "o:": grammar.object_id,
    "u:": grammar.uuid,
    "i:": grammar.integer,
}


def _checked(text: str, pattern: str) -> str:
    if not text:
        raise InvalidIdError("an id has one character at least")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidIdError(f"{_shown(text)} is not valid Unicode") from error
    if size > MAX_ID_BYTES:
        raise InvalidIdError(f"the id is longer than {MAX_ID_BYTES} bytes")
    if not _compiled(pattern).fullmatch(text):
        raise InvalidIdError(f"{_shown(text)} does not match the collection's id_pattern {pattern}")
    return text


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - enough to recognise it by
