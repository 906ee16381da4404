"""The order that MongoDB puts values of any type in, and what it takes for equal.

See "Comparison/Sort Order" in MongoDB's manual: first by type, with all numbers being one type, then by value. The
values are compared as they stand in BSON, since Python has no value for each of them: a symbol would become a
string, `undefined` null, and a string that is no UTF-8 nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import isnan
from struct import Struct
from typing import Any, Final

from writebehind.documents import codec
from writebehind.documents import elements as bson
from writebehind.documents.elements import Element, elements

#: Comparable with every other key, and equal where MongoDB takes the values for equal: the rank of the type, then
#: what decides within it.
Key = tuple[Any, ...]

_MINIMUM, _UNDEFINED, _NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BINARY, _OBJECT_ID = range(9)
_BOOLEAN, _DATE, _TIMESTAMP, _REGEX, _DB_POINTER, _CODE, _CODE_WITH_SCOPE, _MAXIMUM = range(9, 17)

MINIMUM: Final[Key] = (_MINIMUM,)
#: The value of an empty array in a sort; less than null.
UNDEFINED: Final[Key] = (_UNDEFINED,)
NULL: Final[Key] = (_NULL,)
#: Less than all numbers, and equal to itself.
NAN: Final[Key] = (_NUMBER, 0)
MAXIMUM: Final[Key] = (_MAXIMUM,)

#: What decides between binaries comes after their length, with that and the subtype in it.
_UUID_LENGTH: Final = 4 + 1 + 16
_UUID_SUBTYPE: Final = b"\4"

_double_at: Final = Struct("<d").unpack_from
_int32_at: Final = Struct("<i").unpack_from
_int64_at: Final = Struct("<q").unpack_from
_uint64_at: Final = Struct("<Q").unpack_from
_decimal_at: Final = Struct("<QQ").unpack_from

# IEEE 754-2008, binary integer decimal.
_SIGN: Final = 1 << 63
_SPECIAL_SHIFT, _INFINITY, _NOT_A_NUMBER = 58, 0b11110, 0b11111
_NOT_CANONICAL: Final = 0b11 << 61
_EXPONENT_SHIFT, _EXPONENT_MASK, _EXPONENT_BIAS = 49, 0x3FFF, 6176
_COEFFICIENT_MASK, _MOST = (1 << 49) - 1, 10**34 - 1


def key(raw: bytes, one: Element) -> Key:
    """The place of a value among all others."""
    kind, start, end = one
    rank, content = _KINDS[kind]
    return rank, *content(raw, start, end)


def key_of(value: Any) -> Key:
    """The place of a native value.

    Raises:
        InvalidDocumentError: BSON cannot hold it.
    """
    raw = codec.encode({"": value})
    [(_, one)] = elements(raw)
    return key(raw, one)


def key_of_tagged(tagged: str) -> Key | None:
    """The place of an id as members have it, with its type: `s:ada`; `None` where it is none.

    It is what `key_of` says of the id's value, without the way through BSON: lists put thousands of them in order.
    """
    tag, text = tagged[:2], tagged[2:]
    try:
        match tag:
            case "s:":
                return _STRING, text.encode()
            case "i:":
                return _NUMBER, 1, int(text)
            case "o:":
                return _OBJECT_ID, bytes.fromhex(text)
            case "u:":
                return _BINARY, _UUID_LENGTH, _UUID_SUBTYPE + bytes.fromhex(text.replace("-", ""))
    except ValueError:
        pass
    return None


def rank(kind: int) -> int:
    """The first part of the key of a value of this type: values of other ranks are of another type, to MongoDB."""
    return _KINDS[kind][0]


def number(raw: bytes, one: Element) -> int | float | Decimal | None:
    """The number that a value is; `None` for values of other types, and for what is not a number."""
    found = key(raw, one) if rank(one[0]) == _NUMBER else NAN
    return None if found == NAN else found[2]


def _nothing(_raw: bytes, _start: int, _end: int) -> Key:
    return ()


def _double(raw: bytes, start: int, _end: int) -> Key:
    (value,) = _double_at(raw, start)
    return NAN[1:] if isnan(value) else (1, value)


def _int32(raw: bytes, start: int, _end: int) -> Key:
    return 1, *_int32_at(raw, start)


def _int64(raw: bytes, start: int, _end: int) -> Key:
    return 1, *_int64_at(raw, start)


def _decimal(raw: bytes, start: int, _end: int) -> Key:
    low, high = _decimal_at(raw, start)
    special, sign = high >> _SPECIAL_SHIFT & _NOT_A_NUMBER, "-" if high & _SIGN else ""
    if special == _NOT_A_NUMBER:
        return NAN[1:]
    if special == _INFINITY:
        return 1, float(f"{sign}inf")
    coefficient = (high & _COEFFICIENT_MASK) << 64 | low
    if high & _NOT_CANONICAL == _NOT_CANONICAL or coefficient > _MOST:  # which the standard says is zero
        return 1, 0
    exponent = (high >> _EXPONENT_SHIFT & _EXPONENT_MASK) - _EXPONENT_BIAS
    return 1, Decimal(f"{sign}{coefficient}E{exponent}")


def _date(raw: bytes, start: int, _end: int) -> Key:
    return _int64_at(raw, start)


def _timestamp(raw: bytes, start: int, _end: int) -> Key:
    return _uint64_at(raw, start)


def _text(raw: bytes, start: int, end: int) -> Key:
    return (raw[start + 4 : end - 1],)


def _plain(raw: bytes, start: int, end: int) -> Key:
    return (raw[start:end],)


def _binary(raw: bytes, start: int, end: int) -> Key:
    return end - start, raw[start + 4 : end]  # by length, by subtype, by content


def _db_pointer(raw: bytes, start: int, end: int) -> Key:
    return end - start, raw[start:end]


def _document(raw: bytes, start: int, _end: int) -> Key:
    parts = []
    for name, inner in elements(raw, start):  # documents may be nested deep: as few calls a level as can be
        place = key(raw, inner)
        parts.append((place[0], name, place))
    return tuple(parts)


def _regex(raw: bytes, start: int, end: int) -> Key:
    pattern, options, _ = raw[start:end].split(b"\0")
    return pattern, options


def _code_with_scope(raw: bytes, start: int, end: int) -> Key:
    scope = start + 8 + _int32_at(raw, start + 4)[0]
    return raw[start + 8 : scope - 1], _document(raw, scope, end)


#: Of each type its rank, and what decides within the rank.
_KINDS: Final[dict[int, tuple[int, Callable[[bytes, int, int], Key]]]] = {
    bson.MIN_KEY: (_MINIMUM, _nothing),
    bson.UNDEFINED: (_UNDEFINED, _nothing),
    bson.NULL: (_NULL, _nothing),
    bson.INT32: (_NUMBER, _int32),
    bson.INT64: (_NUMBER, _int64),
    bson.DOUBLE: (_NUMBER, _double),
    bson.DECIMAL128: (_NUMBER, _decimal),
    bson.STRING: (_STRING, _text),
    bson.SYMBOL: (_STRING, _text),
    bson.OBJECT: (_OBJECT, _document),
    bson.ARRAY: (_ARRAY, _document),
    bson.BINARY: (_BINARY, _binary),
    bson.OBJECT_ID: (_OBJECT_ID, _plain),
    bson.BOOLEAN: (_BOOLEAN, _plain),
    bson.DATE: (_DATE, _date),
    bson.TIMESTAMP: (_TIMESTAMP, _timestamp),
    bson.REGEX: (_REGEX, _regex),
    bson.DB_POINTER: (_DB_POINTER, _db_pointer),
    bson.CODE: (_CODE, _text),
    bson.CODE_WITH_SCOPE: (_CODE_WITH_SCOPE, _code_with_scope),
    bson.MAX_KEY: (_MAXIMUM, _nothing),
}
