"""A `_v` that other hands wrote: whatever it is, it is read, replaced and outdone, and never poison."""

from __future__ import annotations

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument

from tests.integration.conftest import flush_all
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import VERSION_END, split_version
from writebehind.flushing.dead_letters import Filter, Reason
from writebehind.mongodb.outcomes import Result, Write
from writebehind.redis.keys import partition_keys

HOUR = 3_600_000_000
#: What somebody may put there, by a name. `AHEAD` stands for a number that the clock comes to in an hour.
AHEAD = object()
FOREIGN = {
    "missing": None,
    "zero": 0,
    "int32": 7,
    "negative": Int64(-1),
    "ahead": AHEAD,
    "ahead as double": (AHEAD, float),
    "the last that counts": Int64(VERSION_END - 1),
    "the last but one": Int64(VERSION_END - 2),
    "the first that does not": Int64(VERSION_END),
    "2^53": Int64(1 << 53),
    "17 digits": Int64(12_345_678_901_234_567),
    "the largest": Int64((1 << 63) - 1),
    "the least": Int64(-(1 << 63)),
    "double": 9e15,
    "fraction": 0.5,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "decimal": Decimal128("9000000000000000"),
    "decimal infinity": Decimal128("Infinity"),
    "decimal nan": Decimal128("NaN"),
    "text": "1790000000000000",
    "long text": "x" * 5_000,
    "true": True,
    "date": bson.DatetimeMS(1_790_000_000_000),
    "timestamp": Timestamp(1_790_000_000, 1),
    "object id": ObjectId(),
    "binary": Binary(b"\x12_v\0" + bytes(8), 0x80),
    "regular expression": Regex("1.*"),
    "document": {"_v": Int64(5)},
    "list": [Int64(1), Int64(1 << 51), 9e99],
    "empty list": [],
    "least key": MinKey(),
    "greatest key": MaxKey(),
}


@pytest.fixture(params=FOREIGN, ids=str)
def version(request, pipeline):
    """What stands in `_v`, by its name; not there where it is `None`."""
    given = FOREIGN[request.param]
    kind = Int64
    if isinstance(given, tuple):
        given, kind = given
    return kind(pipeline.store.now_ms() * 1000 + HOUR) if given is AHEAD else given


@pytest.fixture
def foreign(stored, version):
    """A document that somebody else has put into MongoDB."""
    field = {} if version is None else {"_v": version}
    stored.insert_one({"_id": "ada", "n": 1, **field})


def drained(pipeline, stored):
    """See that nothing is pending or dead once everything was flushed, and return what MongoDB has."""
    for _ in range(3):
        for partition in range(pipeline.settings.partitions):
            pipeline.flusher.drain(partition, budget_s=10)
    figures = pipeline.status()
    assert (0, 0) == (figures["pending"], figures["dead_letters"])
    found = stored.find_one({"_id": "ada"})
    return None if found is None else found.get("n")


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
@pytest.mark.usefixtures("foreign")
def test_a_write_over_it_reaches_mongodb(pipeline, users, stored, cached):
    """The acknowledged write is newer than what was there, whatever number that had; and so are the next ones."""
    if cached:
        assert {"_id": "ada", "n": 1} == users.get("ada")

    for n in (2, 3, 4):
        users.put("ada", {"n": n})
        assert n == drained(pipeline, stored)
        pipeline.store.cache.invalidate_many(["users/s:ada"])[0]
        assert {"_id": "ada", "n": n} == users.get("ada")


@pytest.mark.usefixtures("foreign")
def test_a_deletion_of_it_reaches_mongodb(pipeline, users, stored):
    """The document is gone, and can be written again."""
    users.delete("ada")
    assert drained(pipeline, stored) is None

    users.put("ada", {"n": 2})
    assert 2 == drained(pipeline, stored)
    pipeline.store._wire.call("DEL", pipeline.store.cache.key("users/s:ada"))
    pipeline.maintenance.audit_deletions()
    assert {"_id": "ada", "n": 2} == users.get("ada")


@pytest.mark.usefixtures("foreign")
def test_a_change_of_it_reaches_mongodb(pipeline, users, stored):
    """An increment, which is held against the ETag of what was read."""
    assert {"n": 6} == users.increment("ada", {"n": 5}).values

    assert 6 == drained(pipeline, stored)


@pytest.mark.usefixtures("foreign")
def test_neighbours_are_read(pipeline, users):
    """One odd document does not fail a read of many."""
    users.put("bob", {"n": 1})
    flush_all(pipeline)

    entries, _ = users.read_many(["ada", "bob"])

    assert [True, True] == [one.exists for one in entries]
    assert (entries, False) == users.read_many(["ada", "bob"])


def test_a_number_that_is_no_version_is_replaced_at_once(pipeline, stored):
    """The first that does not count is no reason for a second attempt."""
    stored.insert_one({"_id": "ada", "n": 1, "_v": Int64(VERSION_END)})
    entry = Entry.loaded(bson.encode({"_id": "ada", "n": 2}), 5)

    [outcome] = pipeline.sink.write("users", [Write(DocumentId.of("users", "ada"), entry)])

    assert (Result.PERSISTED, 1) == (outcome.result, outcome.attempts)
    assert {"_id": "ada", "n": 2, "_v": 5} == stored.find_one()


def test_what_outdoes_a_number_is_due_at_once(pipeline, stored):
    """Whatever the flush delay is: the same flush writes it once more."""
    ahead = Int64(pipeline.store.now_ms() * 1000 + HOUR)
    stored.database["slow"].insert_one({"_id": "ada", "n": 1, "_v": ahead})
    pipeline.collection("slow").put("ada", {"n": 2})
    partition = pipeline.store.partition_of("slow/s:ada")
    pipeline.store._wire.call("ZADD", partition_keys(partition).pending, 0, "slow/s:ada")

    pipeline.flusher.flush(partition)

    assert {"_id": "ada", "n": 2, "_v": ahead + 1} == stored.database["slow"].find_one()


def test_a_write_that_redis_has_lost_is_told_with_both_versions(pipeline, users, stored):
    """MongoDB has a newer one that Redis may have issued: the letter says which, and that it is no error."""
    version = users.put("ada", {"n": 1}).version
    stored.insert_one({"_id": "ada", "n": 9, "_v": Int64(version + 1)})

    flush_all(pipeline)

    [letter] = [one.letter for one in pipeline.dead_letters.all(Filter())]
    assert (Reason.CONFLICT, 0, version, version + 1) == (letter.reason, letter.code, letter.version, letter.over)


def test_nothing_is_written_over_what_is_gone(pipeline, stored):
    """A newer deletion may have taken it: the write is tried again, as one that compares versions."""
    write = Write(DocumentId.of("users", "ada"), Entry.loaded(bson.encode({"_id": "ada", "n": 2}), 5))

    outcome = pipeline.sink._over(write, Int64(VERSION_END))

    assert (Result.DISTURBED, None) == (outcome.result, stored.find_one())


def test_a_number_that_is_no_version_is_not_deleted_as_older(pipeline, stored):
    """Somebody else has put it there since."""
    ada = DocumentId.of("users", "ada")
    stored.insert_one({"_id": "ada", "_v": Int64(-1)})
    assert 0 == pipeline.sink.delete_older("users", {ada: 5})

    stored.update_one({"_id": "ada"}, {"$set": {"_v": Int64(0)}})
    assert 1 == pipeline.sink.delete_older("users", {ada: 5})


@pytest.mark.parametrize(("seen", "below", "left"), [(3, 8, 4), (7, 8, 7), (7, 7, 6)])
def test_what_is_left_of_a_document_is_older_than_what_is_to_replace_it(pipeline, stored, seen, below, left):
    """And newer than it was, where there is room in between."""
    stored.insert_one({"_id": "ada", "n": 1, "_v": Int64(seen)})

    assert pipeline.sink.unset(DocumentId.of("users", "ada"), "n", Int64(seen), below=below)

    assert {"_id": "ada", "_v": left} == stored.find_one()


def test_a_version_that_stands_there_twice(users, stored):
    """Both are taken out, so that a reader sees neither."""
    element = b"\x12_v\0" + (5).to_bytes(8, "little")
    plain = bson.encode({"_id": "ada", "n": 1})
    raw = (len(plain) + 2 * len(element)).to_bytes(4, "little") + plain[4:-1] + element * 2 + b"\0"

    assert (plain, 5) == split_version(raw)
    stored.insert_one(RawBSONDocument(raw))
    assert {"_id": "ada", "n": 1} == users.get("ada")


def test_a_deletion_ahead_of_the_clock_takes_nothing_that_comes_after_it(pipeline, users, stored):
    """A version that the clock has not come to: the audit of its deletion spares what was written since."""
    ahead = Int64(pipeline.store.now_ms() * 1000 + HOUR)
    stored.insert_one({"_id": "ada", "_v": ahead})
    users.get("ada")
    deleted = users.delete("ada")
    flush_all(pipeline)
    pipeline.store._wire.call("DEL", pipeline.store.cache.key("users/s:ada"))  # its tombstone has expired

    written = users.put("ada", {"n": 1})
    assert ahead < deleted.version < written.version
    flush_all(pipeline)
    pipeline.sink.delete_older("users", {users.id("ada"): deleted.version})

    assert 1 == stored.find_one({"_id": "ada"})["n"]


def test_no_two_writes_have_one_version_above_the_clock(pipeline, users, stored):
    """A write goes above a deletion, and above what was written since, though its entry has expired."""
    ahead = Int64(pipeline.store.now_ms() * 1000 + HOUR)
    stored.insert_one({"_id": "ada", "_v": ahead})
    users.get("ada")
    users.delete("ada")
    flush_all(pipeline)
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    pipeline.store._wire.call("DEL", pipeline.store.cache.key("users/s:ada"))

    users.put("ada", {"n": 2})

    assert 2 == drained(pipeline, stored)


def test_another_redis_whose_clock_is_behind(pipeline, users, stored):
    """What it acknowledges is newer than what MongoDB has of the one before it."""
    ahead = Int64(pipeline.store.now_ms() * 1000 + HOUR)
    stored.insert_many([{"_id": f"u{n}", "n": 0, "_v": Int64(ahead + n)} for n in range(50)])

    for n in range(50):
        users.put(f"u{n}", {"n": 1})
    flush_all(pipeline)

    assert 50 == stored.count_documents({"n": 1})
    assert 0 == pipeline.status()["dead_letters"]


def test_the_clock_does_not_follow_a_foreign_number(pipeline, users, stored):
    """The versions of other documents go on telling when they were acknowledged."""
    ahead = Int64(pipeline.store.now_ms() * 1000 + HOUR)
    stored.insert_one({"_id": "ada", "_v": ahead})
    users.get("ada")
    assert users.put("ada", {"n": 1}).version == ahead + 1
    flush_all(pipeline)
    users.put("ada", {"n": 2})
    pipeline.store.pending.record_sending(
        pipeline.store.partition_of("users/s:ada"), {"users/s:ada": users.read("ada").entry}
    )
    pipeline.store.pending.reissue_many(["users/s:ada"])

    others = [users.put(f"u{n}", {}).version for n in range(64)]

    assert max(others) < pipeline.store.now_ms() * 1000 + 1_000
