"""Dead letters over a unique value: only where two documents have it, and none that waits for nobody."""

from __future__ import annotations

from base64 import b64encode

import bson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, spread, usernames
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.flushing.dead_letters import Filter
from writebehind.redis.keys import partition_keys

#: What stands for no unique value of a document.
NO_CLAIMS = [
    *(
        {},
        {"username": "y", "number": 5},
        {"$where": "y"},
        {"$and": []},
        {"$or": 5},
        {"": "y"},
        {"username.": "y"},
    ),
    *({"username": one} for one in (bson.Regex("y"), {"$bad": 1}, ["y"], bson.Code("y"), None, float("nan"))),
]


def test_two_documents_that_both_have_a_value(pipeline, users, stored, caplog):
    """The one that comes second is a dead letter until the first gives the value up; the log says which."""
    caplog.set_level("INFO")
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    assert ({first: "x"}, 1) == (usernames(stored), letters(pipeline))

    users.put(first, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)

    assert ({first: "y", second: "x"}, 0) == (usernames(stored), letters(pipeline))
    [freed] = [one for one in caplog.records if getattr(one, "event", "") == "letter_freed"]
    assert f"dead letter users {second} is tried again: the document that had" in freed.getMessage()


def test_a_replay_brings_what_is_in_the_way_first(pipeline, users, stored):
    """An operator who replays a letter need not know the order."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    users.delete(first)

    [letter] = pipeline.dead_letters.page(Filter()).letters
    pipeline.dead_letters.replay([letter])
    flush(pipeline, second)

    assert ({second: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_holder_that_becomes_a_dead_letter_itself(pipeline, users, stored):
    """It has given its value up by what was acknowledged, so who waits for the value gets it."""
    holder, waits, other = spread(pipeline, 3)
    users.put(holder, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    assert 1 == letters(pipeline)

    users.put(holder, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)

    assert ("x", "y") == (usernames(stored)[waits], usernames(stored)[other])
    assert [holder] == [one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters]


@pytest.mark.parametrize("step", ["note", "_refuse", "look"])
def test_a_flusher_that_dies_while_it_gives_up(pipeline, users, stored, monkeypatch, step):
    """And the holder changes meanwhile: the sweep finds what nobody else will."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    owner = pipeline.flusher._batches._recorder if step == "_refuse" else pipeline.contention
    done = getattr(owner, step)

    def dies(*arguments, **options):
        if step != "look":
            done(*arguments, **options)
        users.put(first, {"username": "y"})
        flush(pipeline, first)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(KeyboardInterrupt):
            flush(pipeline, second)
    pipeline.store._wire.call("DEL", partition_keys(pipeline.store.partition_of(f"users/s:{second}")).lease)
    pipeline.maintenance.sweep()
    flush_all(pipeline)

    assert ({first: "y", second: "x"}, 0) == (usernames(stored), letters(pipeline))
    pipeline.contention.changed([f"users/s:{first}"])
    pipeline.maintenance.sweep()
    assert not any(
        pipeline.store._wire.call("EXISTS", partition_keys(one).awaited)
        for one in range(pipeline.settings.partitions)
    )


@pytest.mark.parametrize("field", ["email", "number"])
def test_a_unique_index_that_is_not_listed(pipeline, users, stored, field):
    """Nobody knows what frees its values: the second document is a dead letter at once, as in any collection."""
    one, other = spread(pipeline, 2)
    stored.create_index("email", unique=True, sparse=True)
    users.put(one, {"username": "x", field: 5})
    flush_all(pipeline)
    users.put(other, {"username": "y", field: 5})
    sends = []
    write = pipeline.sink.write
    pipeline.sink.write = lambda *arguments, **options: sends.append(1) or write(*arguments, **options)

    flush(pipeline, other)

    assert 1 == letters(pipeline)
    assert len(sends) <= 3


def test_a_document_behind_one_that_is_dead(pipeline, users, stored):
    """Its value is free, as that one has given it up, although MongoDB will not take what it became instead."""
    holder, dead, last = spread(pipeline, 3)
    users.put(holder, {"username": "x"})
    users.put(dead, {"username": "y"})
    flush_all(pipeline)
    users.put(dead, {"username": "x"})
    users.put(last, {"username": "y"})

    flush(pipeline, last)

    assert ("x", "y") == (usernames(stored)[holder], usernames(stored)[last])
    assert [dead] == [one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters]
    assert {"_id": dead, "username": "x"} == users.get(dead)


def test_a_value_that_was_taken_from_a_dead_letter(pipeline, stored):
    """What is left of it in MongoDB is ours: the change stream's event makes no conflict of what came since."""
    theirs = pipeline.collection("theirs")
    documents = stored.database["theirs"]
    documents.create_index("username", unique=True, sparse=True)
    one, other, waits = (theirs.id(name) for name in ("one", "other", "waits"))
    theirs.put("one", {"username": "x", "n": 1})
    theirs.put("other", {"username": "y"})
    flush_all(pipeline)
    theirs.put("one", {"username": "y", "n": 2})
    theirs.put("waits", {"username": "x"})
    flush_all(pipeline)
    assert {"other": "y", "waits": "x", "one": None} == usernames(documents)
    assert 1 == letters(pipeline)

    left = pipeline.sink.find(one)
    theirs.put("one", {"username": "z"})
    pipeline.store.pending.record_sending(
        pipeline.store.partition_of(one.member), {one.member: theirs.read("one").entry}
    )
    applied = pipeline.applier.apply([OutsideChange(one, "replace", pipeline.store.now_ms() + 5_000, left)])
    assert (0, 0) == (applied.conflicts, letters(pipeline))
    flush_all(pipeline)

    assert {"other": "y", "waits": "x", "one": "z"} == usernames(documents)
    assert other != waits


def test_a_letter_that_waits_for_another_one_by_now(pipeline, users, stored):
    """It is not tried again as long as anybody has the value, and then it is."""
    first, second, waits = spread(pipeline, 3)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    users.put(first, {})
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    flush_all(pipeline)
    [letter] = pipeline.dead_letters.page(Filter()).letters

    for n in range(3):
        users.put(first, {"n": n})
        flush(pipeline, first)
        pipeline.maintenance.sweep()
    assert [letter] == pipeline.dead_letters.page(Filter()).letters

    users.delete(second)
    flush_all(pipeline)
    flush_all(pipeline)
    assert ("x", 0) == (usernames(stored)[waits], letters(pipeline))


@pytest.mark.parametrize(
    "noted",
    [
        *("garbage!", "", b"\xff\xfe", b64encode(b"garbage"), b64encode(b"\x10\0\0\0garbage and more\0")),
        *(b64encode(bson.encode(one)) for one in NO_CLAIMS),
    ],
    ids=repr,
)
def test_a_note_that_other_hands_have_changed(pipeline, users, stored, noted):
    """It keeps no document from being persisted, and the letter is tried again as one that waits for any value."""
    first, waits = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    key = partition_keys(pipeline.store.partition_of(f"users/s:{first}")).waiting(f"users/s:{first}")
    assert 0 == pipeline.store._wire.call("HSET", key, f"users/s:{waits}", noted)

    users.put(first, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)

    assert ({first: "y", waits: "x"}, 0) == (usernames(stored), letters(pipeline))
