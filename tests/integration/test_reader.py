"""Reads through the cache, on real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import bson
import pytest
from pymongo import MongoClient

from tests.commits import commit_one
from tests.reading import reader_of
from tests.waiting import wait_until
from writebehind import CollectionSettings
from writebehind.change_stream.applier import OutsideChange
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.errors import MongoUnavailableError, RedisFullError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.reading.read import Source
from writebehind.reading.reader import Reader
from writebehind.redis.cache import Leased
from writebehind.redis.keys import partition_keys
from writebehind.redis.store import CommitRequest, Store
from writebehind.redis.wire import Wire

ADA = DocumentId.of("users", "ada")
SETTINGS = CollectionSettings(ttl=60, negative_ttl=5)


class CountingSink(Sink):
    """Counts reads, and can hold them until the test lets them go on."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.reads = 0
        self.reading = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._lock = threading.Lock()

    def find(self, document_id):
        found = super().find(document_id)
        self._answer(1)
        return found

    def find_many(self, ids):
        found = super().find_many(ids)
        self._answer(len(ids))
        return found

    def find_portion(self, ids, *, most_bytes):
        found, left = super().find_portion(ids, most_bytes=most_bytes)
        self._answer(len(found))
        return found, left

    def _answer(self, count: int) -> None:
        with self._lock:
            self.reads += count
        self.reading.set()
        assert self.may_answer.wait(20)


@pytest.fixture
def sink(mongo_client, database_name) -> CountingSink:
    return CountingSink(mongo_client, database_name, timeout_ms=5_000)


@pytest.fixture
def store(valkey_wire) -> Store:
    return Store(valkey_wire, partitions=4, max_pending=100, tombstone_ttl_ms=60_000)


@pytest.fixture
def reader(store, sink) -> Reader:
    return reader_of(store, sink, load_timeout_ms=5_000)


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name]["users"]


def commit(store: Store, name: str) -> int:
    body = bson.encode({"_id": "ada", "name": name})
    payload = Entry(0, Kind.DOCUMENT, etag(body), body).payload
    return commit_one(store, CommitRequest(ADA.member, payload, 0)).version


def name_in(entry: Entry) -> str:
    return bson.decode(entry.body)["name"]


def test_a_miss_loads_and_the_next_read_hits(reader, sink, users):
    """A document is read from MongoDB once, and from Redis from then on."""
    users.insert_one({"_id": "ada", "name": "Ada"})

    first, second = reader.get(ADA, SETTINGS), reader.get(ADA, SETTINGS)

    assert (Source.MISS, Source.HIT, 1) == (first.source, second.source, sink.reads)
    assert (1, 1) == (reader.hits, reader.misses)
    assert first.entry == second.entry
    assert 50_000 < second.ttl_ms <= 60_000


def test_how_long_a_load_takes_is_noted_in_milliseconds(reader, users, monkeypatch):
    """An entry is read anew the sooner the longer that takes."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    ticks, began = count(), round(time.monotonic())
    monkeypatch.setattr(
        "writebehind.reading.loader.time", SimpleNamespace(monotonic=lambda: began + next(ticks) / 1_000)
    )
    noted = []
    monkeypatch.setattr(reader._loader.load_times, "note", lambda _, ms: noted.append(ms))

    reader.get(ADA, SETTINGS)

    [ms] = noted
    assert (True, True) == (ms > 0.5, abs(ms - round(ms)) < 1e-6)


def test_one_that_is_read_around_redis_waits_for_nobody(store, sink, users, monkeypatch):
    """Whoever comes first asks MongoDB at once."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    reader, began = reader_of(store, sink, load_timeout_ms=30_000), time.monotonic()

    read = reader._loader.bypass(ADA)

    assert (Source.BYPASS, "Ada", 1) == (read.source, name_in(read.entry), sink.reads)
    assert time.monotonic() - began < 20


def test_one_that_is_read_around_redis_waits_no_longer_than_a_load_may_take(store, sink, users, monkeypatch):
    """Whoever shares the load of another that does not come back asks MongoDB as well."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    reader, find, calls = reader_of(store, sink, load_timeout_ms=100), sink.find, count()
    asking, may_answer = threading.Event(), threading.Event()

    def first_hangs(document_id: DocumentId) -> Entry:
        if not next(calls):
            asking.set()
            assert may_answer.wait(20)
        return find(document_id)

    monkeypatch.setattr(sink, "find", first_hangs)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(reader._loader.bypass, ADA)
        assert asking.wait(10)
        second = threads.submit(reader._loader.bypass, ADA)
        try:
            assert "Ada" == name_in(second.result(10).entry)
            assert not first.done()
        finally:
            may_answer.set()


def test_several_are_read_around_a_redis_that_is_away(reader, users, monkeypatch):
    """And the answer says so."""
    users.insert_one({"_id": "ada", "name": "Ada"})

    def away(*_):
        raise RedisUnavailableError("away")

    monkeypatch.setattr(reader, "get_many", away)

    entries, bypassed = reader.get_many_or_bypass([ADA], SETTINGS)

    assert (["Ada"], True) == ([name_in(one) for one in entries], bypassed)


def test_a_redis_that_is_away_is_not_bypassed_where_that_is_forbidden(reader, monkeypatch):
    """One document or several."""

    def away(*_):
        raise RedisUnavailableError("away")

    monkeypatch.setattr(reader, "get", away)
    monkeypatch.setattr(reader, "get_many", away)
    strict = SETTINGS.model_copy(update={"bypass": False})

    with pytest.raises(RedisUnavailableError):
        reader.get_or_bypass(ADA, strict)
    with pytest.raises(RedisUnavailableError):
        reader.get_many_or_bypass([ADA], strict)


def test_redis_is_not_bypassed_while_it_answers(reader):
    """Each document in its turn says so, whether it is cached or loaded."""
    ids = [ADA, *(DocumentId.of("users", str(number)) for number in range(3))]

    assert [[False] * 4] * 2 == [
        [bypassed for _, bypassed in reader.get_each_or_bypass(ids, SETTINGS)] for _ in "12"
    ]


def test_absence_is_cached_for_a_shorter_time(reader, sink):
    """That a document does not exist is remembered too."""
    first, second = reader.get(ADA, SETTINGS), reader.get(ADA, SETTINGS)

    assert (ABSENT, ABSENT, 1) == (first.entry, second.entry, sink.reads)
    assert 0 < second.ttl_ms <= 5_000


def test_one_load_however_many_readers(store, sink, users):
    """Of 200 readers in two processes' worth of threads that miss at once, one asks MongoDB."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    readers = [reader_of(store, sink, load_timeout_ms=10_000) for _ in range(2)]
    sink.may_answer.clear()
    with ThreadPoolExecutor(200) as threads:
        reads = [threads.submit(readers[n % 2].get, ADA, SETTINGS) for n in range(200)]
        assert sink.reading.wait(10)
        sink.may_answer.set()
        found = [read.result(20) for read in reads]

    assert {"Ada"} == {name_in(read.entry) for read in found}
    assert 1 == sink.reads


@pytest.mark.parametrize("who", ["the pipeline", "somebody else"])
def test_no_fill_hides_what_came_in_between(pipeline, users, monkeypatch, who):
    """500 documents are changed between their load and its fill: no reader is told the old state afterwards."""
    rounds, find = 500, pipeline.sink.find
    ids = [DocumentId.of("users", str(n)) for n in range(rounds)]
    changed = set()

    def changed_meanwhile(document_id: DocumentId) -> Entry:
        found = find(document_id)
        if document_id not in changed:
            changed.add(document_id)
            if who == "the pipeline":
                pipeline.collection("users").put(document_id.text, {"n": 1})
            else:
                users.update_one({"_id": document_id.value}, {"$set": {"n": 1}})
                assert 0 == pipeline.applier.apply([OutsideChange(document_id, "update", 1)]).conflicts
        return found

    users.insert_many([{"_id": one.value, "n": 0} for one in ids])
    monkeypatch.setattr(pipeline.sink, "find", changed_meanwhile)
    first, second = ([pipeline.collection("users").get(one.text)["n"] for one in ids] for _ in range(2))

    assert (rounds, [1] * rounds, [1] * rounds) == (len(changed), first, second)


def test_a_write_during_the_load_wins(reader, store, sink, users):
    """A reader whose load was overtaken by a write returns the write, and caches nothing older."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        commit(store, "new")
        sink.may_answer.set()

        assert "new" == name_in(read.result(10).entry)

    assert "new" == name_in(store.cache.get(ADA.member)[0])


def test_an_invalidation_during_the_load_wins(reader, store, sink, users):
    """A value that was loaded before an invalidation is not cached after it: it is loaded again."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        users.update_one({"_id": "ada"}, {"$set": {"name": "new"}})
        store.cache.invalidate_many([ADA.member])[0]
        sink.may_answer.set()

        assert "new" == name_in(read.result(10).entry)

    assert ("new", 2) == (name_in(store.cache.get(ADA.member)[0]), sink.reads)


def test_readers_that_wait_see_the_write_that_came_in_between(reader, store, sink, users):
    """A reader that joined a load which a write overtook sees the write too."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(10) as threads:
        reads = [threads.submit(reader.get, ADA, SETTINGS) for _ in range(10)]
        assert sink.reading.wait(10)
        commit(store, "new")
        sink.may_answer.set()

        assert {"new"} == {name_in(read.result(10).entry) for read in reads}


def test_a_reader_that_died_does_not_keep_others_waiting(store, sink, users):
    """When the one that had the right to load is gone, another loads once its right has run out."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    store.loads.get_or_lease(ADA.member, "dead", life_ms=200)

    read = reader_of(store, sink, load_timeout_ms=5_000).get(ADA, SETTINGS)

    assert ("Ada", 1) == (name_in(read.entry), sink.reads)


def test_a_reader_does_not_wait_for_ever(store, sink, users, monkeypatch):
    """A reader whose time is over, as others have the right, looks at MongoDB itself and caches nothing."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    monkeypatch.setattr(store.loads, "get_or_lease", lambda *_, **__: Leased(None, -1, may_load=False))

    read = reader_of(store, sink, load_timeout_ms=100).get(ADA, SETTINGS)

    assert ("Ada", Source.MISS, None) == (name_in(read.entry), read.source, store.cache.get(ADA.member)[0])
    assert not read.stored


@pytest.mark.parametrize("waited", [False, True])
def test_whether_a_reader_has_waited_for_another_is_told(reader, store, monkeypatch, waited):
    """It shares what the other has loaded; one that finds it at once has it from Redis."""
    lease, looks = store.loads.get_or_lease, count()

    def there_by_then(*arguments, **others) -> Leased:
        if waited and not next(looks):
            return Leased(None, -1, may_load=False)
        commit(store, "Ada")
        return lease(*arguments, **others)

    monkeypatch.setattr(store.loads, "get_or_lease", there_by_then)

    read = reader.get(ADA, SETTINGS)

    assert ("Ada", Source.COLLAPSED if waited else Source.HIT) == (name_in(read.entry), read.source)


def test_readers_whose_loader_died_load_once(store, sink, users):
    """Of readers in many processes that wait for one that is gone, one loads and the others go on waiting."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    processes = [reader_of(store, sink, load_timeout_ms=500) for _ in range(20)]
    store.loads.get_or_lease(ADA.member, "dead", life_ms=500)
    with ThreadPoolExecutor(len(processes)) as threads:
        reads = list(threads.map(lambda reader: reader.get(ADA, SETTINGS), processes))

    assert {"Ada"} == {name_in(read.entry) for read in reads}
    assert 1 == sink.reads


@contextmanager
def full(wire: Wire) -> Iterator[None]:
    """Within it, Redis has no memory for anything more, and nothing to evict."""
    wire.call("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        wire.call("CONFIG", "SET", "maxmemory", 0)


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
        keeping = threads.submit(reader.get, ADA, SETTINGS, keep=True)
        wait_until(lambda: len(reader._loader._flights._flights) == 2, "both to be on their way", 5)
        sink.may_answer.set()
        assert (False, True) == (reading.result(10).stored, keeping.result(10).stored)
    assert store.cache.get(ADA.member)[0] is not None


def test_what_cannot_be_kept_for_a_condition(pipeline, valkey_wire):
    """Where Redis has no memory at all, that is said: the write would find nothing again and again."""
    with full(valkey_wire), pytest.raises(RedisFullError):
        pipeline.reader.get(ADA, SETTINGS, keep=True)
    assert [] == valkey_wire.call("KEYS", "wb:*load:*")


def test_reads_while_mongodb_is_away(store, mongo, way_to, database_name):
    """Cached documents are read; others fail in time, all readers of one at once, and may load again later."""
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=500) as client,
    ):
        sink = Sink(client, database_name, timeout_ms=500)
        reader = reader_of(store, sink, load_timeout_ms=2_000)
        commit(store, "cached")
        way.proxy.hang()
        assert "cached" == name_in(reader.get(ADA, SETTINGS).entry)
        cold = DocumentId.of("users", "cold")
        with ThreadPoolExecutor(8) as threads:
            reads = [threads.submit(reader.get, cold, SETTINGS) for _ in range(8)]
            errors = [read.exception(10) for read in reads]
        assert {MongoUnavailableError} == {type(error) for error in errors}
        way.proxy.flow()

        def back() -> bool:
            try:
                return reader.get(cold, SETTINGS).entry == ABSENT
            except MongoUnavailableError:
                return False

        wait_until(back, "a read after the outage")


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
