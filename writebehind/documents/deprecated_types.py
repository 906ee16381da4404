"""The types of BSON that `bson` does not keep: symbol, undefined and DBPointer.

They are deprecated, and `bson` makes a string, None and a DBRef of them. Here they stay what they are. Documents
that have one are rare; only they are taken apart and put together in Python.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.code import Code
from bson.codec_options import CodecOptions
from bson.dbref import DBRef
from bson.errors import BSONError, InvalidDocument
from bson.objectid import ObjectId

from writebehind.documents import dbrefs
from writebehind.documents.elements import (
    ARRAY,
    CODE_WITH_SCOPE,
    DB_POINTER,
    OBJECT,
    SYMBOL,
    UNDEFINED,
    document,
    elements,
    field,
)

Options = CodecOptions[dict[str, Any]]

#: What `bson` raises for values that it cannot take.
BSON_ERRORS: Final = (
    BSONError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

_ID_SIZE: Final = 12
_KINDS: Final = tuple(bytes([kind]) for kind in (UNDEFINED, DB_POINTER, SYMBOL))
#: What each element of these types looks like in a document of less than `_SHORT` bytes, and little else does: the
#: lengths of texts and small numbers have the same first byte, and most documents have those. By bsonspec.org/spec
#: the end of documents comes after an undefined value, and then a type; a DBPointer and a symbol have a length, of
#: which two bytes are zeros. A name that is long is not looked at, as each byte of it may begin one.
_ENDS: Final = rb"\0*(?:\Z|[\x01-\x13\x7f\xff])"
_HAS_LENGTH: Final = rb"..\0\0"
_LOOKS: Final = tuple(
    (kind, re.compile(re.escape(kind) + rb"(?:[^\0]{64}|[^\0]*+\0%b)" % follows, re.DOTALL))
    for kind, follows in zip(_KINDS, (_ENDS, _HAS_LENGTH, _HAS_LENGTH), strict=True)
)
_SHORT: Final = 1 << 16
_length: Final = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol."""

    text: str


@dataclass(frozen=True, slots=True)
class Undefined:
    """A value that is undefined, which is not null."""


@dataclass(frozen=True, slots=True)
class DBPointer:
    """A reference to a document of a collection."""

    collection: str
    id: ObjectId


def may_be_in(body: bytes) -> bool:
    """Whether a document may have a value of these types; False only where it has none."""
    if len(body) < _SHORT:
        return any(kind in body and look.search(body) for kind, look in _LOOKS)
    return any(kind in body for kind in _KINDS)


# BSON to native values --------------------------------------------------------------------------------------


def restored(document: dict[str, Any], body: bytes, options: Options, writing: Options) -> dict[str, Any]:
    """The value that `bson` has decoded, with values of these types as they are.

    Args:
        document: what `bson` has made of it.
        body: BSON.
        options: how that was decoded.
        writing: how it would be encoded.

    Raises:
        ValueError and others of `bson`: this is no BSON.
    """
    if not may_be_in(body):
        return document
    is_quick = dbrefs.NAME not in body or dbrefs.are_short(document)
    return document if is_quick and _makes(document, body, writing) else decode(body, options)


def _makes(native: dict[str, Any], body: bytes, options: Options) -> bool:
    """Whether `bson` makes this of it, so that nothing was lost."""
    try:
        return bson.encode(native, codec_options=options) == body
    except BSON_ERRORS:
        return False


def decode(body: bytes, options: Options) -> dict[str, Any]:
    """Turn BSON into native values, these types included.

    Args:
        body: BSON.
        options: how the other types are decoded.

    Raises:
        ValueError and others of `bson`: this is no BSON.
    """
    return dict(_items(body, options))


def _items(body: bytes, options: Options) -> Iterator[tuple[str, Any]]:
    for name, (kind, start, end) in elements(body):
        yield (
            name.decode(errors=options.unicode_decode_error_handler or "strict"),
            _value(kind, body[start:end], options),
        )


def _value(kind: int, value: bytes, options: Options) -> Any:
    reader = _READERS.get(kind)
    return reader(value, options) if reader else bson.decode(_alone(kind, value), options)[""]


def _code(value: bytes, options: Options) -> Code:
    size = 8 + _length.unpack_from(value, 4)[0]
    return Code(_text(value[4:size]), decode(value[size:], options))


def _document_or_dbref(document: dict[str, Any]) -> Any:
    """The value that `bson` makes of a document within another one."""
    others = dict(document)
    collection, identifier, database = (others.pop(name, None) for name in ("$ref", "$id", "$db"))
    if not isinstance(collection, str) or "$id" not in document or not isinstance(database, str | None):
        return document
    return DBRef(collection, identifier, database, others)


def _text(value: bytes) -> str:
    if len(value) <= _length.size or value[-1]:
        raise ValueError("a string does not end where it says")
    return value[_length.size : -1].decode()


_READERS: Final[dict[int, Callable[[bytes, Options], Any]]] = {
    OBJECT: lambda value, options: _document_or_dbref(decode(value, options)),
    ARRAY: lambda value, options: [item for _, item in _items(value, options)],
    UNDEFINED: lambda _, __: Undefined(),
    DB_POINTER: lambda value, _: DBPointer(_text(value[:-_ID_SIZE]), ObjectId(value[-_ID_SIZE:])),
    SYMBOL: lambda value, _: Symbol(_text(value)),
    CODE_WITH_SCOPE: _code,
}


# Native values to BSON --------------------------------------------------------------------------------------


def encode(value: Any, options: Options) -> bytes:
    """Turn native values into BSON, these types included.

    Args:
        value: a dict, or what else `bson` takes for a document.
        options: how the other types are encoded.

    Raises:
        InvalidDocument, ValueError, TypeError and others of `bson`: BSON cannot hold this.
    """
    if not isinstance(value, dict):
        return bson.encode(value, codec_options=options)
    return document([_element(name, item, options) for name, item in value.items()])


def _element(name: str, value: Any, options: Options) -> bytes:
    if type(name) is not str or "\0" in name:
        raise InvalidDocument(f"{name!r} cannot be the name of a field")
    key = name.encode()
    writer = _WRITERS.get(type(value))
    if writer is None or (type(value) is Code and value.scope is None):
        return bson.encode({name: value}, codec_options=options)[4:-1]
    kind, write = writer
    return field(kind, key, write(value, options))


def _array(value: Sequence[Any], options: Options) -> bytes:
    return encode({str(place): item for place, item in enumerate(value)}, options)


def _code_with_scope(value: Code, options: Options) -> bytes:
    content = _string(str(value)) + encode(dict(value.scope or {}), options)
    return _length.pack(_length.size + len(content)) + content


_WRITERS: Final[dict[type, tuple[int, Callable[[Any, Options], bytes]]]] = {
    Undefined: (UNDEFINED, lambda _, __: b""),
    Symbol: (SYMBOL, lambda value, _: _string(value.text)),
    DBPointer: (DB_POINTER, lambda value, _: _string(value.collection) + value.id.binary),
    DBRef: (OBJECT, lambda value, options: encode(dbrefs.fields(value), options)),
    dict: (OBJECT, encode),
    list: (ARRAY, _array),
    tuple: (ARRAY, _array),
    Code: (CODE_WITH_SCOPE, _code_with_scope),
}


def _string(text: str) -> bytes:
    data = text.encode()
    return _length.pack(len(data) + 1) + data + b"\0"


def _alone(kind: int, value: bytes) -> bytes:
    """A document of this one value, without a name."""
    return _length.pack(_length.size + len(value) + 3) + bytes([kind, 0]) + value + b"\0"
