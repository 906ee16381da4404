"""`$push`, `$addToSet` and `$pull`, by mongod's rules."""

from __future__ import annotations

import pytest
from bson import Decimal128, Int64, ObjectId, Regex

from tests.unit.mql.updates.updating import updated
from writebehind.documents.codec import encode
from writebehind.errors import InvalidPatchError

ONE, OTHER = {"x": 1, "y": "b"}, {"x": 2, "y": "a"}


@pytest.mark.parametrize(
    ("array", "operand", "expected"),
    [
        ([1], 2, [1, 2]),
        ([1], [2, 3], [1, [2, 3]]),
        ([1], {"x": 2}, [1, {"x": 2}]),
        ([1], {"$each": [2, 3]}, [1, 2, 3]),
        ([1], {"$each": []}, [1]),
        ([1, 2], {"$each": [8, 9], "$position": 0}, [8, 9, 1, 2]),
        ([1, 2], {"$each": [8, 9], "$position": 1}, [1, 8, 9, 2]),
        ([1, 2], {"$each": [8, 9], "$position": 7}, [1, 2, 8, 9]),
        ([1, 2], {"$each": [8, 9], "$position": -1}, [1, 8, 9, 2]),
        ([1, 2], {"$each": [8, 9], "$position": -2}, [8, 9, 1, 2]),
        ([1, 2], {"$each": [8, 9], "$position": -7}, [8, 9, 1, 2]),
        ([1, 2], {"$each": [8, 9], "$position": 1.0}, [1, 8, 9, 2]),
        ([1, 2], {"$each": [8], "$slice": 2}, [1, 2]),
        ([1, 2], {"$each": [8], "$slice": -2}, [2, 8]),
        ([1, 2], {"$each": [8], "$slice": 0}, []),
        ([1, 2], {"$each": [8], "$slice": Int64(1 << 40)}, [1, 2, 8]),
        ([1, 2], {"$each": [], "$slice": Decimal128("1")}, [1]),
        ([3, "x", None], {"$each": [1.5, Int64(2)], "$sort": 1}, [None, 1.5, Int64(2), 3, "x"]),
        ([3, 1], {"$each": [2], "$sort": -1, "$slice": 2}, [3, 2]),
        ([OTHER], {"$each": [ONE], "$sort": {"x": 1}}, [ONE, OTHER]),
        ([ONE], {"$each": [OTHER], "$sort": {"y": 1}}, [OTHER, ONE]),
        (
            [ONE, OTHER],
            {"$each": [{"x": 2, "y": "b"}], "$sort": {"x": -1, "y": -1}},
            [{"x": 2, "y": "b"}, OTHER, ONE],
        ),
        ([ONE, 7, {}, [1]], {"$each": ["x"], "$sort": {"x": 1}}, [7, {}, [1], "x", ONE]),
        ([{"a": {"b": 2}}], {"$each": [{"a": {"b": 1}}], "$sort": {"a.b": 1}}, [{"a": {"b": 1}}, {"a": {"b": 2}}]),
        ([{"a": [2]}], {"$each": [{"a": [1]}, {"a": 5}], "$sort": {"a.0": 1}}, [{"a": 5}, {"a": [1]}, {"a": [2]}]),
        ([3, 1], {"$each": [2], "$position": 0, "$sort": 1, "$slice": -2}, [2, 3]),
    ],
)
def test_push(array, operand, expected):
    """Elements are added at a position; then the array is sorted, and cut; it is made where there is none."""
    assert encode({"a": expected}) == encode(updated({"a": array}, {"$push": {"a": operand}}))
    assert encode({"b": expected}) == encode(
        updated(updated({}, {"$push": {"b": {"$each": array}}}), {"$push": {"b": operand}})
    )


@pytest.mark.parametrize(
    ("array", "operand", "expected"),
    [
        ([1], 2, [1, 2]),
        ([1], 1.0, [1]),
        ([1], Decimal128("1.00"), [1]),
        ([1], True, [1, True]),
        ([None], None, [None]),
        ([{"x": 1, "y": 2}], {"x": Int64(1), "y": 2}, [{"x": 1, "y": 2}]),
        ([{"x": 1, "y": 2}], {"y": 2, "x": 1}, [{"x": 1, "y": 2}, {"y": 2, "x": 1}]),
        ([[1]], [1], [[1]]),
        ([1], [1], [1, [1]]),
        ([1, 1], 2, [1, 1, 2]),
        ([1], {"$each": [3, 1, 2, 3.0, 2]}, [1, 3, 2]),
        ([1], {"$each": []}, [1]),
    ],
)
def test_add_to_set(array, operand, expected):
    """An element is added that equals none, in MongoDB's sense; elements that are there twice stay so."""
    assert encode({"a": expected}) == encode(updated({"a": array}, {"$addToSet": {"a": operand}}))


def test_a_new_set():
    """Where there is no array, the first of equal elements is taken."""
    assert {"a": [3, 1]} == updated({}, {"$addToSet": {"a": {"$each": [3, 1, 3.0]}}})
    assert {"a": []} == updated({}, {"$addToSet": {"a": {"$each": []}}})


OID = ObjectId("5f43a1b2c3d4e5f601234567")


@pytest.mark.parametrize(
    ("array", "condition", "expected"),
    [
        ([1, 2, 1.0, "1"], 1, [2, "1"]),
        ([None, 0, {}], None, [0, {}]),
        ([[1], 1, [1, 2]], [1], [1, [1, 2]]),
        ([1, 5, "x", None], {"$gte": 3}, [1, "x", None]),
        ([1, 5, 9], {"$gt": 1, "$lt": 9}, [1, 9]),
        ([1, 5, 9], {"$in": [1, 9.0]}, [5]),
        ([[1, 9], [1], 9], {"$gt": 5}, [[1]]),
        ([{"x": 1, "y": 2}, {"x": 2}, 1], {"x": 1}, [{"x": 2}, 1]),
        ([{"x": 1, "y": 2}, {"x": 1}], {"x": 1, "y": 2}, [{"x": 1}]),
        ([{"x": 1}, {"x": 5}, 5], {"x": {"$gte": 3}}, [{"x": 1}, 5]),
        ([{"x": {"y": 1}}, {"x": [{"y": 1}]}, {"x": 1}], {"x.y": 1}, [{"x": 1}]),
        ([{"x": 1}, {"y": 1}, 3], {"$or": [{"x": 1}, {"y": 1}]}, [3]),
        ([{"x": 1}, {}, 3], {}, [3]),
        ([OID, "x"], OID, ["x"]),
        ([{"x": 1}, 1], {"$eq": {"x": 1}}, [1]),
        ([], 1, []),
    ],
)
def test_pull(array, condition, expected):
    """Elements go that equal a value, satisfy operators, or are documents that satisfy a filter."""
    assert encode({"a": expected}) == encode(updated({"a": array}, {"$pull": {"a": condition}}))


def test_pull_where_nothing_is():
    """A path to nothing is passed over, and made nowhere."""
    assert {"a": {}, "b": [1]} == updated({"a": {}, "b": [1]}, {"$pull": {"a.x": 1, "b.4": 1, "c": 1}})


@pytest.mark.parametrize(
    "update",
    [
        *({"$push": {"a": {"$each": each}}} for each in (1, None, {}, "x")),
        *(
            {"$push": {"a": {"$each": [], "$slice": most}}}
            for most in (1.5, "1", None, True, float("nan"), float("inf"))
        ),
        *({"$push": {"a": {"$each": [], "$position": at}}} for at in (0.5, "1", [], Decimal128("NaN"))),
        *(
            {"$push": {"a": {"$each": [], "$sort": sort}}}
            for sort in (0, 2, "x", {}, {"x": 2}, {"": 1}, {"x.": 1}, True)
        ),
        *({"$push": {"a": {name: 1}}} for name in ("$slice", "$sort", "$position")),
        {"$push": {"a": {"$each": [1], "$other": 1}}},
        {"$addToSet": {"a": {"$each": 1}}},
        {"$addToSet": {"a": {"$each": [1], "$slice": 1}}},
        *({"$pull": {"a": {name: 1}}} for name in ("$elemMatch", "$size", "$type", "$regex", "$not", "$where")),
        {"$pull": {"a": {"$in": 1}}},
        {"$pull": {"a": {"$gt": 1, "x": 2}}},
        {"$pull": {"a": {"x": {"$size": 1}}}},
        {"$pull": {"a": Regex("x")}},
    ],
)
def test_malformed_operands(update):
    """What an operator does not take, or is not offered, is refused, with the path."""
    with pytest.raises(InvalidPatchError, match="a"):
        updated({"a": [1]}, update)
