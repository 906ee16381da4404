"""Values of every type of BSON in MongoDB's order, the special ones of each type among them.

The order is that of "Comparison/Sort Order" in MongoDB's manual, and within a type that of
`BSONElement::compareElements` in the server.
"""

from __future__ import annotations

from datetime import UTC, datetime
from struct import pack
from typing import Any, NamedTuple

import bson
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from writebehind.documents import elements
from writebehind.documents.elements import document, field

NAN, INFINITY = float("nan"), float("inf")


class Raw(NamedTuple):
    """A value that Python has none for: its type, and how it stands in BSON."""

    kind: int
    value: bytes


UNDEFINED = Raw(elements.UNDEFINED, b"")
SYMBOL = Raw(elements.SYMBOL, pack("<i", 2) + b"a\0")
NO_UTF_8 = Raw(elements.STRING, pack("<i", 3) + b"\xff\xfe\0")
DB_POINTER = Raw(elements.DB_POINTER, pack("<i", 2) + b"c\0" + bytes(12))
#: With the length in it that only this subtype has.
OLD_BINARY = Binary(b"x", 2)
#: Its coefficient is beyond 34 digits, so that it counts as zero.
NOT_CANONICAL = Decimal128.from_bid(pack("<QQ", (1 << 64) - 1, (6176 << 49) | ((1 << 49) - 1)))
DATE = datetime(2026, 1, 2, tzinfo=UTC)
#: Of dates that Python can hold the first one, and the first one after them, ms.
EARLIEST, LATER = -62_135_596_800_000, 253_402_300_800_000

#: Ascending; the values of a row are equal. With each row goes the type within which MongoDB compares.
ROWS: list[tuple[str, list[Any]]] = [
    ("least", [MinKey()]),
    ("undefined", [UNDEFINED]),
    ("null", [None]),
    *(
        ("number", row)
        for row in [
            [NAN, Decimal128("NaN"), Decimal128("-NaN"), Decimal128("sNaN")],
            [-INFINITY, Decimal128("-Infinity")],
            [Decimal128("-1E+6144")],
            [-1.7976931348623157e308],
            [Int64(-(1 << 63)), -float(1 << 63), Decimal128(str(-(1 << 63)))],
            [Int64(-(1 << 53) - 1)],
            [-1, -1.0, Decimal128("-1")],
            [-5e-324],
            [Decimal128("-1E-6176")],
            [0, Int64(0), 0.0, -0.0, Decimal128("0"), Decimal128("-0"), Decimal128("0E+6111"), NOT_CANONICAL],
            [Decimal128("1E-6176")],
            [5e-324],
            [Decimal128("0.1")],
            [0.1],  # which is a little more
            [1, Int64(1), 1.0, Decimal128("1"), Decimal128("1.00")],
            [1.5, Decimal128("1.5")],
            [2],
            [(1 << 31) - 1, Int64((1 << 31) - 1)],
            [Int64(1 << 31), float(1 << 31)],
            [Int64((1 << 53) - 1)],
            [Int64(1 << 53), float(1 << 53), Decimal128(str(1 << 53))],
            [Int64((1 << 53) + 1), Decimal128(str((1 << 53) + 1))],
            [Int64((1 << 53) + 2), float((1 << 53) + 2)],
            [Int64((1 << 63) - 1)],
            [float(1 << 63), Decimal128(str(1 << 63))],
            [1.7976931348623157e308],
            [Decimal128("1E+6144")],
            [INFINITY, Decimal128("Infinity")],
        ]
    ),
    *(("string", row) for row in [[""], ["A"], ["a", SYMBOL], ["a\0b"], ["ab"], ["b"], ["é"], ["😀"], [NO_UTF_8]]),
    *(
        ("object", row)
        for row in [
            [{}],
            [{"c": None}],
            [{"c": NAN}],
            [{"c": 1}, {"c": 1.0}],
            [{"c": 1, "d": 2}],
            [{"d": 1}],
            [{"d": 2, "c": 1}],
            [DBRef("c", 1), {"$ref": "c", "$id": 1.0}],
            [{"c": {"d": 1}}],
            [{"c": []}],
        ]
    ),
    *(
        ("array", [one])
        for one in [
            *([], [MinKey()], [None], [NAN], [1], [1, 2], [1, {"c": 1}], ["a", None]),
            *([{"c": 1}], [{"c": 1}, {"d": 1}], [[]], [[], 1], [[1]], [[{"c": 1}]], [MaxKey()]),
        ]
    ),
    *(
        ("binary", [one])
        for one in [b"", b"x", Binary(b"x", 5), Binary(b"x", 128), b"xy", OLD_BINARY, Binary(bytes(16), 4)]
    ),
    *(("objectid", [one]) for one in [ObjectId(bytes(12)), ObjectId("64b7f0c2a1d3e4f5a6b7c8d9")]),
    *(("boolean", [one]) for one in [False, True]),
    *(
        ("date", [one])
        for one in [DatetimeMS(-(1 << 63)), DatetimeMS(EARLIEST - 1), DatetimeMS(-1), DatetimeMS(0)]
    ),
    *(("date", row) for row in [[DATE, DatetimeMS(DATE)], [DatetimeMS(LATER)], [DatetimeMS((1 << 63) - 1)]]),
    *(
        ("timestamp", [one])
        for one in [
            Timestamp(0, 1),
            Timestamp(1, 0),
            Timestamp(1 << 31, 0),
            Timestamp((1 << 32) - 1, (1 << 32) - 1),
        ]
    ),
    *(("regex", [one]) for one in [Regex("a"), Regex("a", "i"), Regex("b")]),
    ("pointer", [DB_POINTER]),
    *(("code", [one]) for one in [Code("a"), Code("b")]),
    *(("code with scope", [one]) for one in [Code("a", {}), Code("a", {"x": 1}), Code("b", {})]),
    ("greatest", [MaxKey()]),
]
#: Each value, with the type within which MongoDB compares it, and its place.
VALUES: list[tuple[str, int, Any]] = [(kind, at, one) for at, (kind, row) in enumerate(ROWS) for one in row]


def with_fields(**fields: Any) -> bytes:
    """The document that has these fields, as BSON."""
    return document(field(kind, name.encode(), value) for name, (kind, value) in _raw(fields))


def _raw(fields: dict[str, Any]) -> list[tuple[str, Raw]]:
    found = []
    for name, one in fields.items():
        whole = b"" if isinstance(one, Raw) else bson.encode({"": one})
        found.append((name, one if isinstance(one, Raw) else Raw(whole[4], whole[6:-1])))
    return found
