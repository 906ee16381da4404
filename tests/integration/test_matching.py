"""Filters, sorts and projections mean what a server means by them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex
from hypothesis import given, settings
from hypothesis import strategies as st

from writebehind.matching import compile_filter, compile_sort, project
from writebehind.query_settings import native
from writebehind.wrappers import DECODING

OID = ObjectId("64b7f0c2a1d3e4f5a6b7c8d9")
DATE = datetime(2026, 1, 2, tzinfo=UTC)
VALUES = [
    None,
    *(0, 1, 2, Int64(1), -1, 1.0, 1.5, Decimal128("2"), float("inf")),
    *("", "a", "b", "ab"),
    *(True, False, OID, DATE, b"x"),
    *([], [1], [1, 2], ["a", None], [[1]], [{"c": 1}], [{"c": 1}, {"c": [2, 3]}], [1, {"c": 2}]),
    *({}, {"c": 1}, {"c": None}, {"c": [1, "a"]}, {"d": 1}, {"c": {"d": 1}}, {"c": 1, "d": 2}),
]
DOCUMENTS = [
    {},
    *({"a": value} for value in VALUES),
    *({"a": VALUES[n % len(VALUES)], "b": VALUES[n * 7 % len(VALUES)]} for n in range(60)),
]
PATHS = st.sampled_from(["a", "b", "a.c", "a.0", "a.c.d", "b.c"])
operands = st.sampled_from(VALUES)
conditions = st.one_of(
    operands.filter(lambda one: type(one) is not dict),
    *(
        st.builds(lambda one, name=name: {name: one}, operands)
        for name in ("$eq", "$gt", "$gte", "$lt", "$lte", "$ne")
    ),
    *(st.builds(lambda some, name=name: {name: some}, st.lists(operands, max_size=3)) for name in ("$in", "$nin")),
    st.builds(lambda one: {"$not": {"$gt": one}}, operands),
    st.builds(lambda low, high: {"$gte": low, "$lt": high}, operands, operands),
    st.builds(lambda one: {"$exists": one}, st.booleans()),
)
simple = st.dictionaries(PATHS, conditions, max_size=2)
#: MongoDB goes through an array and finds nothing in one that is empty; the embedded server finds `null` there.
UNALIKE = re.compile(r"'[ab]\.0': .*(None|'\$exists')")
filters = st.one_of(
    simple,
    *(
        st.builds(lambda some, name=name: {name: some}, st.lists(simple, min_size=1, max_size=2))
        for name in ("$and", "$or", "$nor")
    ),
).filter(lambda one: not UNALIKE.search(repr(one)))
projections = st.one_of(
    *(
        st.dictionaries(st.sampled_from(["a", "b.c", "a.c"]), st.just(one), min_size=1).filter(
            lambda some: not {"a", "a.c"} <= some.keys()
        )
        for one in (0, 1)
    ),
    st.sampled_from([{"_id": 0}, {"_id": 1}, {"_id": 0, "a": 1}, {"_id": 1, "a": 1}, {"_id": 0, "b": 0}]),
)
directions = st.sampled_from([1, -1])


@pytest.fixture(scope="module")
def collection(mongo_client):
    found = mongo_client["matching"].get_collection("documents", codec_options=DECODING)
    found.drop()
    found.insert_many([{"_id": n} | one for n, one in enumerate(DOCUMENTS)])
    return found


@pytest.fixture(scope="module")
def documents(collection) -> list[dict]:
    return list(collection.find().sort("_id", 1))


@settings(max_examples=600)
@given(filter_=filters)
def test_filters(collection, documents, filter_):
    """A filter finds the same documents."""
    matches = compile_filter(filter_)
    found = {one["_id"] for one in collection.find(filter_)}
    assert found == {one["_id"] for one in documents if matches(one)}


@settings(max_examples=60)
@given(
    sort=st.dictionaries(PATHS.filter(lambda path: path in {"a", "b", "a.c"}), directions, min_size=1, max_size=1)
)
def test_sorts(collection, sort):
    """What the server has sorted is in order here too."""
    place = compile_sort(sort)
    ordered = list(collection.find().sort(list(sort.items())))
    for one, other in pairwise(ordered):
        assert place(one) <= place(other), (one, other)


@settings(max_examples=100)
@given(projection=projections)
def test_projections(collection, documents, projection):
    """A projection leaves the same parts."""
    assert list(collection.find({}, projection).sort("_id", 1)) == [project(one, projection) for one in documents]


def test_null_within_arrays():
    """An empty array has no first element that could be null, nor a missing one."""
    assert not compile_filter({"a.0": None})({"a": []})
    assert compile_filter({"a.0": None})({"a": [None]})
    assert compile_filter({"a.b": None})({"a": [{}]})


def test_values_that_are_equal():
    """Numbers are compared by value, NaN is equal to itself, and a UUID is no text."""
    nan = {"a": float("nan")}
    assert compile_filter({"a": float("nan")})(nan)
    assert not compile_filter({"a": {"$gte": 0}})(nan)
    assert compile_filter({"a": Decimal128("1.10")})({"a": Decimal128("1.1")})
    assert not compile_filter({"a": 1})({"a": "1"})
    assert not compile_filter({"a": 1})({"a": True})


@pytest.mark.parametrize(
    "filter_",
    [
        {"$where": "1"},
        {"$expr": {}},
        {"a": {"$regex": "x"}},
        {"a": Regex("x")},
        {"a": {"$in": [Regex("x")]}},
        {"a": {"$in": 1}},
        {"a": {"$exists": 1}},
        {"a": {"$not": 1}},
        {"a": {"$not": {"b": 1}}},
        {"a": {"$not": {}}},
        {"a": {"$gt": 1, "b": 1}},
        {"$and": []},
        {"$or": [1]},
        {"$and": {"a": 1}},
        {"$or": [{"a": {"$size": 1}}]},
    ],
)
def test_what_cannot_be_told_here(filter_):
    """Other operators are refused, and so are those that MongoDB would refuse."""
    with pytest.raises(ValueError, match=r"\$|regular expression"):
        compile_filter(filter_)


def test_what_stands_in_settings():
    """Dates and UUIDs of a filter in Extended JSON are compared with those of documents."""
    uuid = uuid4()
    filter_ = native({"a": {"$gte": {"$date": "2026-01-01T00:00:00Z"}}, "b": {"$uuid": str(uuid)}})
    assert compile_filter(filter_)({"a": DATE, "b": Binary.from_uuid(uuid)})
    assert not compile_filter(filter_)({"a": datetime(2025, 1, 1, tzinfo=UTC), "b": Binary.from_uuid(uuid)})
