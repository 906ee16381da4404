"""Reads while Redis has no memory left, and what a writer needs there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.conftest import evicting, full
from tests.integration.reader.conftest import SETTINGS
from tests.reading import ADA, commit, name_in, reader_of
from tests.waiting import wait_until
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisFullError
from writebehind.reading.read import Source
from writebehind.redis.keys import partition_keys


def test_a_full_redis_is_read(pipeline, users, valkey_wire):
    """What is pending is read as it was acknowledged, beside what is cold, which is loaded once and not stored."""
    users.insert_many([{"_id": name, "name": "old"} for name in ("ada", "cold")])
    of_pipeline = pipeline.collection("users")
    for name in ("ada", "bob"):
        of_pipeline.put(name, {"name": "new"})
    member = DocumentId.of("users", "cold").member
    with full(valkey_wire):
        found, bypassed = of_pipeline.read_many(["ada", "bob", "cold"])
        assert (["new", "new", "old"], False) == ([name_in(one) for one in found], bypassed)
        read = of_pipeline.read("cold")
        assert ("old", Source.MISS, False) == (name_in(read.entry), read.source, read.stored)
        assert [] == valkey_wire.call("KEYS", "wb:*load:*")
        assert (None, -2) == pipeline.store.cache.get(member)
    assert of_pipeline.read("cold").stored
    assert Source.HIT is of_pipeline.read("cold").source


def test_a_write_during_a_load_for_a_full_redis(pipeline, users, valkey_wire, monkeypatch):
    """Nobody is told what was loaded before it."""
    users.insert_one({"_id": "ada", "name": "old"})
    find = pipeline.sink.find

    def overtaken(document_id: DocumentId) -> Entry:
        found = find(document_id)
        monkeypatch.setattr(pipeline.sink, "find", find)
        valkey_wire.call("CONFIG", "SET", "maxmemory", 0)
        commit(pipeline.store, "new")
        valkey_wire.call("CONFIG", "SET", "maxmemory", 1)
        return found

    monkeypatch.setattr(pipeline.sink, "find", overtaken)
    with full(valkey_wire):
        assert "new" == name_in(pipeline.collection("users").read("ada").entry)


@pytest.mark.parametrize("write", ["patch", "put"])
def test_a_conditional_write_to_what_is_cold_in_a_full_redis(pipeline, users, sink, monkeypatch, write):
    """It is loaded once, and stays for the comparison, although nothing else that is read as little does."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    monkeypatch.setattr(pipeline.loader, "_sink", sink)
    monkeypatch.setattr(pipeline.loader, "_is_full", lambda: True)
    heat = partition_keys(pipeline.store.partition_of(ADA.member)).heat
    pipeline.store._wire.call("HSET", heat, "floor", 5)
    of_pipeline = pipeline.collection("users")
    read = of_pipeline.read("ada")
    assert (False, None) == (read.stored, pipeline.store.cache.get(ADA.member)[0])
    sink.reads = 0

    if write == "patch":
        of_pipeline.patch("ada", lambda document: document | {"name": "Countess"})
    else:
        of_pipeline.put("ada", {"name": "Countess"}, if_match=read.entry.etag)

    assert "Countess" == of_pipeline.get("ada")["name"]
    assert 1 == sink.reads


def test_a_load_that_is_not_kept_is_not_shared_with_a_writer(reader, store, sink, users, monkeypatch):
    """Whoever needs a document in Redis has it there, also when another reader is just loading it."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    monkeypatch.setattr(reader._loader, "_is_full", lambda: True)
    store._wire.call("HSET", partition_keys(store.partition_of(ADA.member)).heat, "floor", 5)
    sink.may_answer.clear()
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        keeping = threads.submit(reader.look, ADA, SETTINGS, keep=True)
        wait_until(lambda: len(reader._loader._flights._flights) == 2, "both to be on their way", 5)
        sink.may_answer.set()
        assert (False, True) == (reading.result(10).stored, keeping.result(10).stored)
    assert store.cache.get(ADA.member)[0] is not None


def test_what_cannot_be_kept_for_a_condition(pipeline, valkey_wire):
    """Where Redis has no memory at all, that is said: the write would find nothing again and again."""
    with full(valkey_wire), pytest.raises(RedisFullError):
        pipeline.reader.look(ADA, SETTINGS, keep=True)
    assert [] == valkey_wire.call("KEYS", "wb:*load:*")


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "noeviction"])
def test_what_is_cold_costs_one_load(store, sink, users, valkey_wire, policy):
    """Also where a full Redis has nothing to evict but the rights to load."""
    users.insert_many([{"_id": name, "name": name} for name in ("ada", "bob", "cy")])
    ids = [DocumentId.of("users", name) for name in ("ada", "bob", "cy", "nobody")]
    reader = reader_of(store, sink, load_timeout_ms=5_000, is_full=lambda: True)
    with evicting(valkey_wire, policy):
        for one in ids:
            read = reader.get(one, SETTINGS)
            assert (one.text != "nobody", Source.MISS, False) == (read.entry.exists, read.source, read.stored)
        assert 4 == sink.reads
        found = reader.get_many(ids, SETTINGS)
        assert ([True] * 3 + [False], 8) == ([one.exists for one in found], sink.reads)
        with pytest.raises(RedisFullError):
            reader.look(ADA, SETTINGS, keep=True)
        assert 9 == sink.reads


def test_what_is_cold_before_it_is_seen_that_redis_is_full(reader, sink, users, valkey_wire):
    """The right may also have gone with an invalidation: it is loaded once more, and then answered."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    with evicting(valkey_wire, "volatile-lru"):
        assert "Ada" == name_in(reader.get(ADA, SETTINGS).entry)
        assert 2 == sink.reads


def test_what_is_loaded_without_a_right_is_not_shared(store, sink, users, valkey_wire, monkeypatch):
    """Who joins a load after a write is not told what is older, though nothing of the write is left."""
    users.insert_one({"_id": "ada", "name": "old"})
    reader = reader_of(store, sink, load_timeout_ms=5_000, is_full=lambda: True)
    flights, boarded = reader._loader._flights, []
    board = flights.board
    monkeypatch.setattr(flights, "board", lambda key: boarded.append(board(key)) or boarded[-1])
    sink.may_answer.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        users.update_one({"_id": "ada"}, {"$set": {"name": "new"}})  # acknowledged, flushed, settled and evicted
        valkey_wire.call("DEL", partition_keys(store.partition_of(ADA.member)).load(ADA.member))
        second = threads.submit(reader.get, ADA, SETTINGS)
        wait_until(lambda: len(boarded) == 2, "the other one to join", 10)
        sink.may_answer.set()
        assert ["old", "new"] == [name_in(one.result(10).entry) for one in (first, second)]


@pytest.mark.parametrize("reads", ["one", "many"])
def test_a_deletion_is_forgotten_during_a_load(store, sink, users, reads):
    """What a late flusher has brought back is not shown, though Redis has forgotten the deletion."""
    of = partition_keys(store.partition_of(ADA.member))
    users.insert_one({"_id": "ada", "name": "old", "_v": 5})
    store._wire.call("ZADD", of.deleted, 9, ADA.member)
    reader = reader_of(store, sink, load_timeout_ms=5_000, is_full=lambda: True)
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        if reads == "one":
            reading = threads.submit(lambda: reader.get(ADA, SETTINGS).entry)
        else:
            reading = threads.submit(lambda: reader.get_many([ADA], SETTINGS)[0])
        assert sink.reading.wait(10)
        store._wire.call("DEL", of.deleted, of.load(ADA.member))  # audited; and the right is evicted
        sink.may_answer.set()
        assert not reading.result(10).exists
    assert 1 == sink.reads
