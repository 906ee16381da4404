"""Filters mean what mongod means by them, for values of all types."""

from __future__ import annotations

from struct import pack
from typing import Any
from uuid import uuid4

import pytest
from bson import Binary, DatetimeMS, MaxKey, MinKey, Regex

from tests.bson_order import DATE, NAN, ROWS, UNDEFINED, VALUES, Raw, with_fields
from writebehind.documents.elements import INT32, document, field
from writebehind.mql.filters import compile_filter
from writebehind.mql.sorts import compile_sort
from writebehind.settings.queries import native

COMPARISONS = ["$eq", "$gt", "$gte", "$lt", "$lte"]

PLACES = {repr(one): (kind, at) for kind, at, one in VALUES}
NO_NUMBER = {at for at, (_, row) in enumerate(ROWS) if NAN in row}
#: mongod refuses regular expressions but for `$eq`, which compares them as values, and `undefined`.
OPERANDS = [(kind, at, one) for kind, at, one in VALUES if type(one) is not Raw]
PLAIN = [one for one in OPERANDS if one[0] != "regex"]


def holds(operator: str, value: tuple[str, int], operand: tuple[str, int]) -> bool:
    """What mongod says of one value: `matchesSingleElement` of its comparisons."""
    (kind, at), (wanted, place) = value, operand
    if kind != wanted:
        return wanted == {"$g": "least", "$l": "greatest"}.get(operator[:2])
    if {at, place} & NO_NUMBER:
        return at == place and operator in {"$eq", "$gte", "$lte"}
    return {"$eq": at == place, "$gt": at > place, "$gte": at >= place, "$lt": at < place, "$lte": at <= place}[
        operator
    ]


def expected(operator: str, kind: str, at: int, value: Any, operand: tuple[str, int]) -> bool:
    """The same of a value or any of its elements."""
    inner = [PLACES[repr(one)] for one in value] if isinstance(value, list) else []
    return any(holds(operator, one, operand) for one in [(kind, at), *inner])


@pytest.mark.parametrize("operator", COMPARISONS)
def test_comparisons_of_all_types(operator):
    """Each value is compared with each other one: within its type, and NaN with nothing but NaN."""
    for wanted, place, operand in OPERANDS if operator == "$eq" else PLAIN:
        matches = compile_filter({"a": {operator: operand}})
        other = compile_filter({"a": {"$not": {operator: operand}}})
        for kind, at, value in VALUES:
            document = with_fields(a=value)
            assert matches(document) is expected(operator, kind, at, value, (wanted, place)), (value, operand)
            assert other(document) is not matches(document)


@pytest.mark.parametrize("operator", ["$in", "$nin", "$ne"])
def test_equality_of_all_types(operator):
    """One of several values is what is equal to one of them; and the opposite of both."""
    for wanted, place, operand in PLAIN:
        matches = compile_filter({"a": {operator: operand if operator == "$ne" else [operand, "no such value"]}})
        for kind, at, value in VALUES:
            found = expected("$eq", kind, at, value, (wanted, place))
            assert matches(with_fields(a=value)) is (found is (operator == "$in")), (value, operand)


@pytest.mark.parametrize(
    ("condition", "is_found"),
    [
        *[({one: None}, one in {"$eq", "$gte", "$lte"}) for one in COMPARISONS],
        *[({one: MinKey()}, one in {"$gt", "$gte"}) for one in COMPARISONS],
        *[({one: MaxKey()}, one in {"$lt", "$lte"}) for one in COMPARISONS],
        *[({one: 0}, False) for one in COMPARISONS],
        ({"$in": [1, None]}, True),
        ({"$in": [1]}, False),
        ({"$nin": [1, None]}, False),
        ({"$ne": None}, False),
        ({"$ne": 1}, True),
        ({"$exists": False}, True),
        ({"$exists": True}, False),
    ],
)
def test_a_field_that_is_missing(condition, is_found):
    """It counts as null, and is beyond the least and the greatest value as values of all other types are."""
    missing = [
        ({}, "a"),
        ({"b": 1}, "a"),
        ({"a": 5}, "a.c"),
        ({"a": {"b": {}}}, "a.b.c"),
        ({"a": [{"b": 1}]}, "a.c"),
    ]
    for fields, path in missing:
        assert is_found is compile_filter({path: condition})(with_fields(**fields))


def test_undefined():
    """It is no null to MongoDB 8.0, and it is there."""
    document = with_fields(a=UNDEFINED)
    assert not compile_filter({"a": None})(document)
    assert not compile_filter({"a": {"$in": [None]}})(document)
    assert compile_filter({"a": {"$ne": None}})(document)
    assert compile_filter({"a": {"$exists": True}})(document)


@pytest.mark.parametrize(
    ("path", "wanted", "found", "passed_over"),
    [
        ("a", 1, [1, [1], [0, 1]], [[[1]], {"0": 1}, [], "1", True]),
        ("a", [1], [[1], [[1], 2]], [[1, 1], [[1, 2]], 1]),
        ("a", None, [None, [None], [0, None]], [[], [[None]], {}, 0]),
        ("a.b", 1, [{"b": 1}, {"b": [1]}, [{"b": 1}], [0, {"b": [0, 1]}]], [[[{"b": 1}]], {"b": [[1]]}, [1], 1]),
        (
            "a.b",
            None,
            [5, {}, {"b": None}, [{}], [1, {"c": 1}], [{"b": 1}, {}]],
            [[], [1], [[]], [[{}]], [{"b": 1}]],
        ),
        ("a.0", 1, [[1], [1, 2], {"0": 1}, [{"0": 1}], [5, {"0": 1}]], [[[1]], [2, 1], [], 1]),
        ("a.0", [1], [[[1]]], [[1], [[1, 2]]]),
        ("a.0", None, [[None], [{}], {}, 5], [[], [1], [[]], [[None]]]),
        ("a.0.0", 1, [[[1]], [{"0": 1}], [[1], 2]], [[1], [[[1]]], [[2, 1]]]),
        ("a.0.b", 1, [[{"b": 1}], [[{"b": 1}]], {"0": {"b": 1}}], [[0, {"b": 1}], [[[{"b": 1}]]]]),
        ("a.0.b", None, [[{"b": 1}], [{}], {}], [[], [5], [[1]]]),
        ("a.00", 1, [{"00": 1}, [{"00": 1}]], [[1]]),
        ("a.\u0660", 1, [{"\u0660": 1}], [[1]]),
        ("a.", 1, [{"": 1}, [{"": 1}]], [1, [1]]),
    ],
)
def test_paths(path, wanted, found, passed_over):
    """Documents in an array are gone into, an index names one element, and arrays in arrays are left alone."""
    matches = compile_filter({path: wanted})
    for value in found:
        assert matches(with_fields(a=value)), value
    for value in passed_over:
        assert not matches(with_fields(a=value)), value


def test_a_name_that_is_there_twice():
    """The first of two fields with one name counts, as in MongoDB."""
    body = document([*(field(INT32, b"a", pack("<i", n)) for n in (1, 2))])
    assert compile_filter({"a": 1})(body)
    assert not compile_filter({"a": 2})(body)


def test_a_document_as_deep_as_mongodb_takes():
    """It is compared as a whole."""
    value: dict[str, Any] = {}
    for _ in range(180):
        value = {"a": value}
    raw = with_fields(b=value)
    assert compile_filter({"b": {"$gte": {}}})(raw)
    assert compile_filter({"b": {"$in": [{"a": 1}, {}]}})(raw) is False
    assert compile_sort({"b": 1})(raw) > compile_sort({"b": 1})(with_fields(b={"a": {}}))


@pytest.mark.parametrize(
    "filter_",
    [
        {"$where": "1"},
        {"$expr": {}},
        {"a": {"$regex": "x"}},
        {"a": Regex("x")},
        {"a": {"$in": [Regex("x")]}},
        {"a": {"$ne": Regex("x")}},
        {"a": {"$gte": Regex("x")}},
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
    assert compile_filter(filter_)(with_fields(a=DATE, b=Binary.from_uuid(uuid)))
    assert not compile_filter(filter_)(with_fields(a=DatetimeMS(0), b=Binary.from_uuid(uuid)))
