"""Changes: RFC 7396, RFC 6902 and MongoDB's `$inc`, on native BSON values, and refusals for everything else."""

from __future__ import annotations

import math
from copy import deepcopy
from datetime import UTC, datetime
from functools import reduce

import pytest
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, ObjectId, Regex, Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bson_strategies import documents, of_all_sizes, values
from writebehind.documents.codec import MAX_DEPTH, encode
from writebehind.documents.deprecated_types import Symbol
from writebehind.documents.patches import MOST_OPERATIONS, increment, json_patch, merge_patch
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError, RequestError

MORE = settings(max_examples=200)
MOST_BYTES = 100_000
INT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 63) - 1
INT32_MIN, INT64_MIN = -(1 << 31), -(1 << 63)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
names = st.sampled_from(["a", "b", "0", "1", "-", "01", "", "x~1y", "m~0n", "$oid", "_id", "\u0661", "9" * 5000])
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
#: Documents in which the pointers above find something.
small_documents = st.dictionaries(
    st.sampled_from(["a", "b", "0", "", "x/y", "m~n"]),
    st.recursive(
        values,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)

small_documents = of_all_sizes(small_documents)

#: One value of each BSON type that JSON does not have.
TYPED = {
    "int64": Int64(1),
    "oid": ObjectId("5f43a1b2c3d4e5f601234567"),
    "decimal": Decimal128("1.10"),
    "date": datetime(2020, 1, 2, tzinfo=UTC),
    "far": DatetimeMS(1 << 60),
    "binary": Binary(b"\0\1", 5),
    "bytes": b"\0\1",
    "regex": Regex("a", "i"),
    "code": Code("x", {"y": Int64(1)}),
    "ref": DBRef("c", ObjectId("5f43a1b2c3d4e5f601234567"), extra={"n": Int64(2)}),
}


def typed() -> dict:
    return deepcopy({**TYPED, "nested": TYPED, "list": [*TYPED.values()]})


def patched(document: dict, *ops: dict) -> dict:
    return json_patch(list(ops), most_bytes=MOST_BYTES)(document)


# Merge patch: RFC 7396 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_of_the_rfc(document, patch, expected):
    """The examples of RFC 7396, appendix A, whose patch is an object."""
    assert expected == merge_patch(patch)(document)


@pytest.mark.parametrize("patch", [["c"], None, "bar", 5, True, [], DBRef("c", 1), ObjectId()])
def test_merge_patch_that_is_no_object(patch):
    """A patch that would replace the document by something else is refused; so are the RFC's examples of it."""
    with pytest.raises(InvalidPatchError):
        merge_patch(patch)


def test_merge_patch_of_the_rfc_text():
    """The example of RFC 7396, section 3."""
    document = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }
    assert {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    } == merge_patch(patch)(document)


@pytest.mark.parametrize("name", TYPED)
def test_merge_patch_replaces_typed_values_whole(name):
    """A value that is an object only in JSON is replaced, not merged into."""
    assert {name: {"$": 1}} == merge_patch({name: {"$": 1}})({name: deepcopy(TYPED[name])})


@MORE
@given(small_documents, st.dictionaries(st.sampled_from(["a", "b", "0"]), json_values | values, max_size=4))
def test_merge_patch_applies_twice(document, patch):
    """A merge patch is the same after it was applied, and applying it again changes nothing more."""
    before, change = deepcopy(patch), merge_patch(patch)
    once = change(deepcopy(document))
    first = encode_or_none(once)
    assert repr(before) == repr(patch)
    assert repr(once) == repr(change(deepcopy(document)))
    assert first == encode_or_none(change(once))


def encode_or_none(document: dict) -> bytes | None:
    """BSON, which unlike Python tells 1 from 1.0 and finds NaN equal to itself."""
    try:
        return encode(document)
    except InvalidDocumentError:
        return None


def test_merge_patch_lends_nothing():
    """What is done to a patched document does not reach the patch."""
    change = merge_patch({"a": {"b": [[]]}})
    change({})["a"]["b"][0].append(1)
    assert {"a": {"b": [[]]}} == change({})


# JSON Patch: RFC 6902 -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "value",
    [
        ["x"] * 100,
        "x" * 1000,
        b"x" * 1000,
        Regex("x" * 1000),
        Code("x", {"y": "x" * 1000}),
        DBRef("c", 1, extra={"x": ["x"] * 100}),
        {"a": {"b": ["x"] * 100}},
    ],
)
def test_copy_bomb(value):
    """Copies of a large value of any type are refused before they fill the memory."""
    ops = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(200)]
    with pytest.raises(InvalidPatchError, match="too large"):
        patched({"a": value}, *ops)


def test_doubling_copies():
    """Copies that each double the document are refused early."""
    ops = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]
    with pytest.raises(InvalidPatchError, match="too large"):
        patched({"a": 1}, *ops)


def test_copies_within_the_limit():
    """As many copies as the limit allows are made."""
    ops = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(100)]
    assert 101 == len(patched({"a": "x" * 900}, *ops))


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


@pytest.mark.parametrize("name", ["path", "from"])
@pytest.mark.parametrize("parts", [MAX_DEPTH + 1, 490_000])
def test_pointers_have_no_more_parts_than_documents_have_levels(name, parts):
    """A long pointer is refused by its length, before it is taken apart."""
    op = {"op": "copy", "path": "/a", "from": "/a"} | {name: "/a" * parts}
    with pytest.raises(InvalidDocumentError, match="100 levels"):
        json_patch([op], most_bytes=MOST_BYTES)


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


def deep(levels: int, leaf: object) -> object:
    for _ in range(levels):
        leaf = {"n": leaf}
    return leaf


@pytest.mark.parametrize(
    "last",
    [
        {"op": "copy", "from": "/a", "path": "/c"},
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a/x", "value": 1},
        {"op": "remove", "path": "/x"},
    ],
)
def test_json_patch_that_digs(last):
    """Operations that build more levels than Python can recurse into are refused as any other."""
    down = "/b" + "/n" * 90 + "/x"
    dig = [
        {"op": "add", "path": "/b", "value": deep(90, {})},
        {"op": "move", "from": "/a", "path": down},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    with pytest.raises(RequestError):
        patched({"a": 1}, *dig * 30, last)


def test_short_messages():
    """A message does not repeat a large document."""
    with pytest.raises(PatchConflictError) as caught:
        patched({"a": "x" * 10_000}, {"op": "test", "path": "/a", "value": "y"})
    assert len(str(caught.value)) < 300


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


@MORE
@given(small_documents | documents, json_values | values)
def test_only_refusals_of_merge_patches(document, patch):
    """Whatever is sent as a merge patch gives a document or a refusal, and nothing else."""
    try:
        assert isinstance(merge_patch(patch)(document), dict)
    except RequestError:
        return


# Increments ---------------------------------------------------------------------------------------------


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
        (1.5, Decimal128("2"), Decimal128("3.5")),
        (Decimal128("1.10"), 1, Decimal128("2.10")),
        (Decimal128("Infinity"), 1, Decimal128("Infinity")),
        (Decimal128("9.999999999999999999999999999999999E6144"), Decimal128("9E6144"), Decimal128("Infinity")),
        (1, math.inf, math.inf),
        (Int64(INT64_MAX - 1), 1, Int64(INT64_MAX)),
        (Int64(INT64_MIN + 1), -1, Int64(INT64_MIN)),
    ],
)
def test_types_of_sums(old, delta, expected):
    """A sum has the wider type of the two numbers, an int32 grows to int64, as with `$inc`."""
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


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"k\0": 1, "l": []}, id="NUL in a name"),
        pytest.param({"k": 1 << 70, "l": []}, id="a number beyond 64 bits"),
        pytest.param({"l": [], "deep": reduce(lambda inner, _: [inner], range(MAX_DEPTH), 0)}, id="too deep"),
    ],
)
def test_what_no_document_can_have_is_not_copied(value):
    """A copy doubles a document: one of what has no size, as it cannot be stored, is refused before it is made."""
    copies = [{"op": "copy", "from": "/x", "path": "/x/l/0"}] * 30
    document = {}
    with pytest.raises(InvalidDocumentError):
        json_patch([{"op": "add", "path": "/x", "value": value}, *copies], most_bytes=1 << 20)(document)

    assert {"x": value} == document
