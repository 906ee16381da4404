"""The order that MongoDB puts values of any type in, and what it takes for equal.

See "Comparison/Sort Order" in MongoDB's manual: first by type, with all numbers being one type, then by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import total_ordering
from math import isnan
from types import NoneType
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

#: Comparable with every other key: the rank of the type, then what decides within the type.
Key = tuple[Any, ...]

_MINIMUM, _EMPTY, _NULL, _NUMBER, _STRING, _OBJECT, _ARRAY = range(7)
_BINARY, _OBJECT_ID, _BOOLEAN, _DATE, _TIMESTAMP, _REGEX, _CODE, _MAXIMUM = range(7, 15)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Missing:
    """What a place in a document has that does not exist."""


MISSING = _Missing()


def key(value: Any) -> Key:
    """The place of a native value, as `codec.decode` returns it, among all others."""
    return _KEYS[type(value)](value)


def is_of_type(one: Key, other: Key) -> bool:
    """Whether two values may be compared with `$gt` and the like: they are of one type, to MongoDB."""
    return bool(one[0] == other[0])


def sort_key(reached: Sequence[Sequence[Any]], directions: Sequence[int]) -> tuple[Any, ...]:
    """The place of a document in a sort.

    Args:
        reached: for each field of the sort the values that are found there, elements of arrays too.
        directions: 1 or -1 for each. Of several values the least one counts, or with -1 the greatest.
    """
    parts: list[Any] = []
    for values, direction in zip(reached, directions, strict=True):
        keys = [key(value) for value in values] or [(_EMPTY,)]
        parts.append(min(keys) if direction > 0 else _Descending(max(keys)))
    return tuple(parts)


@total_ordering
class _Descending:
    """A key, the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.key == other.key

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key

    __hash__ = None  # type: ignore[assignment]


def _number(value: float) -> Key:
    return (_NUMBER, 0) if isnan(value) else (_NUMBER, 1, value)  # which is equal to itself here


def _decimal(value: Decimal128) -> Key:
    number = value.to_decimal()
    return (_NUMBER, 0) if number.is_nan() else (_NUMBER, 1, number)


def _object(value: dict[str, Any]) -> Key:
    parts = [(name.encode(), key(inner)) for name, inner in value.items()]
    return _OBJECT, tuple((one[0], name, one) for name, one in parts)


def _date(value: datetime) -> Key:
    since = value - _EPOCH
    return _DATE, (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _binary(value: bytes) -> Key:
    return _BINARY, len(value), getattr(value, "subtype", 0), bytes(value)


_KEYS: dict[type, Callable[[Any], Key]] = {
    MinKey: lambda _: (_MINIMUM,),
    NoneType: lambda _: (_NULL,),
    _Missing: lambda _: (_NULL,),
    int: _number,
    Int64: _number,
    float: _number,
    Decimal128: _decimal,
    str: lambda value: (_STRING, value.encode("utf-8", "surrogatepass")),
    dict: _object,
    DBRef: lambda value: key(dict(value.as_doc())),
    list: lambda value: (_ARRAY, tuple(map(key, value))),
    bytes: _binary,
    Binary: _binary,
    ObjectId: lambda value: (_OBJECT_ID, value.binary),
    bool: lambda value: (_BOOLEAN, value),
    datetime: _date,
    DatetimeMS: lambda value: (_DATE, int(value)),
    Timestamp: lambda value: (_TIMESTAMP, value.time, value.inc),
    Regex: lambda value: (_REGEX, str(value.pattern), value.flags),
    Code: lambda value: (_CODE, str(value), key(dict(value.scope or {}))),
    MaxKey: lambda _: (_MAXIMUM,),
}
