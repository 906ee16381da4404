"""Documents whose entry hides what MongoDB has, until it gives way: then they are found by MongoDB's values."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from pymongo.collection import Collection as MongoCollection

from tests.integration.conftest import flush_all
from tests.integration.unique_fields.conftest import after_once, lasting, name_of
from writebehind import Pipeline
from writebehind.change_stream.conflicts import Conflict
from writebehind.documents.ids import DocumentId
from writebehind.flushing.dead_letter import DeadLetter, Filter

U1 = DocumentId.of("users", "u1")


def pending(pipeline: Pipeline, stored: MongoCollection) -> None:
    """MongoDB has one value, and another one is acknowledged."""
    stored.insert_one({"_id": "u1", "username": "ada"})
    pipeline.collection("users").put("u1", {"username": "countess"})


def deleted(pipeline: Pipeline, stored: MongoCollection) -> None:
    """MongoDB has a document, and its deletion is acknowledged."""
    stored.insert_one({"_id": "u1", "username": "ada"})
    pipeline.collection("users").delete("u1")


def stale(pipeline: Pipeline, stored: MongoCollection) -> None:
    """Others have changed the value in MongoDB, and nobody has heard of it."""
    stored.insert_one({"_id": "u1", "username": "countess"})
    assert pipeline.collection("users").get("u1")
    stored.update_one({"_id": "u1"}, {"$set": {"username": "ada"}})


def discarded(pipeline: Pipeline) -> None:
    """MongoDB refuses it, and somebody gives it up."""
    entry, _ = pipeline.store.cache.get(U1.member)
    letter = DeadLetter.refused(U1.member, entry, "no", code=121, attempts=1, over=0)
    pipeline.store.pending.bury(U1.member, entry.version_digits, letter.dump())
    assert name_of(pipeline.collection("users"), "ada") is None
    assert 1 == pipeline.dead_letters.discard(pipeline.dead_letters.all(Filter()))


def given_way(pipeline: Pipeline) -> None:
    """What others have written stands."""
    entry, _ = pipeline.store.cache.get(U1.member)
    conflict = Conflict(U1, "replace", "theirs", entry, None, time.time())
    assert pipeline.conflicts.give_way(conflict, "others have changed it")


def dropped(pipeline: Pipeline) -> None:
    """The listener, or reconciling, finds that MongoDB has something else."""
    assert [True] == pipeline.store.cache.invalidate_many([U1.member])


@pytest.mark.parametrize(
    ("stands", "gives_way"),
    [(pending, discarded), (pending, given_way), (deleted, discarded), (stale, dropped)],
    ids=lambda one: one.__name__,
)
def test_an_entry_that_gives_way(
    pipeline,
    users,
    stored,
    asked,
    stands: Callable[[Pipeline, MongoCollection], None],
    gives_way: Callable[[Pipeline], None],
):
    """That a value leads nowhere, as an entry says, is remembered as long as the entry does, and no longer."""
    stands(pipeline, stored)
    assert [None, None] == [name_of(users, "ada"), name_of(users, "ada")]
    assert ["ada"] == asked

    gives_way(pipeline)

    assert "ada" == users.get("u1")["username"]
    assert ["u1", "u1"] == [name_of(users, "ada"), name_of(users, "ada")]
    assert name_of(users, "countess") is None
    assert [] == lasting(pipeline)


def test_a_newer_write_than_the_one_that_gives_way(pipeline, users, monkeypatch):
    """Its claims stand: it is found by the value that both have."""
    first = users.put("u1", {"username": "ada"})
    after_once(
        monkeypatch, pipeline.store.letters, "discard_many", lambda: users.put("u1", {"username": "ada", "n": 1})
    )
    entry, _ = pipeline.store.cache.get(U1.member)
    letter = DeadLetter.refused(U1.member, entry, "no", code=121, attempts=1, over=0)
    pipeline.store.pending.bury(U1.member, entry.version_digits, letter.dump())
    assert 1 == pipeline.dead_letters.discard(pipeline.dead_letters.all(Filter()))

    assert first.version < users.read("u1").entry.version
    assert "u1" == name_of(users, "ada")
    flush_all(pipeline)
    assert [] == lasting(pipeline)


def test_several_that_give_a_value_up(pipeline, users, stored):
    """Where no index keeps a value to one document, nothing is remembered of several that MongoDB has it in."""
    stored.insert_many([{"_id": name, "username": "ada"} for name in ("u1", "u2")])
    for name in ("u1", "u2"):
        users.put(name, {"username": name})
    assert name_of(users, "ada") is None

    entry, _ = pipeline.store.cache.get("users/s:u2")
    letter = DeadLetter.refused("users/s:u2", entry, "no", code=121, attempts=1, over=0)
    pipeline.store.pending.bury("users/s:u2", entry.version_digits, letter.dump())
    pipeline.dead_letters.discard(pipeline.dead_letters.all(Filter()))

    assert "u2" == name_of(users, "ada")
