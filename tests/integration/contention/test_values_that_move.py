"""Unique values that move from document to document: on, in chains, in circles, and what readers see meanwhile."""

from __future__ import annotations

import re

import bson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, spread, usernames
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.flushing.contention import REPLAYED
from writebehind.flushing.dead_letters import Filter
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script


def test_a_value_that_a_deleted_document_had(pipeline, users, stored):
    """The new document is flushed first: the deletion comes before it, which is no dead letter meanwhile."""
    old, new = spread(pipeline, 2)
    users.put(old, {"username": "x"})
    flush_all(pipeline)
    users.delete(old)
    users.put(new, {"username": "x"})

    assert 0 == flush(pipeline, new).buried

    assert {new: "x"} == usernames(stored)
    assert (0, 0) == (letters(pipeline), pipeline.status()["pending"])


@pytest.mark.parametrize("length", [2, 3, 9])
@pytest.mark.parametrize("first", ["head", "tail"])
@pytest.mark.parametrize("circle", [True, False], ids=["circle", "chain"])
def test_values_that_move_on(pipeline, users, stored, length, first, circle):
    """Each document gets the value of the next one; in a circle the last gets that of the first."""
    names = spread(pipeline, length)
    for at, name in enumerate(names):
        users.put(name, {"username": str(at)})
    flush_all(pipeline)
    wanted = {name: str(at + 1) for at, name in enumerate(names)}
    if circle:
        wanted[names[-1]] = "0"
    for name, value in wanted.items():
        users.put(name, {"username": value})

    flush(pipeline, names[0] if first == "head" else names[-1])
    flush_all(pipeline)

    assert wanted == usernames(stored)
    assert 0 == letters(pipeline)


def test_an_exchange_of_two_unique_fields(pipeline, users, stored):
    """Both at once."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x", "number": 1})
    users.put(other, {"username": "y", "number": 2})
    flush_all(pipeline)
    users.put(one, {"username": "y", "number": 2})
    users.put(other, {"username": "x", "number": 1})

    flush_all(pipeline)

    found = {found["_id"]: (found["username"], found["number"]) for found in stored.find()}
    assert {one: ("y", 2), other: ("x", 1)} == found
    assert 0 == letters(pipeline)


def test_an_exchange_of_documents_of_others(pipeline, users, stored):
    """What somebody else has put into MongoDB, without a version, makes room as well."""
    one, other = spread(pipeline, 2)
    stored.insert_many([{"_id": one, "username": "x"}, {"_id": other, "username": "y"}])
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})

    flush_all(pipeline)

    assert {one: "y", other: "x"} == usernames(stored)
    assert 0 == letters(pipeline)


def test_readers_of_an_exchange_see_all_of_it(pipeline, users, stored, monkeypatch):
    """While one document is without its value in MongoDB, it is read by its id and found by its value."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    seen = []
    unset = pipeline.sink.unset

    def making_room(*arguments, **options):
        done = unset(*arguments, **options)
        seen.append(({name: users.get(name) for name in (one, other)}, users.look_up("username", "x")[0]))
        return done

    monkeypatch.setattr(pipeline.sink, "unset", making_room)
    flush_all(pipeline)

    states = {one: {"_id": one, "username": "y"}, other: {"_id": other, "username": "x"}}
    assert [(states, users.id(other))] == seen


def test_a_value_that_others_set_free(pipeline, users, stored):
    """The dead letter is tried again when somebody else has changed the document that had its value."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    stored.delete_one({"_id": first})

    pipeline.applier.apply([OutsideChange(users.id(first), "delete", pipeline.store.now_ms())])
    flush_all(pipeline)

    assert ({second: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_many_that_wait_for_one_value(pipeline, users, stored):
    """A few are tried when it is given up, and one of them gets it."""
    first, *others = spread(pipeline, 41)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    for name in others:
        users.put(name, {"username": "x"})
    flush_all(pipeline)
    assert len(others) == letters(pipeline)

    users.put(first, {"username": "y"})
    replays = []
    replay = pipeline.dead_letters.replay
    pipeline.dead_letters.replay = lambda found, **options: replays.extend(found) or replay(found, **options)
    flush(pipeline, first)
    assert 1 <= len(replays) <= REPLAYED
    flush_all(pipeline)

    assert ["x"] == [value for name, value in usernames(stored).items() if name != first]
    assert len(others) - 1 == letters(pipeline)


def test_a_document_of_others(pipeline, users, stored):
    """Whose id none of ours can have keeps its value: ours is a dead letter, and the rest is flushed."""
    stored.insert_one({"_id": 0.5, "username": "x"})
    users.put("a", {"username": "x"})
    users.put("b", {"username": "y"})

    flush_all(pipeline)

    assert 1 == letters(pipeline)
    assert "y" == usernames(stored)["b"]


@pytest.mark.parametrize("way", ["unset", "vacate"])
def test_the_cycle_is_nobody_elses_change(pipeline, users, stored, monkeypatch, way):
    """What lets the others pass is known again when MongoDB reports it, be it a document or a deletion.

    So is a late write before it. It may have any earlier version: what is pending was reissued under the next.
    """
    outside = []
    one, other = spread(pipeline, 2)
    for name, value in ((one, "x"), (other, "y")):
        users.put(name, {"username": value})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    make_room = getattr(pipeline.sink, way)

    def making_room(document_id, *arguments, **options):
        done = make_room(document_id, *arguments, **options)
        known = pipeline.applier._known([document_id.member])[document_id.member]
        there = pipeline.sink.find(document_id)
        operation, after = ("replace", there) if there.exists else ("delete", None)
        now_ms = pipeline.store.now_ms()
        earlier = Entry.loaded(bson.encode({"_id": document_id.text}), known.version - 1)
        late = OutsideChange(document_id, "replace", now_ms, earlier)
        ours = OutsideChange(document_id, operation, now_ms, after)
        outside.append((known.pending, there.exists, known.may_be_ours(ours), known.may_be_ours(late)))
        return done

    if way == "vacate":
        monkeypatch.setattr(pipeline.sink, "unset", lambda *_, **__: False)
    monkeypatch.setattr(pipeline.sink, way, making_room)
    flush_all(pipeline)

    assert [(True, way == "unset", True, True)] == outside
    assert {one: "y", other: "x"} == usernames(stored)


def test_a_document_of_a_circle_that_is_refused_for_another_reason(pipeline, users, stored):
    """MongoDB goes on having it, but for the value that it has given up; so who discards the letter sees that."""
    one, other, third = spread(pipeline, 3)
    users.put(one, {"username": "x", "n": 1})
    users.put(other, {"username": "y", "number": 2, "n": 2})
    users.put(third, {"number": 3})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x", "number": 3})

    flush_all(pipeline)

    left = {"_id": other, "number": 2, "n": 2}
    [letter] = pipeline.dead_letters.page(Filter()).letters
    assert (other, "y") == (letter.letter.id.text, usernames(stored)[one])
    assert left == stored.find_one({"_id": other}, {"_v": 0})
    assert 1 == pipeline.dead_letters.discard([letter])
    assert left == users.get(other)


@pytest.mark.parametrize("first", [0, 1])
def test_a_flusher_that_dies_in_a_circle(pipeline, users, stored, monkeypatch, first):
    """No document has left MongoDB then, and the next flusher goes on."""
    names = spread(pipeline, 2)
    for name, value in zip(names, "xy", strict=True):
        users.put(name, {"username": value, "n": 1})
    flush_all(pipeline)
    for name, value in zip(names, "yx", strict=True):
        users.put(name, {"username": value, "n": 2})
    unset = pipeline.sink.unset

    def dies(*arguments, **options):
        unset(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "unset", dies)
        with pytest.raises(KeyboardInterrupt):
            flush(pipeline, names[first])
    pipeline.store._wire.call("DEL", partition_keys(pipeline.store.partition_of(f"users/s:{names[first]}")).lease)
    assert dict.fromkeys(names, 1) == {one["_id"]: one["n"] for one in stored.find()}

    flush_all(pipeline)

    assert dict(zip(names, "yx", strict=True)) == usernames(stored)


def test_a_circle_in_a_collection_that_requires_the_field(pipeline, users, stored):
    """One document leaves MongoDB for as long as it takes, and comes back."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    stored.database.command("collMod", stored.name, validator={"username": {"$exists": True}})
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})

    flush_all(pipeline)

    assert ({one: "y", other: "x"}, 0) == (usernames(stored), letters(pipeline))


@pytest.mark.parametrize(("version", "counts"), [(7, " 3 1"), (8, "")])
def test_attempts_go_on_being_counted_in_a_circle(valkey_wire, version, counts):
    """Those of the version that was tried: else a document that MongoDB never takes is tried without end."""
    valkey_wire.call("HSET", "{k}:sent", "users/s:a", f"{7:016d}X 1000 {6:016d}X 3 1")
    notes = ("users/s:a", f"{version:016d}X", f"{version - 1:016d}X")

    valkey_wire.run(script("record_vacating"), ("{k}:sent",), notes)

    noted = valkey_wire.call("HGET", "{k}:sent", "users/s:a").decode()
    assert re.fullmatch(rf"{version:016d}X \d+ {version - 1:016d}X{counts}", noted)


def test_a_newer_version_that_is_being_sent_keeps_its_note(valkey_wire):
    """Else a change of others after it is taken for one that it comes after, and nobody writes it once more."""
    newer = f"{8:016d}X 1000 {6:016d}X"
    valkey_wire.call("HSET", "{k}:sent", "users/s:a", newer)
    notes = ("users/s:a", f"{7:016d}X", f"{0:016d}X")

    assert 0 == valkey_wire.run(script("record_vacating"), ("{k}:sent",), notes)

    assert newer == valkey_wire.call("HGET", "{k}:sent", "users/s:a").decode()


def test_a_document_that_is_sent_anew_makes_no_room(pipeline, users, stored, monkeypatch):
    """What is in the way is looked at again then, and gives its value up only when that is noted."""
    one, other = spread(pipeline, 2)
    for name, value in ((one, "x"), (other, "y")):
        users.put(name, {"username": value})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    steps = []
    record = pipeline.store.awaited.record_vacating

    def first_too_late(*arguments):
        if not steps:
            steps.append(None)
            return False
        steps.append(usernames(stored))
        return record(*arguments)

    monkeypatch.setattr(pipeline.store.awaited, "record_vacating", first_too_late)
    flush_all(pipeline)

    assert [None, {one: "x", other: "y"}] == steps
    assert {one: "y", other: "x"} == usernames(stored)


@pytest.mark.parametrize("meanwhile", ["nothing", "deleted"])
def test_a_circle_that_fails_in_a_collection_that_requires_the_field(
    pipeline, other, users, stored, monkeypatch, meanwhile
):
    """Who has left MongoDB to make room, and is refused after all, comes back there; not if it was deleted."""
    one, two, third = spread(pipeline, 3)
    users.put(one, {"username": "x", "n": 1})
    users.put(two, {"username": "y", "number": 2})
    users.put(third, {"username": "z", "number": 3})
    flush_all(pipeline)
    before = {found["_id"]: found for found in stored.find()}
    stored.database.command("collMod", stored.name, validator={"username": {"$exists": True}})
    users.put(one, {"username": "y"})
    users.put(two, {"username": "x", "number": 3})
    put_back = pipeline.sink.put_back

    def late(*arguments):
        if meanwhile == "deleted":
            users.delete(one)
            pipeline.store._wire.call("DEL", partition_keys(pipeline.store.partition_of(f"users/s:{one}")).lease)
            flush(other, one)
        return put_back(*arguments)

    monkeypatch.setattr(pipeline.sink, "put_back", late)
    flush(pipeline, one)

    if meanwhile == "deleted":
        del before[one]
    assert before == {found["_id"]: found for found in stored.find()}
