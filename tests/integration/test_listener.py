"""The listener, on real servers."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from pymongo.errors import OperationFailure

from tests.waiting import wait_until
from writebehind import keys
from writebehind.listener import NO_STREAMS, Listener, State


@pytest.fixture
def users(pipeline):
    return pipeline.collection("users")


@pytest.fixture
def stored(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]["users"]


@contextmanager
def running(*listeners: Listener):
    threads = [threading.Thread(target=one.run) for one in listeners]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in listeners:
            one.stop()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def status(pipeline) -> dict:
    return pipeline.status()["listener"] or {}


def wait_to_listen(pipeline, leader: str = "") -> None:
    wait_until(lambda: leader in status(pipeline).get("leader", "-") and not status(pipeline)["error"], "it", 10)


def wait_to_see(users, name: str, n: int | None) -> None:
    wait_until(lambda: (users.get(name) or {}).get("n") == n, f"{name} to be {n}", 10)


def test_changes_of_others_are_seen(pipeline, users, stored):
    """Inserts, updates, replacements and deletions, of what is cached and of what is known to be absent."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        assert users.get("ada") is None
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
        wait_to_see(users, "ada", 2)
        stored.replace_one({"_id": "ada"}, {"n": 3})
        wait_to_see(users, "ada", 3)
        stored.delete_one({"_id": "ada"})
        wait_to_see(users, "ada", None)
        stored.insert_one({"_id": 1.5})  # no id of ours
        stored.insert_many([{"_id": f"u{n}", "n": n} for n in range(5)])
        wait_until(lambda: users.get("u4"), "the last", 10)
        assert list(range(5)) == [users.get(f"u{n}")["n"] for n in range(5)]
        stored.drop()
        wait_to_see(users, "u4", None)


def test_another_takes_over_where_one_has_ended(pipeline, users, stored):
    """One leads at a time; changes that happen while nobody listens are seen by the next."""
    first, second = pipeline.listener(), pipeline.listener()
    with running(first):
        wait_to_listen(pipeline, first._name)
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        with running(second):
            leaders = {status(pipeline)["leader"] for _ in range(20)}
            assert {first._name} == leaders
    assert 0 == pipeline.store.wire.call("EXISTS", keys.LISTENER_LEASE)  # it was given back
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    assert 1 == users.get("ada")["n"]
    third = pipeline.listener()
    with running(third):
        wait_to_listen(pipeline, third._name)
        wait_to_see(users, "ada", 2)
    assert 0 == status(pipeline)["reopened"]


@pytest.mark.parametrize(
    "noted", [State("00"), State("zz"), State("27000000025f646174610016000000" + "38" * 21 + "0000"), b"{"]
)
def test_a_lost_history(pipeline, users, stored, noted):
    """Where it cannot go on from, the cache is emptied of what MongoDB has, and the stream begins anew."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})  # nobody listens
    pipeline.store.wire.call("SET", keys.LISTENER, noted.dump() if isinstance(noted, State) else noted)
    with running(pipeline.listener()):
        wait_to_see(users, "ada", 2)
        wait_until(lambda: status(pipeline)["reopened"] == 1, "the stream to be opened anew", 10)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 3}})
        wait_to_see(users, "ada", 3)


def test_a_dropped_database(pipeline, users, stored, mongo_client):
    """Everything is gone, and what comes after is seen."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        mongo_client.drop_database(pipeline.settings.mongodb_database)
        wait_to_see(users, "ada", None)
        stored.insert_one({"_id": "ada", "n": 2})
        wait_to_see(users, "ada", 2)


def test_own_writes_are_ignored(pipeline, users):
    """They invalidate nothing, however many there are."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        before = status(pipeline)
        for n in range(200):
            users.put(f"u{n}", {"n": n})
        for partition in range(pipeline.settings.partitions):
            pipeline.flusher.flush(partition)
        wait_until(lambda: status(pipeline)["events"] - before["events"] >= 200, "the events", 10)
        after = status(pipeline)
    assert (200, 0) == (after["ours"] - before["ours"], after["invalidated"] - before["invalidated"])


def test_a_standalone_server(pipeline, monkeypatch):
    """Without change streams it says so, and does not try again and again."""
    tries = []

    def watch(**_: object):
        tries.append(1)
        raise OperationFailure("The $changeStream stage is only supported on replica sets", NO_STREAMS)

    listener = pipeline.listener()
    monkeypatch.setattr(listener, "_database", type("Database", (), {"watch": staticmethod(watch)}))
    with running(listener):
        wait_until(lambda: "no replica set" in (status(pipeline).get("error") or ""), "it to say so", 10)
    assert [1] == tries


def test_mongodb_goes_on_refusing(pipeline, monkeypatch, users, stored):
    """A user who may not listen is an error that is shown; nothing is dropped for it."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)

    def watch(**_: object):
        raise OperationFailure("not authorized", 13)

    listener = pipeline.listener()
    monkeypatch.setattr(listener, "_database", type("Database", (), {"watch": staticmethod(watch)}))
    with running(listener):
        wait_until(lambda: "not authorized" in (status(pipeline).get("error") or ""), "it to say so", 10)
    assert pipeline.store.get(users.id("ada").member)[0] is not None
