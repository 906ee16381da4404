"""Answers of queries: MongoDB's, with what is pending or a dead letter."""

from __future__ import annotations

import pytest
from bson import Decimal128

from tests.integration.conftest import flush_all
from tests.integration.queries.conftest import ids, lives_in
from writebehind.errors import RequestError, UnknownQueryError
from writebehind.querying.cached_queries import SPARE
from writebehind.reading.read import Source


def test_what_mongodb_has(users, stored, asked):
    """It is asked once for each set of arguments; later answers come from Redis."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(5)])
    assert ["u4", "u3", "u2"] == ids(users)
    assert ["u4", "u3", "u2"] == ids(users)
    assert [] == ids(users, "Paris")
    assert [] == ids(users, "Paris")
    assert [{"city": "London"}, {"city": "Paris"}] == asked
    answer = users.read_query("in_city", {"city": "London"})
    assert Source.HIT is answer.source
    assert 50_000 < answer.ttl_ms <= 60_000


def test_pending_writes_are_there(users, stored, asked):
    """A document is in the answer as soon as it is acknowledged, in its place, and a deleted one is not."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(4)])
    assert ["u3", "u2", "u1"] == ids(users)
    users.put("new", lives_in("London", 2.5))
    assert ["u3", "new", "u2"] == ids(users)
    users.delete("u3")
    assert ["new", "u2", "u1"] == ids(users)
    users.patch("u2", lambda document: document | {"city": "Paris"})
    assert ["new", "u1", "u0"] == ids(users)
    users.put("u0", lives_in("London", 9))
    assert ["u0", "new", "u1"] == ids(users)
    assert [{"city": "London"}] == asked


def test_a_number_that_is_none(pipeline, users):
    """NaN is neither less nor greater than a number, whether MongoDB has it or not."""
    for name, age in (("nan", float("nan")), ("decimal", Decimal128("NaN")), ("child", 3)):
        users.put(name, {"age": age})
    assert ["child"] == [one["_id"] for one in users.query("young", {"age": 5})]
    flush_all(pipeline)
    assert ["child"] == [one["_id"] for one in users.query("young", {"age": 5})]


def test_a_sort_into_an_array(users, stored):
    """What is no document in an array counts as null, be the others pending or in MongoDB."""
    stored.insert_many([{"_id": f"u{n}", "parts": [{"size": n}]} for n in range(3, 20)])
    assert ["u3", "u4"] == [one["_id"] for one in users.query("by_part")]
    users.put("null", {"parts": [7, {"size": 100}]})
    users.put("first", {"parts": [{"size": 50}, {"size": 1}]})
    users.put("last", {"parts": [{"size": 100}]})
    assert ["null", "first"] == [one["_id"] for one in users.query("by_part")]


def test_a_server_that_sorts_in_another_way(users, stored, asked):
    """What it has found is answered, and it is not asked again for more of the same.

    The embedded server passes over what is no document in an array: to it the last of what it finds is no null.
    """
    stored.insert_many([{"_id": f"u{n}", "parts": [{"size": n}]} for n in range(1, 20)])
    stored.insert_one({"_id": "odd", "parts": [0, {"size": SPARE + 1.5}]})
    users.put("new", {"parts": [{"size": 50}]})
    assert 2 == len(users.query("by_part"))
    assert 1 == len(asked)


def test_persisted_writes_stay_there(pipeline, users, stored, asked):
    """What MongoDB has got since it was asked is still in the answer, without asking it again."""
    stored.insert_one({"_id": "old", **lives_in("London", 1)})
    users.put("new", lives_in("London", 2))
    assert ["new", "old"] == ids(users)
    flush_all(pipeline)
    asked.clear()
    for _ in range(2):
        assert ["new", "old"] == ids(users)
    users.delete("old")
    flush_all(pipeline)
    assert ["new"] == ids(users)
    assert 1 >= len(asked)  # as results are to be loaded anew once in the interval


def test_dead_letters_are_there(pipeline, users, stored, mongo_client):
    """A document that MongoDB refuses is acknowledged all the same, and is there from that moment on."""
    stored.create_index("mail", unique=True, sparse=True)
    stored.insert_one({"_id": "old", "mail": "a@b"})
    pipeline._sampler._taken = 0
    users.put("new", lives_in("London", mail="a@b"))  # with a sample of how many dead letters there are
    flush_all(pipeline)
    assert {"users": 1} == pipeline.dead_letters.by_collection()
    assert ["new"] == ids(users)


def test_so_many_dead_letters_that_none_is_looked_at(pipeline, users, stored, monkeypatch):
    """The answer says that some may be missing."""
    monkeypatch.setattr("writebehind.querying.cached_queries.MOST_DEAD", 0)
    stored.create_index("mail", unique=True, sparse=True)
    stored.insert_one({"_id": "old", "mail": "a@b"})
    assert [] == ids(users)
    users.put("new", lives_in("London", mail="a@b"))
    flush_all(pipeline)
    pipeline.queries.forget("users")
    pipeline._sampler._taken = 0
    answer = users.read_query("in_city", {"city": "London"})
    assert ([], True) == (list(answer.documents()), answer.partial)


def test_a_projection(users):
    """Only the fields that the query wants are there."""
    users.put("b", {"name": "Bob", "age": 3})
    users.put("a", {"name": "Ada", "age": 36})
    assert [{"name": "Ada"}, {"name": "Bob"}] == users.query("names")
    assert ["b"] == [one["_id"] for one in users.query("young", {"age": 5})]


def test_what_cannot_be_asked(pipeline, users):
    """Unknown queries and parameters, and values of another type."""
    with pytest.raises(UnknownQueryError, match="queries: in_city, young, names"):
        users.query("old")
    with pytest.raises(UnknownQueryError, match="queries: none"):
        pipeline.collection("others").query("in_city", {"city": "x"})
    for arguments in ({}, {"city": "x", "age": 1}, {"town": "x"}):
        with pytest.raises(RequestError, match=r"are: city \(string\)"):
            users.query("in_city", arguments)
    with pytest.raises(RequestError, match="age: this is no value of type int"):
        users.query("young", {"age": "x"})
