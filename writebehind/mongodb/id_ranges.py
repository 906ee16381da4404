"""The ids that documents of the pipeline can have, as ranges that MongoDB finds by its index, in its order.

A comparison in MongoDB finds values of one type only, so that each type has a range of its own. Types that no
document of the pipeline has in its id are in none, nor are most binaries that are no UUID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson import Binary, Decimal128, Int64, ObjectId

from writebehind.documents.grammar import INT64_MAX, INT64_MIN

Range = Mapping[str, Any]

_UUID: Final = 4
#: Numbers, strings, UUIDs, ObjectIds: see `writebehind.mql.order`.
_RANGES: Final[Sequence[tuple[tuple[type, ...], Range]]] = (
    ((int, float, Decimal128), {"$gte": Int64(INT64_MIN), "$lte": Int64(INT64_MAX)}),
    ((str,), {"$gte": ""}),
    ((Binary, bytes), {"$gte": Binary(b"\0" * 16, _UUID), "$lte": Binary(b"\xff" * 16, _UUID)}),
    ((ObjectId,), {"$gte": ObjectId(b"\0" * 12)}),
)


def ranges_after(value: object) -> list[Range]:
    """The ranges of ids after this one, in their order; all of them after `None`."""
    for at, (types, whole) in enumerate(_RANGES):
        if isinstance(value, types):
            begun = {"$gt": value} | {name: bound for name, bound in whole.items() if name != "$gte"}
            return [begun, *(one for _, one in _RANGES[at + 1 :])]
    return [one for _, one in _RANGES]
