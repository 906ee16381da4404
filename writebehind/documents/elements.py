"""The elements of a BSON document where they stand: nothing is decoded, and no type is lost.

A document or an array is named by the raw bytes that hold it and the position at which it begins: all parts of a
document are positions in the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

DOUBLE, STRING, OBJECT, ARRAY, BINARY, UNDEFINED, OBJECT_ID, BOOLEAN, DATE, NULL, REGEX = range(1, 12)
DB_POINTER, CODE, SYMBOL, CODE_WITH_SCOPE, INT32, TIMESTAMP, INT64, DECIMAL128 = range(12, 20)
MAX_KEY, MIN_KEY = 0x7F, 0xFF

#: What a walk through bytes raises that are no BSON: other hands can have put them into Redis.
NO_BSON: Final = (ValueError, IndexError, struct.error, RecursionError)

#: Of an element its type, and where its value begins and ends.
Element = tuple[int, int, int]

_LENGTH: Final = struct.Struct("<I")  # unsigned, so that a walk cannot go back
_length_at: Final = _LENGTH.unpack_from
#: Bytes of a value, by type.
_FIXED: Final = {
    **dict.fromkeys((UNDEFINED, NULL, MIN_KEY, MAX_KEY), 0),
    BOOLEAN: 1,
    INT32: 4,
    **dict.fromkeys((DOUBLE, DATE, TIMESTAMP, INT64), 8),
    OBJECT_ID: 12,
    DECIMAL128: 16,
}
#: Bytes of a value beyond what the int32 that it begins with says, by type.
_PREFIXED: Final = {
    **dict.fromkeys((STRING, CODE, SYMBOL), 4),
    **dict.fromkeys((OBJECT, ARRAY, CODE_WITH_SCOPE), 0),
    BINARY: 5,
    DB_POINTER: 16,
}


def elements(raw: bytes, at: int = 0) -> Iterator[tuple[bytes, Element]]:
    """The elements of the document or array that begins at a position, each with its name.

    Raises:
        NO_BSON: this is none.
    """
    index, fixed = raw.index, _FIXED
    position, end = at + 4, at + _length_at(raw, at)[0] - 1
    while position < end:
        kind, name_end = raw[position], index(0, position + 1)
        start = name_end + 1
        value_end = start + fixed[kind] if kind in fixed else _end(raw, kind, start)
        yield raw[position + 1 : name_end], (kind, start, value_end)
        position = value_end


def element(raw: bytes, name: bytes, at: int = 0) -> Element | None:
    """The first element with this name of the document or array that begins at a position.

    Raises:
        NO_BSON: this is none.
    """
    # Each pending document comes by here: without a call for most elements.
    index, fixed, prefixed = raw.index, _FIXED, _PREFIXED
    position, end = at + 4, at + _length_at(raw, at)[0] - 1
    size = len(name) + 1
    while position < end:
        kind, name_end = raw[position], index(0, position + 1)
        start = name_end + 1
        if kind in fixed:
            value_end = start + fixed[kind]
        elif kind in prefixed:
            value_end = start + prefixed[kind] + _length_at(raw, start)[0]
        else:
            value_end = _end(raw, kind, start)
        if name_end - position == size and raw.startswith(name, position + 1):
            return kind, start, value_end
        position = value_end
    return None


def document(parts: Iterable[bytes]) -> bytes:
    """The document or array that consists of these elements, each as `field` returns it."""
    body = b"".join(parts)
    return _LENGTH.pack(len(body) + 5) + body + b"\0"


def field(kind: int, name: bytes, value: bytes) -> bytes:
    """An element, as it stands in a document."""
    return b"%c%b\0%b" % (kind, name, value)


def without(raw: bytes, path: Sequence[bytes], at: int = 0) -> bytes:
    """The document that begins at a position without one field, or without one of a document within it.

    Raises:
        NO_BSON: this is none.
    """
    parts = []
    for name, (kind, start, end) in elements(raw, at):
        if name != path[0]:
            parts.append(field(kind, name, raw[start:end]))
        elif len(path) > 1:
            inner = without(raw, path[1:], start) if kind == OBJECT else raw[start:end]
            parts.append(field(kind, name, inner))
    return document(parts)


def _end(raw: bytes, kind: int, start: int) -> int:
    """The end of a value whose size depends on it."""
    if kind in _PREFIXED:
        return start + _PREFIXED[kind] + int(_length_at(raw, start)[0])
    if kind == REGEX:
        return raw.index(0, raw.index(0, start) + 1) + 1
    raise ValueError(f"no BSON element has the type 0x{kind:02x}")
