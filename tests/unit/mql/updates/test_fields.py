"""`$set`, `$unset`, `$inc`, `$min`, `$max` and `$rename`, and the paths of all operators, by mongod's rules."""

from __future__ import annotations

import pytest
from bson import DBRef, Decimal128, Int64

from tests.unit.mql.updates.updating import MOST_BYTES, updated
from writebehind.documents.codec import encode
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.documents.patches import MOST_OPERATIONS
from writebehind.errors import DocumentTooLargeError, InvalidDocumentError, InvalidPatchError, PatchConflictError
from writebehind.mql.updates.update import compile_update

INT64_MAX = (1 << 63) - 1


@pytest.mark.parametrize(
    ("document", "update", "expected"),
    [
        ({}, {"$set": {"a": 1}}, {"a": 1}),
        ({"a": 1, "b": 2}, {"$set": {"a": None}}, {"a": None, "b": 2}),
        ({}, {"$set": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}}),
        ({}, {"$set": {"a.0": 1}}, {"a": {"0": 1}}),
        ({"a": [1, 2]}, {"$set": {"a.1": 3}}, {"a": [1, 3]}),
        ({"a": [1, 2]}, {"$set": {"a.01": 3}}, {"a": [1, 3]}),
        ({"a": [1]}, {"$set": {"a.3": 4}}, {"a": [1, None, None, 4]}),
        ({"a": [1]}, {"$set": {"a.1.b": 4}}, {"a": [1, {"b": 4}]}),
        ({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2, "a.0.c": 3}}, {"a": [{"b": 2, "c": 3}]}),
        ({"a": 1}, {"$set": {}}, {"a": 1}),
        ({"a": 1}, {"$unset": {"a": "", "b": 1, "c.d": 1}}, {}),
        ({"a": [1, 2, 3]}, {"$unset": {"a.1": ""}}, {"a": [1, None, 3]}),
        ({"a": [1], "b": 2}, {"$unset": {"a.x": "", "a.5": "", "b.c": ""}}, {"a": [1], "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": ""}}, {"a": {"c": 2}}),
        ({"a": 1}, {"$inc": {"a": 2, "b": Int64(1), "c.d": 0.5}}, {"a": 3, "b": Int64(1), "c": {"d": 0.5}}),
        ({"a": 1}, {"$inc": {"a": Decimal128("0.10")}}, {"a": Decimal128("1.10")}),
        ({"a": Decimal128("1")}, {"$inc": {"a": 0.1}}, {"a": Decimal128("1.100000000000000")}),
        ({"a": (1 << 31) - 1}, {"$inc": {"a": 1}}, {"a": Int64(1 << 31)}),
        ({"a": 5, "b": 5}, {"$min": {"a": 3, "b": 9, "c": 1}}, {"a": 3, "b": 5, "c": 1}),
        ({"a": 5, "b": 5}, {"$max": {"a": 3, "b": 9, "c": 1}}, {"a": 5, "b": 9, "c": 1}),
        ({"a": 5}, {"$min": {"a": None}}, {"a": None}),
        ({"a": 5}, {"$max": {"a": "x"}}, {"a": "x"}),
        ({"a": 5}, {"$max": {"a": Decimal128("5.0")}}, {"a": 5}),
        ({"a": float("nan")}, {"$max": {"a": float("-inf")}}, {"a": float("-inf")}),
        ({"a": {"x": 1}}, {"$min": {"a": [9]}}, {"a": {"x": 1}}),
        ({"a": 1, "b": 2}, {"$rename": {"a": "c"}}, {"b": 2, "c": 1}),
        ({"a": 1, "b": 2, "c": 3}, {"$rename": {"a": "b"}}, {"b": 1, "c": 3}),
        ({"a": {"x": [1]}}, {"$rename": {"a.x": "b.y.z"}}, {"a": {}, "b": {"y": {"z": [1]}}}),
        ({"a": 1}, {"$rename": {"b": "a", "c.d": "e"}}, {"a": 1}),
        ({"a": 1, "b": [2]}, {"$rename": {"a": "b"}}, {"b": 1}),
    ],
)
def test_updates(document, update, expected):
    """An update changes what it names, in its place; what is new stands at the end."""
    found = updated(document, update)
    assert encode(expected) == encode(found)


def test_new_fields_stand_in_the_order_of_their_names():
    """Whatever the order of an update and of its operators is; numbers by their value."""
    update = {"$set": {"b": 1, "x.10": 1, "x.9": 2, "x.y": 3}, "$inc": {"a": 1, "x.100": 4}, "$push": {"aa": 1}}
    expected = {"z": 0, "a": 1, "aa": [1], "b": 1, "x": {"9": 2, "10": 1, "100": 4, "y": 3}}
    assert encode(expected) == encode(updated({"z": 0}, update))


@pytest.mark.parametrize("operator", ["$set", "$inc", "$min", "$max", "$push", "$addToSet", "$pull"])
@pytest.mark.parametrize(
    ("document", "path"),
    [
        *(({"a": value}, "a.b") for value in (1, "x", None, [1, 2], DBRef("c", 1))),
        *(({"a": [1]}, path) for path in ("a.x", "a.-1", "a.+1", "a.0.b", "a.1x", "a.\u0661")),
    ],
)
def test_paths_that_do_not_fit(operator, document, path):
    """A path through what is neither an object nor an array with that index is a conflict, which names it."""
    with pytest.raises(PatchConflictError, match="a"):
        updated(document, {operator: {path: 1}})


@pytest.mark.parametrize(
    ("document", "update"),
    [
        *(({"a": old}, {"$inc": {"a": 1}}) for old in ("1", None, True, [], {})),
        *(
            ({"a": old}, {name: {"a": 1}})
            for name in ("$push", "$addToSet", "$pull")
            for old in (1, {}, None, "x")
        ),
        ({"a": {}, "b": [1]}, {"$rename": {"b.0": "c"}}),
        ({"a": 1, "b": [1]}, {"$rename": {"a": "b.0"}}),
        ({"a": 1, "b": [1]}, {"$rename": {"a": "b.3"}}),
        ({"a": 1}, {"$rename": {"a.b": "c"}}),
        ({"a": 1, "b": 1}, {"$rename": {"a": "b.c"}}),
    ],
)
def test_values_that_do_not_fit(document, update):
    """An operator on a value of another type is a conflict."""
    with pytest.raises(PatchConflictError):
        updated(document, update)


@pytest.mark.parametrize(
    "update",
    [
        *(None, [], {}, 1, "x", {"a": 1}, {"$set": {"a": 1}, "b": 1}, {"$setOnInsert": {"a": 1}}, {"$set": 1}),
        *({"$set": {path: 1}} for path in ("", ".", "a.", ".a", "a..b", "$a", "a.$", "a.$[].b", "a.$[x]")),
        *({"$inc": {"a": delta}} for delta in ("1", True, None, [], {})),
        *({"$rename": {"a": new}} for new in ("a", "a.b", 1, None, "", "b.", "$b", "b.$")),
        {"$rename": {"a.b": "a"}},
        {"$set": {"a": 1}, "$inc": {"a": 1}},
        {"$set": {"a": 1}, "$unset": {"a.b": 1}},
        {"$set": {"a.b": 1, "a": {}}},
        {"$set": {"a": 1}, "$rename": {"a": "b"}},
        {"$set": {"b.c": 1}, "$rename": {"a": "b"}},
        {"$rename": {"a": "c", "b": "c"}},
        {"$set": {f"a{n}": 1 for n in range(MOST_OPERATIONS + 1)}},
    ],
)
def test_malformed_updates(update):
    """What is no update, or changes something twice, is refused before there is a document."""
    with pytest.raises(InvalidPatchError):
        compile_update(update, most_bytes=MOST_BYTES)


def test_paths_beside_each_other():
    """What begins alike and is no part of the other is no conflict."""
    assert {"a": {"b": 1, "bc": 2}, "a-b": 3} == updated({}, {"$set": {"a.b": 1, "a-b": 3}, "$inc": {"a.bc": 2}})


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"_id": 2}},
        {"$unset": {"_id": ""}},
        {"$inc": {"_id": 1}},
        {"$rename": {"_id": "a"}},
        {"$rename": {"a": "_id"}},
        {"$max": {"_id": 5}},
    ],
)
def test_the_id_cannot_be_changed(update):
    """Whatever changes the `_id` or takes it away is refused; what leaves it alone is not."""
    with pytest.raises(InvalidDocumentError, match="_id"):
        updated({"_id": 1, "a": 7}, update)
    assert {"_id": 1, "a": 7} == updated({"_id": 1, "a": 7}, {"$set": {"_id": 1}, "$min": {"a": 9}})
    with pytest.raises(InvalidDocumentError, match="_id"):
        updated({"_id": {"x": 1}}, {"$set": {"_id.x": 2}})


def test_sums_beyond_64_bits():
    """A sum that BSON cannot hold is refused."""
    with pytest.raises(InvalidDocumentError, match="a would not fit 64 bits"):
        updated({"a": Int64(INT64_MAX)}, {"$inc": {"a": 1}})


def test_levels():
    """A path has as many levels as a document at most."""
    path = ".".join("a" * MAX_DEPTH)
    assert encode(updated({}, {"$set": {path: 1}}))
    with pytest.raises(InvalidDocumentError, match="levels"):
        updated({}, {"$set": {path + ".a": 1}})


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {f"a.{MOST_BYTES // 3 + 2}": 1}},
        {"$set": {"a.9999999999": 1}},
        {"$set": {f"a.{MOST_BYTES // 5}": 1, f"b.{MOST_BYTES // 5}": 1}},
    ],
)
def test_nulls_take_no_more_than_a_document_may(update):
    """An index far beyond the end of an array is refused before the nulls are made."""
    with pytest.raises(DocumentTooLargeError, match=r"(a|b)\.[0-9]+ is too far"):
        updated({"a": [], "b": []}, update)
    assert [None] * 9 + [1] == updated({"a": []}, {"$set": {"a.9": 1}})["a"]


def test_an_update_can_be_made_again():
    """A change that others came before is made to the next state as to the first."""
    change = compile_update({"$push": {"a": {"x": 1}}, "$set": {"b": [1]}}, most_bytes=MOST_BYTES)
    assert [{"a": [{"x": 1}], "b": [1]}] * 2 == [change({}) for _ in range(2)]
    assert {"a": [0, {"x": 1}], "b": [1]} == change({"a": [0], "b": 2})
