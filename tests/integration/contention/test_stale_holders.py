"""Holders of a unique value of which Redis and MongoDB have different states."""

from __future__ import annotations

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, replays_of, spread, usernames


def test_a_cached_holder_that_others_have_given_the_value(pipeline, users, stored, monkeypatch):
    """MongoDB decides: the other document is a dead letter, and is not replayed; and readers see their change."""
    holder, waits = spread(pipeline, 2)
    users.put(holder, {"username": "old"})
    flush_all(pipeline)
    stored.update_one({"_id": holder}, {"$set": {"username": "x"}})
    users.put(waits, {"username": "x"})
    replays = replays_of(pipeline, monkeypatch)

    flush(pipeline, waits)
    pipeline.maintenance.sweep()

    assert ([], 1) == (replays, letters(pipeline))
    assert {"_id": holder, "username": "x"} == users.get(holder)
    users.put(holder, {"username": "z"})
    flush_all(pipeline)
    flush_all(pipeline)
    assert ({holder: "z", waits: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_cached_holder_that_changes_after_the_burial(pipeline, users, stored, monkeypatch):
    """The last look judges as the flush does, and so does the sweep: nothing is replayed."""
    holder, waits = spread(pipeline, 2)
    users.put(holder, {"username": "x"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    users.put(holder, {"username": "old"})
    monkeypatch.setattr(pipeline.contention, "changed", lambda _: 0)
    flush(pipeline, holder)
    stored.update_one({"_id": holder}, {"$set": {"username": "x"}})
    replays = replays_of(pipeline, monkeypatch)

    for _ in range(2):
        pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{holder}"))

    assert ([], 1) == (replays, letters(pipeline))
    assert {"_id": holder, "username": "x"} == users.get(holder)


def test_a_dead_holder_whose_value_cannot_be_taken(pipeline, users, stored, monkeypatch):
    """Its collection requires the field: the other document waits, and is not replayed as long as that is so."""
    holder, waits = spread(pipeline, 2)
    users.put(holder, {"username": "x"})
    flush_all(pipeline)
    rules = {"username": {"$exists": True}, "n": {"$ne": 1}}
    stored.database.command("collMod", stored.name, validator=rules)
    users.put(holder, {"username": "y", "n": 1})
    flush(pipeline, holder)
    users.put(waits, {"username": "x"})
    replays = replays_of(pipeline, monkeypatch)

    flush(pipeline, waits)
    pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{holder}"))

    assert ([], 2, {holder: "x"}) == (replays, letters(pipeline), usernames(stored))
    users.put(holder, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)
    assert ({holder: "y", waits: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_value_in_a_list_of_documents_is_not_taken(pipeline, users, stored):
    """And that is told: else the one that needs the value is tried for minutes."""
    stored.insert_one({"_id": "a", "list": [{"value": "x"}], "_v": 5})

    assert not pipeline.sink.unset(users.id("a"), "list.value", 5, below=9)

    assert {"_id": "a", "list": [{"value": "x"}], "_v": 5} == stored.find_one({"_id": "a"})


def test_a_deleted_holder_that_a_late_write_has_brought_back(pipeline, users, stored):
    """It is deleted again at once, and the value is free."""
    holder, waits = spread(pipeline, 2)
    version = users.put(holder, {"username": "x"}).version
    flush_all(pipeline)
    users.delete(holder)
    flush_all(pipeline)
    stored.insert_one({"_id": holder, "username": "x", "_v": version})
    users.put(waits, {"username": "x"})

    flush(pipeline, waits)

    assert ({waits: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_holder_that_mongodb_has_in_an_older_version(pipeline, users, stored, monkeypatch):
    """Redis has the only copy of the newer one, until that is reconciled: it is kept, and nothing is replayed."""
    holder, waits = spread(pipeline, 2)
    users.put(holder, {"username": "y"})
    flush_all(pipeline)
    stored.replace_one({"_id": holder}, {"username": "x", "_v": 5})
    users.put(waits, {"username": "x"})
    replays = replays_of(pipeline, monkeypatch)

    flush(pipeline, waits)
    pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{holder}"))

    assert ([], 1) == (replays, letters(pipeline))
    assert {"_id": holder, "username": "y"} == users.get(holder)
