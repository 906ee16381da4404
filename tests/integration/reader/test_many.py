"""Many documents that are read at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.reader.conftest import SETTINGS
from tests.reading import ADA, commit, name_in, reader_of
from writebehind.documents.entry import ABSENT
from writebehind.documents.ids import DocumentId
from writebehind.redis.keys import partition_keys


def test_many_documents(reader, store, sink, users):
    """Documents that are cached, in MongoDB, pending and absent are read together, in their order."""
    users.insert_many([{"_id": str(n), "name": f"name {n}"} for n in range(5)])
    ids = [DocumentId.of("users", str(n)) for n in range(5)]
    commit(store, "pending")
    reader.get(ids[0], SETTINGS)
    nobody = DocumentId.of("users", "nobody")

    found = reader.get_many([nobody, *ids, ADA, ids[1]], SETTINGS)

    expected = [f"name {n}" for n in range(5)]
    assert ABSENT == found[0]
    assert [*expected, "pending", expected[1]] == [name_in(entry) for entry in found[1:]]
    assert 1 + 5 == sink.reads  # ids[0] once, then the other four and nobody


def test_many_documents_load_once(store, sink, users):
    """Readers of overlapping sets of cold documents load each of them once."""
    users.insert_many([{"_id": str(n), "name": str(n)} for n in range(20)])
    ids = [DocumentId.of("users", str(n)) for n in range(20)]
    readers = [reader_of(store, sink, load_timeout_ms=10_000) for _ in range(2)]
    with ThreadPoolExecutor(10) as threads:
        reads = [threads.submit(readers[n % 2].get_many, ids[n : n + 10], SETTINGS) for n in range(10)]
        found = [[name_in(entry) for entry in read.result(20)] for read in reads]

    assert [[str(n + m) for m in range(10)] for n in range(10)] == found
    assert 19 == sink.reads


def test_many_documents_that_are_written_during_their_load(reader, store, sink, users):
    """A write that comes in between is read, and the others are not loaded again."""
    users.insert_many([{"_id": name, "name": "old"} for name in ("ada", "bob")])
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.get_many, [ADA, DocumentId.of("users", "bob")], SETTINGS)
        assert sink.reading.wait(10)
        commit(store, "new")
        sink.may_answer.set()

        assert ["new", "old"] == [name_in(one) for one in read.result(10)]

    assert 2 == sink.reads


@pytest.mark.parametrize("is_full", [False, True])
def test_many_documents_displace_nothing_that_is_hotter(reader, store, sink, users, monkeypatch, is_full):
    """Where Redis is full they are loaded, once, and not kept; where it is not, they are."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    monkeypatch.setattr(reader._loader, "_is_full", lambda: is_full)
    store._wire.call("HSET", partition_keys(store.partition_of(ADA.member)).heat, "floor", 5)

    assert ["Ada"] == [name_in(one) for one in reader.get_many([ADA], SETTINGS)]

    assert (is_full, 1) == (store.cache.get(ADA.member)[0] is None, sink.reads)


def test_many_documents_are_kept_for_whoever_needs_them_in_redis(reader, store, users, monkeypatch):
    """Also where Redis is full of what is hotter."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    loader = reader._loader
    monkeypatch.setattr(loader, "_is_full", lambda: True)
    store._wire.call("HSET", partition_keys(store.partition_of(ADA.member)).heat, "floor", 5)
    store.loads.get_or_lease(ADA.member, "token", life_ms=60_000)

    loader.fill_many([ADA], "token", SETTINGS, keep=True)

    assert "Ada" == name_in(store.cache.get(ADA.member)[0])


def test_how_many_documents_are_asked_for_at_a_time(reader, sink, monkeypatch):
    """As many as MongoDB's last answer had room for; twice as many after one that had room for all."""
    ids, asked, find = [DocumentId.of("users", n) for n in range(12)], [], sink.find_portion

    def with_room_for_two_at_first(some, *, most_bytes):
        asked.append(len(some))
        room = 2 if len(asked) == 1 else len(some)
        found, left = find(some[:room], most_bytes=most_bytes)
        return found, [*left, *some[room:]]

    monkeypatch.setattr(sink, "find_portion", with_room_for_two_at_first)

    assert 12 == len(reader._loader.fill_many(ids, "token", SETTINGS, keep=False))
    assert [12, 2, 4, 4] == asked
