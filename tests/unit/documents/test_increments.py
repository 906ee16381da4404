"""Increments as MongoDB's `$inc` has them: types, paths, and refusals for everything else."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from bson import DatetimeMS, DBRef, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import documents, values
from tests.unit.documents.patching import MORE, json_values, names, small_documents
from writebehind.documents.codec import encode
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.documents.patches import MOST_OPERATIONS, increment
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError, RequestError

INT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 63) - 1
INT32_MIN, INT64_MIN = -(1 << 31), -(1 << 63)


def test_increments_are_of_no_more_fields_than_patches_have_operations():
    """Each takes far more than its bytes; as many as there may be are made."""
    with pytest.raises(InvalidPatchError, match="1000 are allowed"):
        increment({f"n{n}": 1 for n in range(MOST_OPERATIONS + 1)})
    most = {f"n{n}": 1 for n in range(MOST_OPERATIONS)}
    assert most == increment(most)({})


@pytest.mark.parametrize("parts", [MAX_DEPTH + 1, 490_000])
def test_increments_have_no_more_parts_than_documents_have_levels(parts):
    """So is the path of an increment; one of as many parts as there may be is taken."""
    with pytest.raises(InvalidDocumentError, match="100 levels"):
        increment({"a." * (parts - 1) + "a": 1})
    path = "a." * (MAX_DEPTH - 1) + "a"
    document: dict = {}
    assert {path: 1} == increment({path: 1})(document)
    assert encode(document)


@pytest.mark.parametrize(
    ("old", "delta", "expected"),
    [
        (1, 2, 3),
        (1, -2, -1),
        (INT32_MAX, 1, Int64(INT32_MAX + 1)),
        (INT32_MIN, -1, Int64(INT32_MIN - 1)),
        (INT32_MIN, INT32_MAX + 1, Int64(0)),
        (Int64(1), 2, Int64(3)),
        (1, Int64(2), Int64(3)),
        (1, 2.5, 3.5),
        (1.5, 2, 3.5),
        (1.0, 2, 3.0),
        (Int64(1), 2.0, 3.0),
        (Int64(INT64_MAX), 1.0, float(INT64_MAX)),
        (1, Decimal128("2.5"), Decimal128("3.5")),
        (Int64(1), Decimal128("2"), Decimal128("3")),
        (1.5, Decimal128("2"), Decimal128("3.50000000000000")),
        (Decimal128("1"), 0.1, Decimal128("1.100000000000000")),
        (Decimal128("0"), 1 / 3, Decimal128("0.333333333333333")),
        (Decimal128("0"), 0.99999999999999994, Decimal128("1.00000000000000")),
        (Decimal128("0"), 1e300, Decimal128("1.000000000000000000000000000000000E+300")),
        (Decimal128("1.5"), 0.0, Decimal128("1.5")),
        (Decimal128("1"), math.inf, Decimal128("Infinity")),
        (Decimal128("1.10"), 1, Decimal128("2.10")),
        (Decimal128("Infinity"), 1, Decimal128("Infinity")),
        (Decimal128("9.999999999999999999999999999999999E6144"), Decimal128("9E6144"), Decimal128("Infinity")),
        (1, math.inf, math.inf),
        (Int64(INT64_MAX - 1), 1, Int64(INT64_MAX)),
        (Int64(INT64_MIN + 1), -1, Int64(INT64_MIN)),
    ],
)
def test_types_of_sums(old, delta, expected):
    """A sum has the wider type of the two numbers, an int32 grows to int64, as with `$inc`.

    A double counts with 15 digits where it becomes a Decimal128.
    """
    document = {"n": old}
    assert {"n": expected} == increment({"n": delta})(document)
    assert (expected, type(expected)) == (document["n"], type(document["n"]))


def test_nan():
    """What is not a number stays that."""
    assert math.isnan(increment({"n": 1})({"n": math.nan})["n"])
    assert "NaN" == str(increment({"n": 1})({"n": Decimal128("NaN")})["n"])


@pytest.mark.parametrize(("old", "delta"), [(INT64_MAX, 1), (INT64_MIN, -1), (INT64_MAX, INT64_MAX)])
def test_overflow(old, delta):
    """A sum beyond 64 bits is refused, and not rounded."""
    with pytest.raises(InvalidDocumentError, match="64 bits"):
        increment({"n": delta})({"n": Int64(old)})


@pytest.mark.parametrize(
    ("document", "deltas", "expected"),
    [
        ({}, {"n": 1}, {"n": 1}),
        ({}, {"a.b.c": 1}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "x": 2}}, {"a.b": 1}, {"a": {"b": 2, "x": 2}}),
        ({"a": {"x": 2}}, {"a.b": 1.5}, {"a": {"x": 2, "b": 1.5}}),
        ({"a": [1, 2]}, {"a.1": 3}, {"a": [1, 5]}),
        ({"a": [1, {"b": 2}]}, {"a.1.b": 3, "a.1.c.d": 4}, {"a": [1, {"b": 5, "c": {"d": 4}}]}),
        ({"a": [[1]]}, {"a.0.0": 1}, {"a": [[2]]}),
        ({"0": 1}, {"0": 1}, {"0": 2}),
        ({}, {"a.0": 1}, {"a": {"0": 1}}),
        ({}, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
        ({}, {"n": Decimal128("1.10")}, {"n": Decimal128("1.10")}),
        ({"a": 1}, {"b._id": 1, "b._v": 2}, {"a": 1, "b": {"_id": 1, "_v": 2}}),
    ],
)
def test_paths(document, deltas, expected):
    """Dotted paths lead through objects and arrays, and what is missing counts from 0."""
    increment(deltas)(document)
    assert expected == document


def test_values_by_path():
    """The new values are returned under the paths that were given."""
    assert {"a.b": 2, "c": 5} == increment({"a.b": 1, "c": 5})({"a": {"b": 1}})


@pytest.mark.parametrize(
    ("document", "path"),
    [
        *(({"n": old}, "n") for old in ("1", True, None, [], {}, ObjectId(), datetime(2020, 1, 1, tzinfo=UTC))),
        *(({"n": old}, "n.x") for old in (1, "x", None, True, ObjectId(), b"x", DBRef("c", 1))),
        *(({"n": [1, 2]}, path) for path in ("n.2", "n.x", "n.-1", "n.01", "n.\u0661", "n.+1", "n." + "9" * 5000)),
        ({"n": [1]}, "n"),
        ({"n": [1]}, "n.0.x"),
    ],
)
def test_increments_that_do_not_fit(document, path):
    """A path that leads to no number, or nowhere, is a conflict."""
    with pytest.raises(PatchConflictError):
        increment({path: 1})(document)


@pytest.mark.parametrize(
    "deltas",
    [
        *(None, [], {}, 5, "n", [["n", 1]], DBRef("c", 1)),
        *({"n": delta} for delta in (True, False, None, "1", [], {}, ObjectId(), b"1", DatetimeMS(1))),
        *({"n": delta} for delta in (INT64_MAX + 1, INT64_MIN - 1, 10**400)),
        *({path: 1} for path in ("", ".", "a.", ".a", "a..b", "$inc", "a.$oid", "_id", "_id.x", "_v", "_v.x")),
        {"n": 1, "m": None},
    ],
)
def test_malformed_increments(deltas):
    """What is not numbers by permitted path is refused before there is a document."""
    with pytest.raises(InvalidPatchError):
        increment(deltas)


@MORE
@given(
    small_documents | documents,
    json_values
    | st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map(".".join) | st.text(max_size=4),
        st.integers() | st.floats() | values,
        max_size=3,
    ),
)
def test_only_refusals_of_increments(document, deltas):
    """Whatever is sent as increments gives a number for each path or a refusal, and nothing else."""
    try:
        found = increment(deltas)(document)
    except RequestError:
        return
    assert deltas.keys() == found.keys()
