"""Bodies that were changed under their own ETag and version: in Redis, and in MongoDB while no listener ran."""

from __future__ import annotations

import struct

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument

from tests.damage import DAMAGES, damage
from tests.integration.conftest import flush_all
from tests.integration.reconcile.conftest import fill, member, of
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.raw_bson import append_version, split_version
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.reconcile.findings import Drift


@pytest.mark.parametrize("changed", DAMAGES.values(), ids=DAMAGES)
def test_a_cached_body_that_was_changed_gives_way_to_mongodb(pipeline, users, planted, changed):
    """It is named, and dropped, so that readers see what MongoDB has; its neighbours stay."""
    fill(pipeline, 20)
    planted("ada")
    damage(pipeline, "ada", changed)

    assert {Drift.DAMAGED_ENTRY: 1} == pipeline.reconciler.make_pass(repair=False).found
    found = pipeline.reconciler.make_pass()

    assert {Drift.DAMAGED_ENTRY: [member("ada")]} == found.samples
    assert found.found == found.repaired
    assert (21, 20) == (found.checked, found.equal)
    assert {"_id": "ada", "name": "ada", "n": 1} == users.get("ada")
    assert {} == pipeline.reconciler.make_pass().found


def test_the_periodic_task_sees_it_too(pipeline, users, planted, later):
    """Damage that one step has seen is confirmed, counted and repaired by a later one."""
    planted("ada")
    damage(pipeline, "ada")
    assert {} == pipeline.reconciler.go_on()["found"]
    later(pipeline.settings.reconcile_pass_s + 1)
    assert {Drift.DAMAGED_ENTRY: 1} == pipeline.reconciler.go_on()["found"]
    assert 1 == users.get("ada")["n"]


def test_an_etag_and_a_header_that_were_changed(pipeline, users, planted):
    """What cannot be what was written is dropped as well: a wrong ETag, a header that nobody can read."""
    wire = pipeline.store._wire
    for name, spoiled in (("ada", b"0" * 32), ("eve", b"\r\n" * 16)):
        planted(name)
        key = of(pipeline, name).entry(member(name))
        wire.call("SETRANGE", key, 17, spoiled)
    planted("bob")
    wire.call("SET", of(pipeline, "bob").entry(member("bob")), b"garbage", "KEEPTTL")

    found = pipeline.reconciler.make_pass()

    assert {Drift.DAMAGED_ENTRY: 3} == found.found == found.repaired
    assert [1, 1, 1] == [users.get(name)["n"] for name in ("ada", "eve", "bob")]


def test_a_body_of_16_mb(pipeline, users, stored):
    """It is read in parts: a change at its very end is seen, and the same document unchanged is right."""
    for name in ("large", "right"):
        entry = Entry.loaded(bson.encode({"_id": name, "text": "x" * 15_900_000}), 5)
        stored.insert_one(RawBSONDocument(append_version(entry.body, 5)))
        pipeline.store._wire.call("SET", of(pipeline, name).entry(member(name)), entry.value, "PX", 600_000)
    damage(pipeline, "large", lambda old: old[:-3] + b"y" + old[-2:])

    found = pipeline.reconciler.make_pass()

    assert {Drift.DAMAGED_ENTRY: [member("large")]} == found.samples
    assert 15_900_000 == len(users.get("large")["text"])


def test_a_pending_body_that_was_changed_becomes_a_dead_letter(pipeline, users, stored):
    """It is neither written to MongoDB nor deleted: the letter has what stands there, and no replay tries it."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    version = users.put("ada", {"n": 2}).version
    damage(pipeline, "ada")

    dry = pipeline.reconciler.make_pass(repair=False)
    assert (1, {}) == (dry.found[Drift.DAMAGED_ENTRY], dry.repaired)
    found = pipeline.reconciler.make_pass()

    assert 1 == found.found[Drift.DAMAGED_ENTRY] == found.repaired[Drift.DAMAGED_ENTRY]
    [letter] = pipeline.dead_letters.all(Filter())
    assert (Reason.DAMAGED, version, Kind.DOCUMENT) == (
        letter.letter.reason,
        letter.letter.version,
        letter.letter.kind,
    )
    assert "theirs" == bson.decode(letter.letter.body)["n"]
    assert {"damaged": 1} == pipeline.dead_letters.replay([letter], conflicts=True).left
    flush_all(pipeline)
    assert 1 == stored.find_one({"_id": "ada"})["n"] == users.get("ada")["n"]
    assert not pipeline.store._wire.call("ZCARD", of(pipeline, "ada").pending)


def test_a_pending_body_that_mongodb_has_already(pipeline, users, stored):
    """MongoDB has got that very write, so that is the truth: nothing is lost, and no letter is written."""
    users.put("ada", {"n": 2})
    entry = damage(pipeline, "ada")
    stored.insert_one(RawBSONDocument(append_version(entry.body, entry.version)))

    found = pipeline.reconciler.make_pass()

    assert 1 == found.repaired[Drift.DAMAGED_ENTRY]
    assert 0 == pipeline.dead_letters.count()
    assert {"_id": "ada", "n": 2} == users.get("ada")
    flush_all(pipeline)
    assert {} == pipeline.reconciler.make_pass().found


def test_a_refused_body_that_was_changed_is_named_and_left(pipeline, users):
    """Nobody knows what it was: readers may see it, the letter stays, and each pass says so."""
    version = users.put("ada", {"n": 2}).version
    letter = DeadLetter(member("ada"), Reason.REFUSED, 121, "no", version, Kind.DOCUMENT, 1, 1.0)
    pipeline.store.pending.bury(member("ada"), f"{version:016d}", letter.dump())
    damage(pipeline, "ada")

    for _ in range(2):
        found = pipeline.reconciler.make_pass()
        assert ({Drift.DAMAGED_ENTRY: 1}, {}) == (found.found, found.repaired)
    assert 1 == pipeline.dead_letters.count()


def test_a_mark_that_is_lost_too(pipeline, users, stored):
    """A write that is not marked as pending any more, and damaged, is not flushed either."""
    users.put("ada", {"n": 2})
    damage(pipeline, "ada")
    pipeline.store._wire.call("ZREM", of(pipeline, "ada").pending, member("ada"))

    assert 1 == pipeline.reconciler.make_pass().repaired[Drift.DAMAGED_ENTRY]
    flush_all(pipeline)

    assert None is stored.find_one({"_id": "ada"})
    assert [Reason.DAMAGED] == [one.letter.reason for one in pipeline.dead_letters.all(Filter())]


BEFORE = {"n": 1, "zero": 0.0, "nan": float("nan"), "a": 1, "b": {"c": 1, "d": 2}}
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"n": Int64(1)},
        {"n": 1.0},
        {"n": Decimal128("1")},
        {"zero": -0.0},
        {"nan": OTHER_NAN},
        {"b": {"d": 2, "c": 1}},
        {"more": None},
    ],
    ids=str,
)
def test_what_others_change_in_mongodb_under_its_version(pipeline, users, stored, changed):
    """Any other byte is drift, though MongoDB takes the values for equal: other types, orders, fields and NaNs."""
    users.put("ada", BEFORE)
    flush_all(pipeline)
    before = stored.find_one({"_id": "ada"})
    stored.replace_one({"_id": "ada"}, before | changed)
    after = stored.find_one({"_id": "ada"})
    assert before["_v"] == after["_v"]
    if bson.encode(before) == bson.encode(after):
        pytest.skip("this server keeps the former value, as both are equal to it")

    found = pipeline.reconciler.make_pass()

    assert {Drift.STALE_ENTRY: 1} == found.found == found.repaired
    read = users.read("ada").entry
    assert split_version(bson.encode(after)) == (read.body, read.version)
