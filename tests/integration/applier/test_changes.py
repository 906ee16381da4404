"""Changes of others in MongoDB, on real servers: seen, told from our own, and forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import bson
import pytest

from tests.integration.applier.conftest import LATER_MS, change, counts, flush, their_change, with_slow
from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.change_stream.verdicts import Known, Verdict, judge
from writebehind.documents.ids import DocumentId


def is_cached(pipeline: Pipeline, name: str) -> bool:
    return pipeline.store.cache.get(DocumentId.of("slow", name).member)[0] is not None


def test_what_the_pipeline_writes_is_its_own(pipeline, users, stored):
    """The events of its own writes invalidate nothing, before they are settled, after, and when they come late."""
    for n in range(3):
        users.put("ada", {"n": n})
        [entry] = [users.read("ada").entry]
        event = change("insert", "ada", bson.decode(entry.body) | {"_v": bson.Int64(entry.version)})
        assert event.after == entry
        assert (1, 0, 0) == counts(pipeline, event)
        flush_all(pipeline)
        assert (1, 0, 0) == counts(pipeline, event)
    late = change("replace", "ada", {"_id": "ada", "n": 0, "_v": bson.Int64(entry.version - 5)})
    assert (1, 0, 0) == counts(pipeline, late)
    assert is_cached(pipeline, "ada")
    users.delete("ada")
    assert (1, 0, 0) == counts(pipeline, change("delete", "ada"))
    flush_all(pipeline)
    assert (2, 0, 0) == counts(pipeline, change("delete", "ada"), late)
    users.put("ada", {"n": 5})
    assert (2, 0, 0) == counts(pipeline, change("delete", "ada"), late)
    flush_all(pipeline)
    assert (1, 0, 0) == counts(pipeline, change("delete", "ada"))
    assert 5 == users.get("ada")["n"]


@pytest.mark.parametrize("operation", ["update", "replace", "replace with the version", "delete", "insert"])
def test_what_others_write_is_seen(pipeline, users, stored, operation):
    """A cached document is dropped, and so is the knowledge that there is none."""
    if operation == "insert":
        assert users.get("ada") is None
        stored.insert_one({"_id": "ada", "n": 7})
    else:
        users.put("ada", {"n": 1})
        flush_all(pipeline)
        if operation == "update":
            stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
        elif operation == "delete":
            stored.delete_one({"_id": "ada"})
        else:
            version = stored.find_one()["_v"]
            stored.replace_one({"_id": "ada"}, {"n": 7} | ({"_v": version} if "version" in operation else {}))
    after = stored.find_one({"_id": "ada"})
    event = change(operation.split()[0], "ada", after)
    assert (0, 1, 0) == counts(pipeline, event)
    assert (after and 7) == ((users.get("ada") or {}).get("n"))
    assert (1, 0, 0) == counts(pipeline, event)  # again: the cache has it by now


def test_a_load_on_its_way_is_not_kept(pipeline, users, stored):
    """What was loaded before a change is not cached after it."""
    member = DocumentId.of("slow", "ada").member
    stored.insert_one({"_id": "ada", "n": 1})
    lookup = pipeline.store.loads.get_or_lease(member, "reader", life_ms=5_000)
    assert lookup.may_load
    loaded = pipeline.sink.find(DocumentId.of("slow", "ada"))
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    assert (0, 0, 0) == counts(pipeline, change("update", "ada", {"_id": "ada", "n": 2}))
    assert not pipeline.store.loads.fill(member, "reader", loaded, ttl_ms=60_000).is_stored
    assert 2 == users.get("ada")["n"]


def test_versions_stay_as_they_were_acknowledged(pipeline, users, stored):
    """Events of our own and of others change none that MongoDB has not been given yet."""
    users.put("ada", {"n": 1})
    flush(pipeline, "ada", lambda: users.put("ada", {"n": 2}))
    version = users.read("ada").entry.version
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", stored.find_one()))
    assert (0, 0, 1) == counts(pipeline, their_change(stored, "update"))
    flush_all(pipeline)
    assert {"_id": "ada", "n": 2, "_v": version} == stored.find_one()


@pytest.mark.parametrize("late_ms", [0, LATER_MS])
def test_our_late_event_changes_nothing(pipeline, users, stored, late_ms):
    """A former write of ours that is reported while the next is on its way does not have that written twice."""
    users.put("ada", {"n": 1})
    flush(pipeline, "ada", lambda: users.put("ada", {"n": 2}))
    event = change("insert", "ada", stored.find_one(), at_ms=int(time.time() * 1000) + late_ms)
    version = users.read("ada").entry.version
    flush(pipeline, "ada", lambda: counts(pipeline, event))
    flush_all(pipeline)
    assert {"_id": "ada", "n": 2, "_v": version} == stored.find_one()


def test_a_read_that_is_faster_than_the_event(pipeline, stored):
    """That the cache has their document already does not leave behind that nobody has its unique value."""
    pipeline = with_slow(pipeline, lookup={"name": "string"})
    users = pipeline.collection("slow")
    assert users.look_up("name", "bob")[0] is None
    stored.insert_one({"_id": "ada", "name": "bob"})
    assert "bob" == users.get("ada")["name"]
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", {"_id": "ada", "name": "bob"}))
    assert users.look_up("name", "bob")[0] == users.id("ada")


def test_large_documents_are_not_kept_in_the_log(pipeline, users):
    """The log says how large they are."""
    users.put("ada", {"text": "x" * 20_000})
    assert (0, 0, 1) == counts(pipeline, change("delete", "ada"))
    [noted] = pipeline.conflicts.latest()
    assert 20_000 < noted["ours"]["bytes"] < 21_000
    assert noted["theirs"] is None


def test_forgetting(pipeline, users):
    """Entries of a collection are dropped, but nothing that MongoDB does not have."""
    through = pipeline.collection("through")
    for n in range(30):
        users.put(f"u{n}", {"n": n})
    flush_all(pipeline)
    users.put("u0", {"n": -1})
    through.put("t", {"n": 1})
    beats = []
    assert 29 == pipeline.applier.forget("slow", lambda: beats.append(1))
    assert beats
    assert [True, False] == [is_cached(pipeline, name) for name in ("u0", "u1")]
    assert 1 == pipeline.applier.forget("", lambda: None)
    assert -1 == users.get("u0")["n"]


def test_unversioned_documents_that_are_refilled(pipeline, users, stored):
    """What the cache has been filled with since is not dropped again."""
    stored.insert_one({"_id": "ada", "n": 7})
    assert 7 == users.get("ada")["n"]
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", {"_id": "ada", "n": 7}))
    assert Verdict.OUTSIDE is judge(
        change("insert", "ada", {"_id": "ada", "n": 8}),
        Known(replace(users.read("ada").entry, etag="x"), pending=False),
    )


def test_forgetting_a_collection_while_it_is_loaded(settings, valkey_wire, mongo_client, monkeypatch):
    """What a reader was loading, an entry or an alias, is not stored after its collection was forgotten."""
    values = settings.model_dump() | {"collections": {"users": {"lookup": {"name": "string"}}}}
    pipeline = Pipeline(Settings.model_validate(values), wire=valkey_wire, client=mongo_client)
    users, documents = pipeline.collection("users"), mongo_client[settings.mongodb_database]["users"]

    def meanwhile(method: str, step: Callable[[], object]) -> None:
        original = getattr(pipeline.sink, method)

        def loaded_before(*wanted: object) -> object:
            monkeypatch.undo()
            found = original(*wanted)
            step()
            pipeline.applier.forget("users", lambda: None)
            return found

        monkeypatch.setattr(pipeline.sink, method, loaded_before)

    documents.insert_one({"_id": "ada", "name": "Ada"})
    meanwhile("find", documents.drop)
    users.get("ada")
    assert users.get("ada") is None
    meanwhile("find_by", lambda: documents.insert_one({"_id": "bob", "name": "Bob"}))
    users.look_up("name", "Bob")
    assert "bob" == users.look_up("name", "Bob")[0].text
