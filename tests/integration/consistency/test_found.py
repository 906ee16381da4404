"""What is wrong is found: each kind that a user meets, planted by hand, with nobody who repairs it."""

from __future__ import annotations

import time

import bson
import pytest

from tests.damage import DAMAGES, damage
from tests.integration.conftest import flush_all
from tests.integration.consistency.conftest import counted, figures, found, settle, step_until
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import DocumentId
from writebehind.redis.keys import CONSISTENCY_LEASE, partition_keys


def key(pipeline, name: str, collection: str = "users") -> str:
    return pipeline.store.cache.key(DocumentId.of(collection, name).member)


@pytest.fixture
def persisted(pipeline, users):
    """Writes documents that are cached and in MongoDB; their values in Redis."""

    def write(*names: str, n: int = 1, collection: str = "users") -> dict[str, bytes]:
        for name in names:
            pipeline.collection(collection).put(name, {"n": n})
        flush_all(pipeline)
        return {name: pipeline.store._wire.call("GET", key(pipeline, name, collection)) for name in names}

    return write


def test_what_is_changed_in_redis_by_hand_is_found(pipeline, observer, persisted, users):
    """Older versions, other contents and wrong absences in Redis are each found, and all else is right."""
    wire, hour = pipeline.store._wire, 3_600_000
    old = persisted("older", "no-ttl", "right")
    persisted("older", "no-ttl", "right", n=2)
    persisted("different", "hidden", "deleted-there", "newer")
    users.delete("none")
    flush_all(pipeline)
    settle(observer)
    now = pipeline.store._wire.now_ms() * 1000
    wire.call("SET", key(pipeline, "older"), old["older"], "PX", hour)
    wire.call("SET", key(pipeline, "no-ttl"), old["no-ttl"])
    other = Entry.parse(wire.call("GET", key(pipeline, "different")))
    changed = Entry.loaded(bson.encode({"_id": "different", "n": 9}), other.version)
    wire.call("SET", key(pipeline, "different"), changed.value, "PX", hour)
    wire.call("SET", key(pipeline, "hidden"), ABSENT.value, "PX", hour)
    wire.call("SET", key(pipeline, "newer"), Entry.loaded(other.body, now).value, "PX", hour)
    wire.call("SET", key(pipeline, "none"), Entry.loaded(other.body, now).value, "PX", hour)

    expected = {
        "older": "older",
        "no-ttl": "older",
        "different": "different",
        "hidden": "hidden",
        "newer": "newer",
        "none": "gone",
    }
    step_until(observer, lambda: set(found(pipeline)) >= set(expected), "all of them")
    assert expected == found(pipeline)
    looks, wrong = counted(pipeline)
    assert len(expected) <= wrong < looks


def test_a_body_that_was_changed_in_redis_is_found(pipeline, observer, persisted, users):
    """Under its own ETag and version, small, large or pending: it is damaged, and right once it is repaired."""
    persisted("small", "right")
    for name in ("large", "huge"):
        users.put(name, {"text": "x" * (100_000 if name == "large" else 1_000_000)})
    flush_all(pipeline)
    pipeline.collection("slow").put("pending", {"n": 1})
    settle(observer)
    for name in ("small", "large", "huge"):
        damage(pipeline, name, DAMAGES["one bit"])
    damage(pipeline, "pending", of="slow")

    names = {"small", "large", "huge", "pending"}
    step_until(observer, lambda: set(found(pipeline)) >= names, "all of them", 60)
    assert dict.fromkeys(names, "damaged") == found(pipeline)
    assert counted(pipeline)[1] >= len(names)
    pipeline.reconciler.make_pass()
    step_until(observer, lambda: not len(observer.suspects), "them to be right")
    before = counted(pipeline)[1]
    settle(observer)
    assert before == counted(pipeline)[1]


def test_changes_in_mongodb_that_no_listener_brings_are_found(pipeline, observer, persisted, stored, users):
    """Updates, replacements with and without a version, deletions and insertions by others are each found."""
    persisted("updated", "replaced", "kept-version", "deleted", "right")
    assert users.get("inserted") is None
    assert users.get("right") == {"_id": "right", "n": 1}
    settle(observer)
    stored.update_one({"_id": "updated"}, {"$set": {"n": 2}})
    stored.replace_one({"_id": "replaced"}, {"n": 2})
    stored.replace_one({"_id": "kept-version"}, stored.find_one({"_id": "kept-version"}) | {"n": 2})
    stored.delete_one({"_id": "deleted"})
    stored.insert_one({"_id": "inserted", "n": 1})

    expected = {
        "updated": "different",
        "replaced": "different",
        "kept-version": "different",
        "deleted": "gone",
        "inserted": "hidden",
    }
    step_until(observer, lambda: set(found(pipeline)) >= set(expected), "all of them")
    assert expected == found(pipeline)
    assert figures(pipeline)["sources"]["changes"]["1"]["wrong"] >= len(expected)


def test_a_lost_pending_write_and_an_older_one_in_its_place_are_found(pipeline, observer, persisted):
    """Pending documents are right whatever MongoDB has, unless the entry is gone, or older than what it has."""
    old = persisted("older", collection="slow")
    persisted("older", n=2, collection="slow")
    slow = pipeline.collection("slow")
    for name in ("lost", "older", "right"):
        slow.put(name, {"n": 3})
    settle(observer)
    pipeline.store._wire.call("DEL", key(pipeline, "lost", "slow"))
    pipeline.store._wire.call("SET", key(pipeline, "older", "slow"), old["older"])

    step_until(observer, lambda: len(found(pipeline)) >= 2, "both")
    assert {"lost": "lost", "older": "older"} == found(pipeline)


def test_what_is_repaired_is_right_within_the_longer_windows(pipeline, observer, persisted, stored, users):
    """What was wrong for more than a second and is repaired then is wrong within 1 s, and right within 10 s."""
    persisted("ada")
    settle(observer)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    step_until(observer, lambda: found(pipeline), "it to be found")
    pipeline.store.cache.invalidate_many([DocumentId.of("users", "ada").member])
    step_until(observer, lambda: not len(observer.suspects), "it to be decided")
    step_until(observer, lambda: counted(pipeline, 10)[0], "it to be counted")
    assert counted(pipeline, 1)[1] >= 1
    assert 0 == counted(pipeline, 10)[1] == counted(pipeline, 60)[1]


def test_a_stale_entry_is_read_anew_as_for_any_client(pipeline, observer, mongo_client, stored):
    """What is served stale while it is read anew is right for whoever asks again, so within a second."""
    others = stored.database["old"]
    others.insert_one({"_id": "ada", "n": 1})
    old = pipeline.collection("old")
    assert old.get("ada") == {"_id": "ada", "n": 1}
    settle(observer)
    others.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    pipeline.store._wire.call("PEXPIRE", key(pipeline, "ada", "old"), 29_000)
    step_until(observer, lambda: observer.tally.total["old changes 1 looks"], "the look to be decided")
    step_until(observer, lambda: not len(observer.suspects), "no suspect")
    assert {} == found(pipeline)
    assert old.get("ada") == {"_id": "ada", "n": 2}


def test_what_stays_wrong_is_wrong_within_each_window(pipeline, observer, persisted, stored, monkeypatch):
    """After 60 s a document counts as wrong within 1, 10 and 60 s; time is short here."""
    monkeypatch.setattr("writebehind.consistency.suspects.WINDOWS", (0.4, 0.8, 1.2))
    monkeypatch.setattr("writebehind.consistency.suspects.FIRST_S", 0.1)
    persisted("ada", "bob")
    settle(observer)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    step_until(observer, lambda: all(counted(pipeline, window)[1] for window in (1, 10, 60)), "all windows")
    shares = [figures(pipeline)["windows"][window] for window in ("1", "10", "60")]
    assert all(0 < one["ratio_from"] < one["ratio"] < one["ratio_to"] < 1 or not one["apart"] for one in shares)


def test_one_observes_at_a_time(pipeline, other, observer, persisted):
    """Of two observers one looks; the other one goes on when it is gone."""
    second = other.observer()
    persisted("ada")
    settle(observer)
    assert second.step() > 1
    assert not second.tally.total
    observer.close()
    settle(second)
    assert second.tally.total
    second.close()


def test_who_has_lost_the_lead_hears_and_knows_nothing(pipeline, observer, persisted, stored):
    """Changes of the time in which another one leads are no news to it, so what it knew may be wrong by then."""
    ada = persisted("ada")["ada"]
    settle(observer)
    verified, lease = observer._comparison.verified, pipeline.store.lease(CONSISTENCY_LEASE, 10_000)
    assert verified.has("users/s:ada", ada[: len(Entry.loaded(b"", 0).value)])
    observer._lease.release()
    assert lease.take()
    step_until(observer, lambda: not observer._leads, "the lead to be lost")
    assert not observer.hears
    assert not any(verified._places)
    stored.update_one({"_id": "ada"}, {"$set": {"n": -1}})
    lease.release()
    step_until(observer, lambda: "ada" in found(pipeline), "the change to be found")


def test_nothing_is_repaired(pipeline, observer, persisted, stored):
    """The observer changes neither Redis nor MongoDB, but for its own keys."""
    persisted("ada", "bob")
    pipeline.collection("slow").put("pending", {"n": 1})
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    wire = pipeline.store._wire

    def state() -> tuple[dict[bytes, object], list[dict]]:
        names = [
            one
            for one in wire.call("KEYS", "*")
            if b"consisten" not in one and one not in {b"wb:observed", b"wb:labels"}
        ]
        values = {name: wire.call("DUMP", name) for name in names}
        return values, list(stored.find())

    before = state()
    settle_or_find = time.monotonic() + 1.5
    step_until(observer, lambda: found(pipeline) and time.monotonic() > settle_or_find, "it to be found")
    after = state()
    assert {one for one in before[0].keys() | after[0].keys() if before[0].get(one) != after[0].get(one)} == set()
    assert before == after


def test_a_garbled_entry_is_wrong_and_stops_nobody(pipeline, observer, persisted):
    """What other hands make of an entry is a fault; another type is taken out, and the walk goes on."""
    persisted("garbled", "list", "ada")
    settle(observer)
    wire, of = pipeline.store._wire, key(pipeline, "list")
    wire.call("SET", key(pipeline, "garbled"), b"nonsense", "PX", 60_000)
    wire.call("DEL", of)
    wire.call("RPUSH", of, b"x")
    wire.call("SET", partition_keys(0).entry("users/x:no-member"), b"y", "PX", 60_000)
    step_until(observer, lambda: "garbled" in found(pipeline), "it to be found")
    assert {"garbled"} == set(found(pipeline))
