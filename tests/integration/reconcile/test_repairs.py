"""Repairs: only of what was compared, and as the collection's rule for conflicts says."""

from __future__ import annotations

import bson
import pytest

from tests.integration.conftest import flush_all
from writebehind import Pipeline
from writebehind.flushing.dead_letters import Filter
from writebehind.reconcile.reconciler import is_current
from writebehind.redis.scripts import script

HEADER = "0000000000000005D" + "e" * 32


@pytest.mark.parametrize(
    ("entry", "ttl_ms", "seen", "dropped"),
    [
        (HEADER, 5_000, HEADER, 1),
        (HEADER, 5_000, HEADER.replace("5", "4", 1), 0),
        (HEADER, -1, HEADER, 0),  # it is pending, or dead
        ("0000000000000000N", -1, "0000000000000000N", 1),  # which nobody ever wrote
    ],
)
def test_only_what_was_compared_is_dropped(valkey_wire, entry, ttl_ms, seen, dropped):
    """And only what MongoDB has as well; with it the right of whoever is loading it."""
    valkey_wire.call("MSET", "{k}:entry", entry, "{k}:load", "t")
    if ttl_ms > 0:
        valkey_wire.call("PEXPIRE", "{k}:entry", ttl_ms)

    assert dropped == valkey_wire.run(script("drop_unchanged"), ("{k}:entry", "{k}:load"), (seen,))

    assert 2 * (1 - dropped) == valkey_wire.call("EXISTS", "{k}:entry", "{k}:load")


@pytest.mark.parametrize("otherwise", ["", "another entry", "pending", "dead"])
def test_only_what_was_compared_is_pending_again(valkey_wire, otherwise):
    """Without a TTL, and with no refresh on its way; what is pending or dead stays as it is."""
    names = ("{k}:entry", "{k}:pending", "{k}:load", "{k}:dead", "{k}:counts")
    valkey_wire.call("SET", "{k}:entry", HEADER, "PX", 50_000)
    valkey_wire.call("SET", "{k}:load", "refresh:t")
    if otherwise == "pending":
        valkey_wire.call("ZADD", "{k}:pending", 1, "users/s:a")
    if otherwise == "dead":
        valkey_wire.call("HSET", "{k}:dead", "users/s:a", "0000000000000005{}")
    seen = HEADER.replace("5", "4", 1) if otherwise == "another entry" else HEADER

    remarked = valkey_wire.run(script("mark_pending"), names, ("users/s:a", seen, 1_000))

    due, ttl_ms = valkey_wire.call("ZSCORE", "{k}:pending", "users/s:a"), valkey_wire.call("PTTL", "{k}:entry")
    loading = valkey_wire.call("EXISTS", "{k}:load")
    if otherwise:
        assert (0, b"1" if otherwise == "pending" else None, True, 1) == (remarked, due, ttl_ms > 0, loading)
    else:
        assert (1, -1, 0) == (remarked, ttl_ms, loading)
        assert 0 < float(due) - valkey_wire.now_ms() <= 1_000


def test_what_was_settled_meanwhile_is_not_lost(valkey_wire):
    """Its entry may have expired since."""
    valkey_wire.call("ZADD", "{k}:pending", 1, "users/s:a", 1, "users/s:b")
    valkey_wire.call("SET", "{k}:b", "there")
    names = ("{k}:pending", "{k}:a", "{k}:b", "{k}:c")

    assert [b"users/s:a"] == valkey_wire.run(
        script("find_entryless"), names, ("users/s:a", "users/s:b", "users/s:c")
    )


def put_back(pipeline: Pipeline, users, stored) -> dict:
    """Somebody restores a document from a backup, with its version."""
    users.put("ada", {"name": "old", "n": 1})
    flush_all(pipeline)
    backup = stored.find_one()
    users.put("ada", {"name": "new", "n": 2})
    flush_all(pipeline)
    stored.replace_one({"_id": "ada"}, backup)
    return backup


def test_an_older_version_in_mongodb_with_ours(pipeline, users, stored):
    """Where nobody listens it may be a restore: ours goes to MongoDB, and the log of conflicts has both."""
    put_back(pipeline, users, stored)
    assert {"lost-in-mongodb": 1} == pipeline.reconciler.make_pass().repaired
    flush_all(pipeline)
    assert 2 == stored.find_one()["n"]
    [conflict] = pipeline.conflicts.latest()
    documents = [conflict[side]["document"]["n"] for side in ("ours", "theirs")]
    assert ("ours", [2, 1]) == (conflict["policy"], documents)


def test_an_older_version_in_mongodb_with_theirs(theirs, stored):
    """Where nobody listens what MongoDB has stands, and ours becomes a dead letter with its body."""
    users = theirs.collection("users")
    backup = put_back(theirs, users, stored)
    assert {"lost-in-mongodb": 1} == theirs.reconciler.make_pass().repaired
    flush_all(theirs)
    assert (backup, 1) == (stored.find_one(), users.get("ada")["n"])
    [one] = theirs.dead_letters.page(Filter()).letters
    assert ("conflict", "new") == (one.letter.reason, bson.decode(one.letter.body)["name"])
    assert {} == theirs.reconciler.make_pass().found


def test_an_older_version_in_mongodb_while_somebody_listens(theirs, stored, monkeypatch):
    """A restore would have been seen, so MongoDB has lost a write, whatever the policy: it is pending again."""
    users = theirs.collection("users")
    put_back(theirs, users, stored)
    told = {"seconds_ago": 0.2, "lag_s": 0.1, "error": None}
    monkeypatch.setattr("writebehind.parts.listener_status", lambda _: told)
    assert {"lost-in-mongodb": 1} == theirs.reconciler.make_pass().repaired
    flush_all(theirs)
    assert (2, []) == (stored.find_one()["n"], theirs.conflicts.latest())


@pytest.mark.parametrize(
    "listener", [None, {"seconds_ago": 60.0}, {"lag_s": 600.0}, {"error": "no replica set"}], ids=str
)
def test_a_listener_that_is_not_current(listener):
    """Nobody knows what others have written where none runs, or it is late or failing."""
    well = {"seconds_ago": 0.2, "lag_s": 0.0, "error": None}
    assert not is_current(listener and well | listener)
    assert is_current(well)
