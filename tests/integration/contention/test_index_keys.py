"""Unique values as MongoDB's indexes have them: null, elements of lists, what stands in lists of documents."""

from __future__ import annotations

import bson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, spread
from writebehind.documents.entry import Entry
from writebehind.flushing.claims import MOST_CLAIMS, claims_of

#: What one document gives up, and another one is given.
MOVES = {
    "null": ({"username": None}, {"username": None}),
    "list": ({"username": ["x", "y"]}, {"username": ["x", "y"]}),
    "of-a-list": ({"username": ["x", "y"]}, {"username": "y"}),
    "into-a-list": ({"username": "x"}, {"username": ["y", "x"]}),
    "null-in-a-list": ({"username": [None, "x"]}, {"username": None}),
    "list-in-a-list": ({"username": [["x"]]}, {"username": [["x"]]}),
    "document": ({"username": {"a": None}}, {"username": {"a": None}}),
    "path": ({"n": {"k": 0}}, {"n": {"k": 0.0}}),
    "path-to-null": ({"n": {"k": None}}, {"n": {"k": None}}),
    "path-in-a-list": ({"n": [{"k": 0}, {"k": 1}]}, {"n": {"k": 1}}),
    "path-into-a-list": ({"n": {"k": 1}}, {"n": [{"k": 0}, {"k": 1}]}),
}


@pytest.fixture
def settings(settings):
    lookup = {"username": "string", "n.k": "int"}
    users = settings.collections["users"].model_copy(update={"lookup": lookup})
    return settings.model_copy(update={"collections": {**settings.collections, "users": users}})


@pytest.fixture(autouse=True)
def indexes(pipeline):
    for field in ("username", "n.k"):
        pipeline.sink.create_unique_index("users", field)


@pytest.mark.parametrize("move", MOVES)
def test_a_value_that_moves_on(pipeline, users, stored, move):
    """One document gives a value up and another one is given it, which is flushed first: both reach MongoDB."""
    before, after = MOVES[move]
    one, other = spread(pipeline, 2)
    users.put(one, before)
    flush_all(pipeline)
    users.put(one, {"free": True})
    users.put(other, after)

    assert 0 == flush(pipeline, other).buried
    flush_all(pipeline)

    assert {one: {"free": True}, other: after} == without_versions(stored)
    assert (0, 0) == (letters(pipeline), pipeline.status()["pending"])


@pytest.mark.parametrize("move", MOVES)
def test_a_conflict_that_ends(pipeline, users, stored, move):
    """Two documents have the value as last acknowledged: the second is a letter, until the first gives it up."""
    before, after = MOVES[move]
    one, other = spread(pipeline, 2)
    users.put(one, before)
    flush_all(pipeline)
    users.put(other, after)
    flush_all(pipeline)
    assert 1 == letters(pipeline)

    users.put(one, {"free": True})
    flush_all(pipeline)
    flush_all(pipeline)

    assert {one: {"free": True}, other: after} == without_versions(stored)
    assert 0 == letters(pipeline)


@pytest.mark.parametrize("move", MOVES)
def test_an_exchange(pipeline, users, stored, move):
    """Two documents exchange values of which one is of such a kind."""
    before, after = MOVES[move]
    field = next(iter(before))
    plain = {"username": "plain"} if field == "username" else {"n": {"k": 7}}
    one, other = spread(pipeline, 2)
    users.put(one, before)
    users.put(other, plain)
    flush_all(pipeline)
    users.put(one, plain)
    users.put(other, after)
    flush_all(pipeline)

    assert {one: plain, other: after} == without_versions(stored)
    assert 0 == letters(pipeline)


def test_documents_without_the_field(pipeline, users, stored):
    """A sparse index has no key of them: who has null in the field is in nobody's way."""
    one, other, third = spread(pipeline, 3)
    users.put(one, {})
    users.put(other, {"username": None})
    users.put(third, {"username": "x"})
    flush_all(pipeline)
    users.put(other, {"username": "x"})
    users.put(third, {"username": None})
    flush_all(pipeline)

    assert {one: {}, other: {"username": "x"}, third: {"username": None}} == without_versions(stored)
    assert 0 == letters(pipeline)


def test_many_holders(pipeline, users, stored):
    """A list is given what ten documents have given up."""
    names = spread(pipeline, 11)
    for name in names[1:]:
        users.put(name, {"username": name})
    flush_all(pipeline)
    for name in names[1:]:
        users.put(name, {})
    users.put(names[0], {"username": names[1:]})
    flush(pipeline, names[0])
    flush_all(pipeline)

    assert {names[0]: {"username": names[1:]}, **{name: {} for name in names[1:]}} == without_versions(stored)
    assert 0 == letters(pipeline)


def test_a_list_of_very_many():
    """What a document costs is bounded."""
    entry = Entry.loaded(bson.encode({"username": [str(n) for n in range(10 * MOST_CLAIMS)]}), 1)
    assert MOST_CLAIMS == len(claims_of(entry, ["username"]))


def without_versions(stored) -> dict[str, dict[str, object]]:
    return {one.pop("_id"): {name: value for name, value in one.items() if name != "_v"} for one in stored.find()}
