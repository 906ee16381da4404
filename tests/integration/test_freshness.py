"""Early refreshes, and what is served after its TTL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import bson
import pytest

from tests.integration.test_reader import ADA, CountingSink, commit, name_in
from tests.waiting import wait_until
from writebehind import CollectionSettings
from writebehind.entry import ABSENT, Entry
from writebehind.errors import MongoUnavailableError
from writebehind.freshness import is_due_early, lifetime_ms
from writebehind.keys import partition_keys
from writebehind.reader import Reader, Source
from writebehind.store import Filled, Refresh, Settled, Store

STALE = CollectionSettings(ttl=60, stale_while_revalidate=10, stale_if_error=30)


@pytest.fixture
def sink(mongo_client, database_name) -> CountingSink:
    return CountingSink(mongo_client, database_name, timeout_ms=5_000)


@pytest.fixture
def store(valkey_wire) -> Store:
    return Store(valkey_wire, partitions=4, max_pending=100, tombstone_ttl_ms=60_000)


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name]["users"]


@pytest.fixture
def wanted() -> list[Refresh]:
    return []


@pytest.fixture
def reader(store, sink, wanted):
    reader = Reader(store, sink, load_timeout_ms=5_000, settings=lambda _: STALE, refreshes=wanted.append)
    yield reader
    reader.close()


def entry_key(store: Store) -> str:
    return partition_keys(store.partition_of(ADA.member)).entry(ADA.member)


def age(store: Store, left_s: float, settings: CollectionSettings = STALE) -> None:
    """Let the cached entry be fresh for so long yet."""
    assert store.wire.call("PEXPIRE", entry_key(store), int(left_s * 1000) + settings.grace_ms)


@pytest.fixture
def cached(reader, store, users) -> None:
    """Ada is cached, and MongoDB has a newer version of her."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    assert Source.MISS is reader.get(ADA, STALE).source
    users.update_one({"_id": "ada"}, {"$set": {"name": "Countess"}})


def test_a_stale_document_is_served_and_one_refresh_is_asked_for(cached, reader, store, sink, wanted):
    """While an entry is stale, every reader is served from it; one asks for a refresh, which replaces it."""
    age(store, -1)
    with ThreadPoolExecutor(20) as threads:
        reads = list(threads.map(lambda _: reader.get(ADA, STALE), range(100)))

    assert {Source.STALE} == {one.source for one in reads}
    assert {"Ada"} == {name_in(one.entry) for one in reads}
    assert (1, 1) == (len(wanted), sink.reads)
    assert -1_500 < reads[0].ttl_ms < -500

    assert Filled.FILLED is reader.refresh(wanted[0])
    fresh = reader.get(ADA, STALE)
    assert ("Countess", Source.HIT, 2) == (name_in(fresh.entry), fresh.source, sink.reads)
    assert 50_000 < fresh.ttl_ms <= 60_000


def test_many_at_once_are_served_stale_too(cached, reader, store, sink, wanted):
    """Reading several documents asks for refreshes in the same way."""
    age(store, -1)
    [entry, again] = reader.get_many([ADA, ADA], STALE)
    assert ("Ada", entry, 1, 1) == (name_in(entry), again, len(wanted), sink.reads)
    age(store, 20)
    assert entry == reader.get_many([ADA], STALE)[0]
    assert 1 == len(wanted)


def test_a_write_during_a_refresh_wins(cached, reader, store, wanted):
    """What was loaded before a write is not cached after it; neither is what was loaded before an invalidation."""
    age(store, -1)
    reader.get(ADA, STALE)
    version = commit(store, "King")
    store.settle(store.partition_of(ADA.member), [Settled(ADA.member, f"{version:016d}", 90_000)], delay_ms=0)
    assert Filled.REFUSED is reader.refresh(wanted[0])
    assert "King" == name_in(reader.get(ADA, STALE).entry)

    age(store, -1)
    reader.get(ADA, STALE)
    store.invalidate(ADA.member)
    assert Filled.REFUSED is reader.refresh(wanted[-1])
    assert (None, -2) == store.get(ADA.member)


def test_an_entry_that_expires_during_its_refresh(cached, reader, store, wanted):
    """It is filled all the same: nothing newer came."""
    age(store, -1)
    reader.get(ADA, STALE)
    store.wire.call("DEL", entry_key(store))
    assert Filled.FILLED is reader.refresh(wanted[0])


def test_what_is_pending_is_not_refreshed(reader, store):
    """MongoDB does not have it yet."""
    commit(store, "Ada")
    assert store.refresh_get(ADA.member, 1_000, life_ms=1_000) is None


def test_stale_if_error(cached, reader, store, sink, monkeypatch):
    """After the time in which stale is served anyway, only an error of MongoDB keeps a document alive."""

    def fail(_: object) -> Entry:
        raise MongoUnavailableError("no")

    age(store, -15)
    with monkeypatch.context() as patch:
        patch.setattr(sink, "find", fail)
        for _ in range(2):
            read = reader.get(ADA, STALE)
            assert ("Ada", Source.STALE) == (name_in(read.entry), read.source)
    read = reader.get(ADA, STALE)
    assert ("Countess", Source.REVALIDATED) == (name_in(read.entry), read.source)
    assert Source.HIT is reader.get(ADA, STALE).source


def test_a_document_that_is_gone(cached, reader, store, users):
    """A refresh finds that a document has been deleted meanwhile."""
    users.delete_one({"_id": "ada"})
    age(store, -15)
    assert not reader.get(ADA, STALE).entry.exists
    assert not reader.get(ADA, STALE).entry.exists


def test_near_its_end_one_reader_refreshes(cached, reader, store, sink):
    """Just before an entry expires it is read anew in the background: nobody waits, and MongoDB is read once."""
    fresh = CollectionSettings(ttl=60)
    age(store, 0.5, fresh)
    reader._load_ms = 1_000  # so that it is due for most readers
    reads = [reader.get(ADA, fresh) for _ in range(50)]
    assert {Source.HIT} == {one.source for one in reads}
    wait_until(lambda: name_in(reader.get(ADA, fresh).entry) == "Countess", "the refresh", 5)
    assert 2 == sink.reads


def test_nobody_waits_when_a_hot_document_expires(store, users, mongo_client, database_name):
    """Read all the time by two processes for four TTLs: MongoDB is read once in each, always in the background."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    fresh = CollectionSettings(ttl=1)
    sinks = [CountingSink(mongo_client, database_name, timeout_ms=5_000) for _ in range(2)]
    readers = [Reader(store, sink, load_timeout_ms=5_000, settings=lambda _: fresh) for sink in sinks]
    assert Source.MISS is readers[0].get(ADA, fresh).source
    ends = time.monotonic() + 4 * fresh.ttl

    def read(reader: Reader) -> set[Source]:
        sources = set()
        while time.monotonic() < ends:
            sources.add(reader.get(ADA, fresh).source)
            time.sleep(0.001)  # hot, but not so hot that no other thread has a turn
        return sources

    try:
        with ThreadPoolExecutor(4) as threads:
            assert [{Source.HIT}] * 4 == list(threads.map(read, readers * 2))
    finally:
        for reader in readers:
            reader.close()
    # The first one, one for each TTL, of which the first is shorter by the jitter and all end a little early.
    assert 4 <= sum(sink.reads for sink in sinks) <= 1 + 4 + 1


def test_the_nearer_the_end_the_likelier():
    """XFetch: hardly ever long before the end, nearly always at it, and sooner where loads are slow."""

    def share(left_ms: float, load_ms: float) -> float:
        return sum(is_due_early(left_ms, load_ms) for _ in range(4_000)) / 4_000

    assert 0 == share(2_000, 10)
    assert 1 == share(20, 10)  # loading, and beginning to
    assert 0.3 < share(60, 10) < 0.44  # 1/e
    assert share(60, 1) < share(60, 5) < share(60, 50)


def test_lifetimes():
    """TTLs are jittered, so that what was filled together does not expire together; the time for stale is not."""
    document, absent = Entry.loaded(bson.encode({"_id": 1}), 1), ABSENT
    lives = [lifetime_ms(document, STALE) for _ in range(200)]
    assert 84_000 <= min(lives) < max(lives) <= 90_000
    assert all(27_000 <= lifetime_ms(absent, STALE) <= 30_000 for _ in range(200))
    # What replaces another has the whole time, and what the other one had of it: but for a tenth at most.
    ends = [lifetime_ms(document, STALE, replaces=left_ms) for left_ms in (0, 30_000, 32_000, 90_000)]
    assert [90_000, 90_000, 92_000, 96_000] == ends
