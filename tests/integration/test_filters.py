"""Filters, sorts and projections mean what a server means by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from bson import Code, DatetimeMS, DBRef, Decimal128, Regex
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from tests.bson_order import EARLIEST, LATER, VALUES, Raw, with_fields
from tests.tiers import examples
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.mql.filters import compile_filter
from writebehind.mql.projections import compile_projection
from writebehind.mql.sorts import compile_sort

#: Where the embedded server differs from mongod, whose rules the unit tests of filters and sorts have.
UNLIKE_MONGOD: dict[str, Callable[[Any], bool]] = {
    "it cannot store undefined, symbols, pointers and text that is no UTF-8": lambda one: type(one) is Raw,
    "it refuses dates that Python cannot hold": lambda one: (
        type(one) is DatetimeMS and not EARLIEST <= int(one) < LATER
    ),
    "it compares a double with a Decimal128 by the text of both": lambda one: (
        type(one) in {float, Decimal128} and str(one).lstrip("-") in {"0.1", str(1 << 63), str(float(1 << 63))}
    ),
    "it compares binaries by their bytes alone": lambda one: isinstance(one, bytes),
    "it compares code with code that has a scope": lambda one: type(one) is Code,
    "it tells a DBRef from a document with the same fields": lambda one: type(one) is DBRef or "$ref" in str(one),
}
SPECIAL = [one for _, _, one in VALUES if not any(differs(one) for differs in UNLIKE_MONGOD.values())]
OPERANDS = [one for one in SPECIAL if type(one) is not Regex]
#: Arrays and documents that paths lead through.
NESTED = [
    *([1, 2], [{"c": 1}, {"c": [2, 3]}], {"c": {"d": 1}}, {"c": [1, "a"]}, {"c": []}, [{"c": None}, {}]),
    *([[2, 1], {"c": 5}], {"0": 1}, {"c": [{"d": [1, 2]}, {"d": 3}]}, [{"c": 3, "d": 1}, {"c": 1, "d": 9}]),
]
DOCUMENTS = [
    {},
    *({"a": value} for value in [*SPECIAL, *NESTED]),
    *({"a": NESTED[n % len(NESTED)], "b": SPECIAL[n * 7 % len(SPECIAL)]} for n in range(60)),
]
PATHS = st.sampled_from(["a", "b", "a.c", "a.0", "a.c.d", "b.c"])
operands = st.sampled_from(OPERANDS)
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
UNALIKE = re.compile(r"'[ab]\.0': .*(None|'\$exists'|MinKey|MaxKey)")
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
def collection(mongo_client) -> Collection[RawBSONDocument]:
    found = mongo_client["matching"].get_collection("documents", codec_options=RAW_OPTIONS)
    found.drop()
    found.insert_many([RawBSONDocument(with_fields(_id=n, **one), RAW_OPTIONS) for n, one in enumerate(DOCUMENTS)])
    return found


@pytest.fixture(scope="module")
def bodies(collection) -> dict[int, bytes]:
    """What the server has, by id: the same as was put there."""
    found = {one["_id"]: bytes(one.raw) for one in collection.find()}
    assert {n: with_fields(_id=n, **one) for n, one in enumerate(DOCUMENTS)} == found
    return found


def check(collection: Collection[RawBSONDocument], bodies: dict[int, bytes], filter_: dict[str, Any]) -> None:
    """See that the server finds the same documents."""
    matches = compile_filter(filter_)
    asked = RawBSONDocument(with_fields(**filter_), RAW_OPTIONS)
    found = {one["_id"] for one in collection.find(asked, {"_id": 1})}
    ours = {one for one, body in bodies.items() if matches(body)}
    assert found == ours, [DOCUMENTS[n] for n in found ^ ours]


@pytest.mark.parametrize("operator", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"])
def test_special_values(collection, bodies, operator):
    """Each operator with each special value finds the same documents."""
    for operand in OPERANDS:
        check(collection, bodies, {"a": {operator: [operand] if operator in {"$in", "$nin"} else operand}})


@settings(max_examples=examples(300))
@given(filter_=filters)
def test_filters(collection, bodies, filter_):
    """A filter finds the same documents."""
    check(collection, bodies, filter_)


#: Not by a part of what is in an array: mongod takes null for what is no document there, and the fields of a
#: compound sort from one element; the embedded server passes such elements over, and takes each field by itself.
SORTS = st.dictionaries(st.sampled_from(["a", "b", "_id"]), directions, min_size=1, max_size=3)


@settings(max_examples=examples(40))
@given(sort=SORTS)
def test_sorts(collection, sort):
    """What the server has sorted is in order here too."""
    place = compile_sort(sort)
    ordered = [bytes(one.raw) for one in collection.find().sort(list(sort.items()))]
    for one, other in pairwise(ordered):
        assert place(one) <= place(other), (one, other)


@settings(max_examples=examples(100))
@given(projection=projections)
def test_projections(collection, bodies, projection):
    """A projection leaves the same parts."""
    wanted = compile_projection(projection)
    found = [bytes(one.raw) for one in collection.find({}, projection).sort("_id", 1)]
    for body, one in zip([body for _, body in sorted(bodies.items())], found, strict=True):
        assert one == wanted(body)
