"""States that a pass meets at each document are one line each, with what is to be done."""

from __future__ import annotations

from bson import Int64

from tests.integration.reconcile.conftest import of
from writebehind.errors import MongoRefusesError


def events(caplog) -> list[str]:
    return [one.event for one in caplog.records if hasattr(one, "event")]


def test_a_collection_that_mongodb_refuses(pipeline, planted, monkeypatch, caplog):
    """It is told of once in all passes until it is served again, and others are compared meanwhile."""
    for number in range(6):
        planted(f"u{number}")
    refuses = True
    find_states = pipeline.sink.find_states

    def find(ids):
        if refuses:
            raise MongoRefusesError("not authorized on users")
        return find_states(ids)

    monkeypatch.setattr(pipeline.sink, "find_states", find)
    for _ in range(3):
        pipeline.reconciler.make_pass(repair=False)
    assert ["collection_refused"] == events(caplog)
    assert "not authorized on users" in caplog.messages[0]

    refuses = False
    for _ in range(3):
        pipeline.reconciler.make_pass(repair=False)
    assert ["collection_refused", "collection_served"] == events(caplog)


def test_documents_of_which_mongodb_has_an_older_state(pipeline, users, stored, caplog, planted):
    """As after a restored backup: the first is told, and the others are counted."""
    for number in range(5):
        planted(f"u{number}")
    for number in range(5):
        stored.update_one({"_id": f"u{number}"}, {"$set": {"_v": Int64(5 + number)}})
    pipeline.reconciler.make_pass(repair=True)

    assert 1 == sum("MongoDB has version" in one for one in caplog.messages)


def test_a_lost_entry_is_a_dead_letter_in_the_log(pipeline, users, caplog):
    """With the fields by which it is found, and only by who repairs: who only looks has the findings."""
    version = users.put("ada", {"name": "Ada"}).version
    pipeline.store._wire.call("DEL", of(pipeline, "ada").entry("users/s:ada"))
    pipeline.reconciler.make_pass(repair=False)
    assert [] == events(caplog)

    pipeline.reconciler.make_pass(repair=True)

    [told] = [one for one in caplog.records if getattr(one, "event", "") == "dead_letter"]
    assert ("users", "users/s:ada", True) == (told.collection, told.member, told.version > version)
