"""JSON Patches of RFC 6902, on native BSON values, and refusals for everything else."""

from __future__ import annotations

from copy import deepcopy

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, ObjectId, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import documents, values
from tests.unit.documents.patching import MORE, MOST_BYTES, TYPED, json_values, names, patched, small_documents
from writebehind.documents.codec import encode
from writebehind.documents.deprecated_types import Symbol
from writebehind.documents.patches import MOST_OPERATIONS, json_patch, merge_patch
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError, RequestError

pointers = st.lists(names, max_size=3).map(lambda parts: "".join("/" + part for part in parts))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": pointers},
    optional={"value": json_values | values, "from": pointers},
)
wrong_operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "append", ""]) | json_values,
        "path": pointers | st.sampled_from(["a", "/~", "/~2"]) | json_values,
        "from": pointers | json_values,
        "value": json_values,
    },
)


def typed() -> dict:
    return deepcopy({**TYPED, "nested": TYPED, "list": [*TYPED.values()]})


@pytest.mark.parametrize(
    ("document", "ops", "expected"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
        ),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        (
            {"baz": "qux", "foo": "bar"},
            [{"op": "replace", "path": "/baz", "value": "boo"}],
            {"baz": "boo", "foo": "bar"},
        ),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        (
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
            {"baz": "qux", "foo": ["a", 2, "c"]},
        ),
        (
            {"foo": "bar"},
            [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
            {"foo": "bar", "child": {"grandchild": {}}},
        ),
        (
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
            {"foo": "bar", "baz": "qux"},
        ),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        (
            {"foo": ["bar"]},
            [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
            {"foo": ["bar", ["abc", "def"]]},
        ),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [], {"a": 1}),
    ],
)
def test_json_patch_of_the_rfc(document, ops, expected):
    """The examples of RFC 6902, appendix A, that can be applied; and copy, and replacing the whole."""
    assert expected == patched(document, *ops)


@pytest.mark.parametrize(
    ("document", "op"),
    [
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}),
        ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": "10"}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}),
        ({"a": 1}, {"op": "test", "path": "/b", "value": None}),
        ({"a": 1}, {"op": "remove", "path": "/b"}),
        ({"a": 1}, {"op": "remove", "path": ""}),
        ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}),
        ({"a": 1}, {"op": "replace", "path": "", "value": [1]}),
        ({"a": 1}, {"op": "add", "path": "/a/b", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/01", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/" + "9" * 5000, "value": 1}),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"}),
        ({"a": 1}, {"op": "move", "from": "/b", "path": "/c"}),
        ({"a": 1}, {"op": "copy", "from": "/b", "path": "/c"}),
        ({"a": b"xy"}, {"op": "replace", "path": "/a/0", "value": 1}),
        ({"a": "xy"}, {"op": "replace", "path": "/a/0", "value": 1}),
        ({"a": ObjectId()}, {"op": "add", "path": "/a/oid", "value": "x"}),
    ],
)
def test_json_patch_that_does_not_fit(document, op):
    """An operation that does not fit the document is a conflict, a failed test too."""
    with pytest.raises(PatchConflictError):
        patched(document, op)


@pytest.mark.parametrize(
    "ops",
    [
        *(None, 5, "x", {}, {"op": "add", "path": "/a", "value": 1}, DBRef("c", 1)),
        *([op] for op in (None, 5, "x", [], {}, {"op": "add"}, {"path": "/a"})),
        *([{"op": op, "path": "/a", "value": 1}] for op in ("append", "", None, 5, [], {}, "ADD")),
        *([{"op": "add", "path": path, "value": 1}] for path in ("a", None, 5, [], {}, "/~", "/~2")),
        [{"op": "test", "path": "/a", "value": 1}] * (MOST_OPERATIONS + 1),
    ],
)
def test_malformed_json_patch(ops):
    """What is no JSON Patch is refused before there is a document."""
    with pytest.raises(InvalidPatchError):
        json_patch(ops, most_bytes=MOST_BYTES)


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "/b"},
        {"op": "replace", "path": "/a"},
        {"op": "test", "path": "/a"},
        {"op": "move", "path": "/b"},
        {"op": "copy", "path": "/b"},
        {"op": "copy", "path": "/b", "from": 5},
    ],
)
def test_json_patch_that_lacks_a_member(op):
    """An operation without the member that it needs is malformed, not a conflict."""
    with pytest.raises(InvalidPatchError):
        patched({"a": 1}, op)


@pytest.mark.parametrize("op", ["add", "copy", "move"])
@pytest.mark.parametrize("path", ["/$set", "/a/$oid", "/a/b/$"])
def test_json_patch_makes_no_reserved_names(op, path):
    """No operation makes a field whose name begins with `$`: as JSON it would not be a document any more."""
    with pytest.raises(InvalidDocumentError):
        json_patch([{"op": op, "path": path, "from": "/a", "value": 1}], most_bytes=MOST_BYTES)


#: Values that are no objects or arrays, with a place that Python would find in each.
NO_CONTAINERS = {
    "string": ("abc", "0"),
    "bytes": (b"abc", "0"),
    "binary": (Binary(b"abc", 5), "0"),
    "uuid": (Binary(bytes(16), 4), "0"),
    "date": (TYPED["date"], "year"),
    "object id": (TYPED["oid"], "binary"),
    "decimal": (TYPED["decimal"], "bid"),
    "regular expression": (TYPED["regex"], "pattern"),
    "code": (TYPED["code"], "0"),
    "scope of code": (TYPED["code"], "y"),
    "dbref": (TYPED["ref"], "extra"),
    "id of a dbref": (TYPED["ref"], "$id"),
    "symbol": (Symbol("abc"), "text"),
    "timestamp": (Timestamp(1, 2), "time"),
    "null": (None, "0"),
    "int": (5, "real"),
}


@pytest.mark.parametrize(("value", "place"), NO_CONTAINERS.values(), ids=NO_CONTAINERS)
@pytest.mark.parametrize("end", ["", "/0", "/-"])
def test_pointers_into_values_that_are_no_containers(value, place, end):
    """Only objects and arrays have places: a pointer into any other value leads nowhere, for every operation."""
    path = f"/a/{place}{end}"
    for op in (
        *({"op": op, "path": path, "value": "a"} for op in ("add", "replace", "test")),
        {"op": "test", "path": path, "value": 97},
        {"op": "remove", "path": path},
        {"op": "copy", "from": path, "path": "/b"},
        {"op": "move", "from": path, "path": "/b"},
        {"op": "copy", "from": "/c", "path": path},
        {"op": "move", "from": "/c", "path": path},
    ):
        document = {"a": value, "c": 1}
        with pytest.raises((PatchConflictError, InvalidDocumentError)):
            patched(document, op)
        assert {"a": value, "c": 1} == document


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, True, False),
        (0, False, False),
        ([1], [True], False),
        ({"a": [{"b": 0}]}, {"a": [{"b": False}]}, False),
        (True, True, True),
        (1, 1.0, True),
        (Int64(1), 1, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True),
        ([1, 2], [2, 1], False),
        ("1", 1, False),
        (None, False, False),
        (float("nan"), float("nan"), True),
        ([], {}, False),
        (Symbol("a"), "a", False),
        (Symbol("a"), Symbol("a"), True),
        (Binary(b"a", 5), b"a", False),
        (Code("a"), "a", False),
        (Decimal128("1.0"), Decimal128("1"), True),
        (Decimal128("10E-1"), 1, True),
        (Decimal128("1"), 1.0, True),
        (Decimal128("0.1"), 0.1, False),
        (Decimal128("-0"), 0, True),
        (Decimal128("NaN"), float("nan"), True),
        (Decimal128("sNaN"), Decimal128("NaN"), True),
        (Decimal128("Infinity"), float("inf"), True),
        (Decimal128("1"), True, False),
        (Decimal128("1"), "1", False),
        (9007199254740993, 9007199254740992.0, False),
        (DBRef("c", 1), DBRef("c", 1.0), True),
        (DBRef("c", 1), DBRef("c", True), False),
        (Code("a", {"b": 1}), Code("a", {"b": 1.0}), True),
        (Code("a", {"b": 1}), Code("a", {"b": True}), False),
        (Code("a", {}), Code("a"), False),
    ],
)
def test_what_a_test_takes_for_equal(one, other, equal):
    """Equal are values of one type; numbers are one type, and a boolean is no number, however deep it stands."""
    for ours, theirs in ((one, other), (other, one)):
        ops = [{"op": "test", "path": "/a", "value": theirs}]
        if equal:
            assert {"a": ours} == patched({"a": ours}, *ops) or ours != ours  # noqa: PLR0124 - not a number
        else:
            with pytest.raises(PatchConflictError):
                patched({"a": ours}, *ops)


def test_json_patch_keeps_types_of_neighbours():
    """What a patch does not name keeps its BSON type, byte for byte."""
    expected = encode(typed() | {"a": 1})
    assert expected == encode(patched(typed(), {"op": "add", "path": "/a", "value": 1}))
    assert expected == encode(merge_patch({"a": 1})(typed()))


def test_changes_beside_typed_values():
    """Changes next to typed values, in the same object and array, leave them as they were."""
    deeper = patched(
        typed(),
        {"op": "add", "path": "/nested/a", "value": 1},
        {"op": "add", "path": "/list/0", "value": 1},
        {"op": "remove", "path": "/nested/oid"},
    )
    nested = {name: value for name, value in TYPED.items() if name != "oid"}
    assert encode({**TYPED, "nested": nested | {"a": 1}, "list": [1, *TYPED.values()]}) == encode(deeper)


@pytest.mark.parametrize("name", TYPED)
def test_typed_values_are_one_value(name):
    """A typed value is moved, copied and compared as one value."""
    ops = [
        {"op": "test", "path": "/nested/" + name, "value": TYPED[name]},
        {"op": "copy", "from": "/nested/" + name, "path": "/copy"},
        {"op": "move", "from": "/copy", "path": "/moved"},
    ]
    assert encode(typed() | {"moved": TYPED[name]}) == encode(patched(typed(), *ops))


@MORE
@given(small_documents, st.lists(operations, max_size=5))
def test_json_patch_applies_twice(document, ops):
    """A JSON Patch is the same after it was applied, and applied to the same document gives the same again."""
    before = repr(ops)
    try:
        change = json_patch(ops, most_bytes=MOST_BYTES)
        first = repr(change(deepcopy(document)))
    except RequestError:
        assert before == repr(ops)
        return
    assert first == repr(change(deepcopy(document)))
    assert before == repr(ops)


def test_json_patch_that_changes_what_it_added():
    """An operation on a value that an earlier one added does not change the patch."""
    change = json_patch(
        [{"op": "add", "path": "/a", "value": []}, {"op": "add", "path": "/a/-", "value": 1}],
        most_bytes=MOST_BYTES,
    )
    assert [{"a": [1]}, {"a": [1]}] == [change({}), change({})]


@MORE
@given(
    small_documents | documents, json_values | st.lists(wrong_operations | operations | json_values, max_size=4)
)
def test_only_refusals_of_json_patches(document, ops):
    """Whatever is sent as a JSON Patch gives a document or a refusal, and nothing else."""
    try:
        assert isinstance(json_patch(ops, most_bytes=MOST_BYTES)(document), dict)
    except RequestError:
        return
