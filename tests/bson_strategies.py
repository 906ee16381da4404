"""Hypothesis strategies for every type of BSON, for documents, and for JSON that looks like Extended JSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

from tests.sizes import SOCKET_BUFFER, THRESHOLDS

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
UINT32 = st.integers(0, (1 << 32) - 1)

#: Any text that UTF-8 can hold, null bytes included.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
#: What may be the name of a field, or the pattern of a regular expression.
c_strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
#: Names that make no wrapper.
names = c_strings.filter(lambda name: not name.startswith("$"))

object_ids = st.binary(min_size=12, max_size=12).map(ObjectId)
doubles = st.floats() | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 5e-324])
milliseconds = INT64 | st.integers(-62_135_596_800_000, 253_402_300_799_999) | st.integers(0, 4_102_444_800_000)
dates = milliseconds.map(DatetimeMS)
#: Aware, with microseconds, and in any time zone.
datetimes = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - Hypothesis wants it naive
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - Hypothesis wants it naive
    timezones=st.timezones() | st.just(UTC),
)
decimals = st.binary(min_size=16, max_size=16).map(Decimal128.from_bid) | st.decimals(places=4).map(
    lambda number: Decimal128(str(number)[:30])
)
binaries = st.builds(Binary, st.binary(max_size=20), st.integers(0, 255))
uuids = st.uuids()
regexes = st.builds(Regex, c_strings, st.sets(st.sampled_from("ilmsux")).map("".join))
timestamps = st.builds(Timestamp, UINT32, UINT32)

#: One strategy for each type whose values hold no other values.
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "double": doubles,
    "string": texts,
    "binary": binaries,
    "bytes": st.binary(max_size=20),
    "object id": object_ids,
    "boolean": st.booleans(),
    "date": dates,
    "null": st.none(),
    "regular expression": regexes,
    "code": st.builds(Code, texts),
    "int32": INT32,
    "timestamp": timestamps,
    "int64": INT64.map(Int64),
    "decimal128": decimals,
    "min key": st.builds(MinKey),
    "max key": st.builds(MaxKey),
}
scalars = st.one_of(*SCALARS.values())


def documents_of(values: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Documents whose fields have such values."""
    return st.dictionaries(names, values, max_size=most)


def dbrefs_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[DBRef]:
    """DBRefs with and without a database and fields of their own."""
    # PyMongo's `json_util` takes a DBRef with a field `items` for a dictionary, and fails.
    others = documents_of(values, 2).filter(lambda fields: "items" not in fields)
    return st.builds(DBRef, texts, values, st.none() | texts, others)


def codes_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Code]:
    """Code with a scope."""
    return st.builds(Code, texts, documents_of(values, 2))


def _holders(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3) | documents_of(values) | dbrefs_of(values) | codes_of(values)


#: Any native value, of any type.
values = st.recursive(scalars, _holders, max_leaves=12)


def _padded(document: dict[str, Any], size: int) -> dict[str, Any]:
    """A document that takes exactly `size` bytes as BSON, if it takes less."""
    room = size - len(bson.encode(document | {"pad": ""}))
    return document | {"pad": "x" * room} if room >= 0 else document


#: None, and around every threshold; documents of megabytes are too large to make up by the hundred.
_sizes = st.just(0) | st.sampled_from([size for size in THRESHOLDS if size <= SOCKET_BUFFER + 1])


def of_all_sizes(given: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """The same documents, some of them as large as a threshold."""
    return st.builds(_padded, given, _sizes)


#: Documents with values of every type, nested, of all sizes.
documents = of_all_sizes(documents_of(values, 6))

_exact_scalars = st.one_of(
    *(strategy for name, strategy in SCALARS.items() if name not in {"int64", "decimal128", "double"}),
    st.floats(allow_nan=False) | st.just(float("nan")),
    st.decimals(allow_nan=False, places=4).map(lambda number: Decimal128(str(number)[:30])),
)


def _exact_documents(integers: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return of_all_sizes(
        documents_of(st.recursive(_exact_scalars | integers.map(Int64), _holders, max_leaves=12), 6)
    )


#: What canonical Extended JSON keeps exactly: all but the payloads and signs of what is not a number.
canonical_documents = _exact_documents(INT64)
#: What relaxed Extended JSON keeps exactly: also not the type of an int64 that fits an int32.
relaxed_documents = _exact_documents(INT64.filter(lambda number: number.bit_length() > 31))

#: What users of the library pass, beyond the types of `bson`.
python_scalars = datetimes | st.datetimes() | uuids | st.just(re.compile("a.b", re.IGNORECASE)) | scalars

WRAPPERS = [
    *("$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$type"),
    *("$uuid", "$regularExpression", "$regex", "$options", "$timestamp", "$minKey", "$maxKey", "$code"),
    *("$scope", "$symbol", "$undefined", "$dbPointer", "$ref", "$id", "$db", "$", "$unknown"),
]
#: Names, inner names and texts that wrappers are made of, and such as they are not.
_wrapper_names = st.sampled_from(
    [*WRAPPERS, "base64", "subType", "pattern", "options", "t", "i", "x", "_extra", "id"]
)
_wrapper_texts = st.sampled_from(
    [
        *("", "x", "0", "-1", "1", "00", "80", "zz", "!!", "aGk=", "aGk", "NaN", "Infinity", "1e400", "im", "\0"),
        *("5f43a1b2c3d4e5f601234567", "5f43a1b2 3d4e5f60123456 ", "9" * 19, "9" * 5000, "2020-02-30T00:00:00Z"),
        *("2020-01-01T00:00:00Z", "0001-01-01T00:00:00+09:00", "9999-12-31T23:59:59.9999999-09:00", "T", "+00:00"),
        "00112233-4455-6677-8899-aabbccddeeff",
    ]
)
_json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | _wrapper_texts
)
#: Trees of JSON in which many things look like wrappers, and few are.
wrapper_like_trees = st.recursive(
    _json_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_wrapper_names | texts, inner, max_size=3)
        | st.dictionaries(_wrapper_names, inner, min_size=1, max_size=1)
    ),
    max_leaves=12,
)

#: How the end of a common date may look.
date_tails = st.sampled_from(
    ["Z", ".5Z", ".12Z", ".123Z", ".123000Z", "+02:00", "-0130", "+01", ".05+23:59", "-23:00", "-00:00"]
)
common_dates = st.builds(
    lambda date, tail: date.isoformat(timespec="seconds") + tail,
    st.datetimes(min_value=datetime(2, 1, 1)),  # noqa: DTZ001 - the tail has the time zone
    date_tails,
)
