"""Changes of others that meet a write of ours: `on_conflict` says whose stands, and nothing is lost."""

from __future__ import annotations

import time
from contextlib import suppress

import bson
import pytest

from tests.integration.applier.conftest import LATER_MS, change, counts, flush, their_change, with_slow
from tests.integration.conftest import flush_all
from writebehind import Pipeline
from writebehind.change_stream.applier import Applier
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError, MongoUnavailableError
from writebehind.flushing.dead_letters import DeadLetter, Filter
from writebehind.redis.store import Store


@pytest.fixture
def yielding(pipeline) -> Pipeline:
    """A pipeline whose collection has `on_conflict = "theirs"`."""
    return with_slow(pipeline, on_conflict="theirs")


def letters(pipeline: Pipeline) -> list[DeadLetter]:
    return [one.letter for one in pipeline.dead_letters.page(Filter()).letters]


def outcome(pipeline: Pipeline, stored) -> object:
    """What MongoDB has of `ada`, which is what readers see."""
    there = stored.find_one({"_id": "ada"})
    assert (there or {}).get("n") == (pipeline.collection("slow").get("ada") or {}).get("n")
    return there and there["n"]


def test_a_conflict(pipeline, users, stored):
    """While a write is pending, what others do is noted with both sides, and the pending write stands."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    users.put("ada", {"n": 2})
    stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    assert (0, 0, 1) == counts(pipeline, change("update", "ada", {"_id": "ada", "n": 7}))
    [noted] = pipeline.conflicts.latest()
    assert {"collection": "slow", "id": "ada", "operation": "update", "policy": "ours"}.items() <= noted.items()
    assert ({"_id": "ada", "n": 2}, {"_id": "ada", "n": 7}) == (
        noted["ours"]["document"],
        noted["theirs"]["document"],
    )
    assert 1 == pipeline.status()["totals"]["conflicts"]
    flush_all(pipeline)
    assert 2 == stored.find_one()["n"] == users.get("ada")["n"]


def test_a_conflict_that_they_win(yielding, stored):
    """With `theirs` the pending write becomes a dead letter with its document, and readers see MongoDB's."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    stored.replace_one({"_id": "ada"}, {"n": 7})
    assert (0, 0, 1) == counts(yielding, change("replace", "ada", {"_id": "ada", "n": 7}))
    assert (7, 0) == (users.get("ada")["n"], yielding.status()["pending"])
    [letter] = letters(yielding)
    assert ("conflict", {"_id": "ada", "n": 2}) == (letter.reason, bson.decode(letter.body))
    stored.update_one({"_id": "ada"}, {"$set": {"n": 8}})
    assert (0, 1, 0) == counts(yielding, change("update", "ada", {"_id": "ada", "n": 8}))
    assert 8 == users.get("ada")["n"]  # a letter that has its body keeps nothing in the cache


def test_ours_stands_where_mongodb_refuses_to_tell(yielding, stored, monkeypatch):
    """With `theirs` a write becomes a letter only if MongoDB is seen to have theirs: else it is flushed."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    stored.replace_one({"_id": "ada"}, {"n": 7})

    def refuse(*_, **__):
        raise MongoRefusesError("not authorized")

    with monkeypatch.context() as patch:
        patch.setattr(yielding.sink, "find", refuse)
        counts(yielding, change("replace", "ada", {"_id": "ada", "n": 7}))
    assert ([], 1) == (letters(yielding), yielding.status()["pending"])
    flush_all(yielding)
    assert 2 == outcome(yielding, stored)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("how", ["update", "replace", "replace with an old version", "delete"])
def test_our_write_stands(pipeline, users, stored, how, crash):
    """A change between a bulk write and its settling, or the death of its flusher, is overwritten in the end."""
    users.put("ada", {"n": 2})

    def between() -> None:
        pipeline.applier.apply([their_change(stored, how)])
        if crash:
            raise MongoUnavailableError

    with suppress(MongoUnavailableError):
        flush(pipeline, "ada", between)
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)
    assert [] == letters(pipeline)


@pytest.mark.parametrize("how", ["update", "replace", "delete"])
def test_their_change_stands(yielding, stored, how):
    """With `theirs`, too: it came after the write that is pending, which becomes a dead letter with its body."""
    yielding.collection("slow").put("ada", {"n": 2})
    flush(yielding, "ada", lambda: yielding.applier.apply([their_change(stored, how)]))
    flush_all(yielding)
    assert (None if how == "delete" else 7) == outcome(yielding, stored)
    assert [2] == [bson.decode(one.body)["n"] for one in letters(yielding)]


@pytest.mark.parametrize("then", ["put", "patch", "delete"])
def test_a_write_after_their_change_takes_no_letter_away(yielding, stored, then):
    """What yielded stands in its letter only, and stays there, whatever is written and flushed then."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    assert (0, 0, 1) == counts(yielding, change("update", "ada", stored.find_one()))

    if then == "put":
        users.put("ada", {"n": 3})
    elif then == "patch":
        users.patch("ada", lambda document: document | {"m": 3})
    else:
        users.delete("ada")
    flush_all(yielding)

    assert {"put": (3, None), "patch": (7, 3), "delete": None}[then] == (
        (one["n"], one.get("m")) if (one := stored.find_one()) else None
    )
    assert [2] == [bson.decode(one.body)["n"] for one in letters(yielding)]
    [found] = yielding.dead_letters.all(Filter())
    assert yielding.dead_letters.replay([found], conflicts=True)
    flush_all(yielding)
    assert 2 == outcome(yielding, stored)
    assert [] == letters(yielding)


@pytest.mark.parametrize("times", [1, 2])
def test_a_write_after_their_change_stands(yielding, stored, times):
    """Who reads what they have written, and then writes, is the later one, whenever the event comes."""
    users = yielding.collection("slow")
    stored.insert_one({"_id": "ada", "n": 7})
    event = change("insert", "ada", {"_id": "ada", "n": 7}, at_ms=int(time.time() * 1000) - 1)
    assert 7 == users.get("ada")["n"]
    users.put("ada", {"n": 8})
    assert [(1, 0, 0)] * times == [counts(yielding, event) for _ in range(times)]
    assert [] == letters(yielding)
    flush_all(yielding)
    assert 8 == outcome(yielding, stored)


def test_their_change_that_we_have_overwritten(yielding, stored):
    """What they did is gone from MongoDB when its event comes, so it wins against nothing."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    event = their_change(stored, "replace")
    flush(yielding, "ada", lambda: yielding.applier.apply([event]))
    flush_all(yielding)
    assert [] == letters(yielding)
    assert 2 == outcome(yielding, stored)


@pytest.mark.parametrize("settled", [False, True])
def test_our_deletion_is_not_theirs(yielding, stored, settled):
    """Its event loses no later write, whether it comes before the deletion is settled or after."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.delete("ada")
    seen: list[tuple[int, int, int]] = []

    def see() -> None:
        seen.append(counts(yielding, change("delete", "ada")))

    def between() -> None:
        users.put("ada", {"n": 2})
        if not settled:
            see()

    flush(yielding, "ada", between)
    if settled:
        see()
    assert ([(1, 0, 0)], []) == (seen, letters(yielding))
    flush_all(yielding)
    assert 2 == outcome(yielding, stored)


def test_our_deletion_long_ago(yielding, stored):
    """Its event may come when the deletion has been audited, and the document has been written again."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.delete("ada")
    flush_all(yielding)
    event = change("delete", "ada", at_ms=int(time.time() * 1000) - 1)
    for partition in range(yielding.settings.partitions):
        yielding.store.deletions.forget(partition, yielding.store.deletions.before(partition, 1 << 52, limit=10))
    users.put("ada", {"n": 2})
    assert (1, 0, 0) == counts(yielding, event)
    flush_all(yielding)
    assert (2, []) == (outcome(yielding, stored), letters(yielding))


def test_who_puts_back_what_we_have_sent(yielding, stored):
    """Their content tells them from us, though they keep our version and a newer write is pending."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush(yielding, "ada", lambda: users.put("ada", {"n": 2}))
    there = stored.find_one()
    assert (1, 0, 0) == counts(yielding, change("insert", "ada", there, at_ms=int(time.time() * 1000) + LATER_MS))
    event = change("replace", "ada", there | {"n": 7}, at_ms=int(time.time() * 1000) + LATER_MS)
    stored.replace_one({"_id": "ada"}, there | {"n": 7})
    assert (0, 0, 1) == counts(yielding, event)
    assert 7 == outcome(yielding, stored)


@pytest.mark.parametrize("policy", ["ours", "theirs"])
def test_our_deletion_is_reported_late(pipeline, stored, policy):
    """While the write after it is on its way to MongoDB, our deletion is no conflict."""
    pipeline = with_slow(pipeline, on_conflict=policy)
    users, events = pipeline.collection("slow"), []
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    users.delete("ada")
    flush(pipeline, "ada", lambda: (users.put("ada", {"n": 2}), events.append(change("delete", "ada"))))
    flush(pipeline, "ada", lambda: counts(pipeline, *events))
    assert [] == letters(pipeline) == pipeline.conflicts.latest()
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)


def test_their_deletion_is_not_ours(yielding, stored):
    """That we have deleted the document ourselves, a while ago, does not make their deletion ours."""
    users = yielding.collection("slow")
    for write in (
        lambda: users.put("ada", {"n": 1}),
        lambda: users.delete("ada"),
        lambda: users.put("ada", {"n": 2}),
    ):
        write()
        flush_all(yielding)
    users.put("ada", {"n": 3})
    stored.delete_one({"_id": "ada"})
    assert (0, 0, 1) == counts(yielding, change("delete", "ada", at_ms=int(time.time() * 1000) + LATER_MS))
    assert [3] == [bson.decode(one.body)["n"] for one in letters(yielding)]
    assert outcome(yielding, stored) is None


def test_what_is_lost_with_its_collection(pipeline, users, stored):
    """A collection that is dropped between a bulk write and its settling has the write again in the end."""
    users.put("ada", {"n": 2})

    def between() -> None:
        stored.drop()
        pipeline.applier.outdo_pending("slow", lambda: None)
        pipeline.applier.forget("slow", lambda: None)

    flush(pipeline, "ada", between)
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)


def test_a_conflict_that_is_none_any_more(pipeline, users, stored):
    """What is settled before the conflict is looked into is neither counted nor noted as one, and is dropped."""
    settings = pipeline.settings
    store = Store(
        pipeline.store._wire,
        database="shop",
        partitions=settings.partitions,
        max_pending=10,
        tombstone_ttl_ms=1_000,
    )
    get = store.cache.get

    def get_after_a_flush(member):
        flush_all(pipeline)
        return get(member)

    store.cache.get = get_after_a_flush
    outside = Applier(
        store,
        pipeline.sink,
        pipeline.derived,
        pipeline.conflicts,
        settings=pipeline.collection_settings,
        contention=pipeline.contention,
    )
    users.put("ada", {"n": 2})
    applied = outside.apply([change("replace", "ada", {"_id": "ada", "n": 7})])
    assert (0, 1, 0) == (applied.ours, applied.invalidated, applied.conflicts)
    assert [] == pipeline.conflicts.latest()
    assert 2 == outcome(pipeline, stored)


def test_conflicts_that_cannot_be_shown(pipeline, users):
    """The log of conflicts takes whatever others write, and says how large it is where JSON cannot show it."""
    users.put("ada", {"n": 1})
    raw = bson.encode({"_id": "ada", "text": "abcd"}).replace(b"abcd", b"ab\xff\xfe")
    event = OutsideChange(DocumentId.of("slow", "ada"), "replace", int(time.time() * 1000), Entry.loaded(raw, 0))
    assert (0, 0, 1) == counts(pipeline, event)
    [noted] = pipeline.conflicts.latest()
    assert {"version": 0, "exists": True, "bytes": len(raw)} == noted["theirs"]
