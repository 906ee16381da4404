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
    """What somebody else has put into MongoDB, without a version, leaves it for a moment as well."""
    one, other = spread(pipeline, 2)
    stored.insert_many([{"_id": one, "username": "x"}, {"_id": other, "username": "y"}])
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})

    flush_all(pipeline)

    assert {one: "y", other: "x"} == usernames(stored)
    assert 0 == letters(pipeline)


def test_readers_of_an_exchange_see_all_of_it(pipeline, users, stored, monkeypatch):
    """While one document has left MongoDB, it is read by its id and found by its value."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    seen = []
    vacate = pipeline.sink.vacate

    def vacating(*arguments):
        vacate(*arguments)
        seen.append(({name: users.get(name) for name in (one, other)}, users.look_up("username", "x")[0]))

    monkeypatch.setattr(pipeline.sink, "vacate", vacating)
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


def test_the_cycle_is_nobody_elses_change(pipeline, users, stored):
    """The deletion that lets the others pass is known again when MongoDB reports it.

    So is a late write before it. It may have any earlier version: what is pending was reissued under the next.
    """
    outside = []
    one, other = spread(pipeline, 2)
    for name, value in ((one, "x"), (other, "y")):
        users.put(name, {"username": value})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    vacate = pipeline.sink.vacate

    def vacating(document_id, seen):
        vacate(document_id, seen)
        known = pipeline.applier._known([document_id.member])[document_id.member]
        earlier = Entry.loaded(bson.encode({"_id": document_id.text}), known.version - 1)
        late = OutsideChange(document_id, "replace", pipeline.store.now_ms(), earlier)
        outside.append((known.pending, known.sent.has_deletion, known.may_be_ours(late)))

    pipeline.sink.vacate = vacating
    flush_all(pipeline)

    assert [(True, True, True)] == outside


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
    """What is in the way is looked at again then, and leaves MongoDB only when that is noted."""
    one, other = spread(pipeline, 2)
    for name, value in ((one, "x"), (other, "y")):
        users.put(name, {"username": value})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    steps = []
    record, vacate = pipeline.store.awaited.record_vacating, pipeline.sink.vacate

    def first_too_late(*arguments):
        steps.append("note" if steps else "too late")
        return bool(steps[1:]) and record(*arguments)

    monkeypatch.setattr(pipeline.store.awaited, "record_vacating", first_too_late)
    monkeypatch.setattr(pipeline.sink, "vacate", lambda *place: steps.append("vacate") or vacate(*place))
    flush_all(pipeline)

    assert ["too late", "note", "vacate"] == steps
    assert {one: "y", other: "x"} == usernames(stored)
