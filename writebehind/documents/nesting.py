"""Levels of objects and arrays, and how many of these there are: in JSON text that is not read, and in values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from writebehind.documents import dbrefs
from writebehind.errors import InvalidDocumentError

#: Levels of objects and arrays in a document, the document itself being the first. It is MongoDB's limit.
MAX_DEPTH: Final = 100

# All bytes but quotes, and brackets that open something.
_NO_BRACKETS: Final = bytes(one for one in range(256) if one not in b'"[{')
# What other values may be in.
_PLAIN: Final = frozenset({dict, list})
# Most of what other values cannot be in: only a shortcut.
_SCALARS: Final = frozenset(
    {str, int, float, bool, type(None), Int64, ObjectId, datetime, DatetimeMS, bytes, Binary, Decimal128}
)

#: Bytes of JSON that are looked at together.
_SLICE: Final = 1 << 16


def too_deep() -> InvalidDocumentError:
    """The error for a document of too many levels."""
    return InvalidDocumentError(f"There are more than {MAX_DEPTH} levels of objects and arrays")


def holds_more(data: bytes, most: int) -> bool:
    """Whether JSON text has more objects and arrays than these; what stands in strings does not count."""
    if openings(data) <= most:
        return False
    # Without escapes and all that is neither bracket nor quote, each string without brackets is a pair of quotes;
    # and a pair that ends a string and begins the next one joins them, which changes nothing.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_BRACKETS).replace(b'""', b"")
    found, inside = 0, False
    for at in range(0, len(bare), _SLICE):  # the parts of all of it would be millions of objects
        parts = bare[at : at + _SLICE].split(b'"')
        found += sum(map(len, parts[inside::2]))
        inside ^= len(parts) % 2 == 0
        if found > most:
            return True
    return False


def openings(data: bytes) -> int:
    """A number that the depth of this JSON text does not exceed: brackets, also those in strings."""
    return data.count(b"{") + data.count(b"[")


def check_depth(value: Any, most: int) -> None:
    """Walk a tree, level by level.

    Args:
        value: what was parsed, or native values.
        most: levels that it may have.

    Raises:
        InvalidDocumentError: It has more.
    """
    level = [_opened(value)]
    for _ in range(most):
        # A document of a megabyte may have hundreds of thousands: no call for each of them.
        found = [item for outer in level for item in _items(outer) if type(item) not in _SCALARS]
        level = [one for item in found if (one := item if type(item) in _PLAIN else _opened(item)) is not None]
        if not level:
            return
    raise too_deep()


def _opened(holder: Any) -> Any:
    """The container that holds the items of an object or an array, whatever its type; `None` for anything else."""
    if isinstance(holder, DBRef):
        return dbrefs.fields(holder)
    if isinstance(holder, Code):
        return holder.scope
    return holder if isinstance(holder, Mapping | list | tuple) else None


def _items(holder: Any) -> Iterable[Any]:
    if type(holder) is list:
        return holder
    return holder.values() if isinstance(holder, Mapping) else holder or ()
