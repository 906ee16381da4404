"""Early refreshes, and what is served after its TTL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import bson
import pytest

from tests.reading import ADA, CountingSink, commit, name_in, reader_of
from tests.waiting import wait_until
from writebehind import CollectionSettings
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.reading.freshness import Refresher, early_ms, lifetime_ms
from writebehind.reading.read import Source
from writebehind.reading.reader import Reader
from writebehind.redis.cache import Filled, Refresh
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Settled
from writebehind.redis.store import Store

STALE = CollectionSettings(ttl=60, stale_while_revalidate=10, stale_if_error=30)


@pytest.fixture
def wanted() -> list[Refresh]:
    return []


@pytest.fixture
def reader(store, sink, wanted):
    reader = reader_of(store, sink, load_timeout_ms=5_000, settings=lambda _: STALE, refreshes=wanted.append)
    yield reader
    reader.close()


def entry_key(store: Store) -> str:
    return partition_keys(store.partition_of(ADA.member)).entry(ADA.member)


def age(store: Store, left_s: float, settings: CollectionSettings = STALE) -> None:
    """Let the cached entry be fresh for so long yet."""
    assert store._wire.call("PEXPIRE", entry_key(store), int(left_s * 1000) + settings.grace_ms)


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

    assert Filled.FILLED is reader._revalidation.refresh(wanted[0])
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
    store.pending.settle(
        store.partition_of(ADA.member), [Settled(ADA.member, f"{version:016d}", 90_000)], delay_ms=0
    )
    assert Filled.REFUSED is reader._revalidation.refresh(wanted[0])
    assert "King" == name_in(reader.get(ADA, STALE).entry)

    age(store, -1)
    reader.get(ADA, STALE)
    store.cache.invalidate_many([ADA.member])[0]
    assert Filled.REFUSED is reader._revalidation.refresh(wanted[-1])
    assert (None, -2) == store.cache.get(ADA.member)


def test_an_entry_that_is_gone_during_its_refresh(cached, reader, store, sink, wanted):
    """Its refresh fills nothing, as it may have gone because of something newer; another reader loads at once."""
    age(store, -1)
    reader.get(ADA, STALE)
    store._wire.call("DEL", entry_key(store))
    read = reader.get(ADA, STALE)
    assert ("Countess", Source.MISS) == (name_in(read.entry), read.source)
    assert Filled.REFUSED is reader._revalidation.refresh(wanted[0])
    store._wire.call("DEL", entry_key(store))
    assert Filled.REFUSED is reader._revalidation.refresh(wanted[0])
    assert (None, -2) == store.cache.get(ADA.member)


def test_what_is_pending_is_not_refreshed(reader, store):
    """MongoDB does not have it yet."""
    commit(store, "Ada")
    assert store.loads.lease_refreshes({ADA.member: 1_000}, life_ms=1_000)[1].get(ADA.member) is None


def test_stale_if_error(cached, reader, store, sink, monkeypatch):
    """After the time in which stale is served anyway, only an error of MongoDB keeps a document alive."""

    def fail(*_: object, **__: object) -> Entry:
        raise MongoUnavailableError("no")

    age(store, -15)
    with monkeypatch.context() as patch:
        patch.setattr(sink, "find_portion", fail)
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
    reader._loader.load_times.note("users", 1_000)  # so that it is due for most readers
    reads = [reader.get(ADA, fresh) for _ in range(50)]
    assert {Source.HIT} == {one.source for one in reads}
    wait_until(lambda: name_in(reader.get(ADA, fresh).entry) == "Countess", "the refresh", 5)
    assert 2 == sink.reads


def test_nobody_waits_when_a_hot_document_expires(store, users, mongo_client, database_name):
    """Read all the time by two processes for four TTLs: MongoDB is read once in each, always in the background."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    fresh = CollectionSettings(ttl=4)  # a tenth of it is what a refresh has on a busy machine
    sinks = [CountingSink(mongo_client, database_name, timeout_ms=5_000) for _ in range(2)]
    readers = [reader_of(store, sink, load_timeout_ms=5_000, settings=lambda _: fresh) for sink in sinks]
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


@pytest.mark.parametrize("left_s", [0.5, -1, -15])
def test_what_is_cached_is_served_while_redis_refuses(cached, reader, store, sink, monkeypatch, left_s):
    """Whatever comes of reading it anew: the entry is in hand."""

    def refuse(*_: object, **__: object) -> tuple[str, dict[str, Refresh]]:
        raise RedisUnavailableError

    monkeypatch.setattr(store.loads, "lease_refreshes", refuse)
    reader._loader.load_times.note("users", 1_000)
    age(store, left_s)
    assert "Ada" == name_in(reader.get(ADA, STALE).entry)
    assert "Ada" == name_in(reader.get_many([ADA], STALE)[0])


@pytest.mark.parametrize("left_s", [0.5, -15])
def test_many_that_are_old(reader, store, sink, users, left_s):
    """They are seen to in one round trip more; those whose time is over are loaded in one go."""
    ids = [DocumentId.of("users", f"u{n}") for n in range(50)]
    users.insert_many([{"_id": one.value, "name": "old"} for one in ids])
    reader.get_many(ids, STALE)
    users.update_many({}, {"$set": {"name": "new"}})
    reader._loader.load_times.note("users", 1_000)
    for one in ids:
        store._wire.call("PEXPIRE", store.cache.key(one.member), int(left_s * 1000) + STALE.grace_ms)
    trips, finds = [], []
    calls, find = store._wire.exchange, sink.find_portion
    store._wire.exchange = lambda commands: trips.append(commands) or calls(commands)
    sink.find_portion = lambda some, **more: finds.append(some) or find(some, **more)

    found = reader.get_many(ids, STALE)

    if left_s < 0:
        assert (50, 3, 1) == ([name_in(one) for one in found].count("new"), len(trips), len(finds))
    else:
        assert {"old"} == {name_in(one) for one in found}
        wait_until(lambda: {name_in(one) for one in reader.get_many(ids, STALE)} == {"new"}, "the refreshes", 10)
        assert [] == finds  # they were read in the background, nobody waited


def test_the_last_millisecond(cached, reader, store, monkeypatch):
    """An entry is not stale before its time is over: one of a collection without any grace never is."""
    fresh = CollectionSettings(ttl=60)
    entry, _ = store.cache.get(ADA.member)
    monkeypatch.setattr(store.cache, "get", lambda _: (entry, 0))
    assert Source.HIT is reader.get(ADA, fresh).source


def test_a_refresher_takes_what_it_can_do_in_time(monkeypatch):
    """What it cannot take, does not come to, or comes to too late is given back, and not loaded in vain."""
    monkeypatch.setattr("writebehind.reading.freshness.MOST_WAITING", 1)
    first, second, third = (Refresh(f"users/s:{n}", "token", "") for n in range(3))
    refreshed, given_back, began, may_end = [], [], threading.Event(), threading.Event()

    def refresh(wanted: Refresh) -> None:
        began.set()
        assert may_end.wait(10)
        refreshed.append(wanted)

    refresher = Refresher(refresh, given_back.extend, life_ms=60_000)
    refresher(first)
    assert began.wait(10)
    assert 1 == refresher.room
    refresher(second)
    assert ([], 0) == (given_back, refresher.room)
    refresher(third)
    assert [third] == given_back
    refresher.close(0)
    assert [third, second] == given_back
    may_end.set()
    wait_until(lambda: refreshed == [first], "what was under way", 5)

    late = Refresher(refresh, given_back.extend, life_ms=0)
    late(first)
    wait_until(lambda: given_back == [third, second, first], "it to be given back", 5)
    late.close()
    assert [first] == refreshed


def test_a_refresh_that_fails(caplog):
    """It is said, and the next one is done."""
    refreshed = []

    def refresh(wanted: Refresh) -> None:
        if not refreshed and not caplog.records:
            raise ValueError(wanted)
        refreshed.append(wanted)

    refresher = Refresher(refresh, lambda _: None, life_ms=60_000)
    one = Refresh("users/s:one", "token", "")
    refresher(one)
    refresher(one)
    wait_until(lambda: refreshed == [one], "the second one", 5)
    assert "users/s:one not refreshed" in caplog.text
    refresher.close()


def test_slow_loads_begin_early():
    """Where loading is slow compared with the TTL, up to half of it before the end; elsewhere shortly before."""
    fresh = CollectionSettings(ttl=1)
    slow, fast = ([early_ms(load_ms, fresh) for _ in range(4_000)] for load_ms in (150, 0.5))
    assert 500 == max(slow)
    assert 0.5 < sum(one > 300 for one in slow) / len(slow)
    assert max(fast) <= 110


def test_each_collection_has_its_load_time(reader, store, users):
    """A slow one is not judged by a fast one."""
    for _ in range(50):
        reader._loader.load_times.note("fast", 1)
        reader._loader.load_times.note("slow", 1_000)
    assert (1, 1_000) == (reader._loader.load_times.of("fast"), reader._loader.load_times.of("slow"))
    for n in range(10_000):
        reader._loader.load_times.note(f"made up {n}", 5)
    assert len(reader._loader.load_times._ms) <= 1_000


def test_the_nearer_the_end_the_likelier():
    """XFetch: hardly ever long before the end, nearly always at it, and sooner where loads are slow."""

    def share(left_ms: float, load_ms: float) -> float:
        return sum(left_ms <= early_ms(load_ms, STALE) for _ in range(4_000)) / 4_000

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
    # So are those that replace what was stale: an outage has let them wait for each other.
    later = {lifetime_ms(document, STALE, replaces=left_ms) for left_ms in range(0, 30_001, 100)}
    assert 84_000 <= min(later) < max(later) <= 90_000
    # What replaces another has the whole time, and what the other one had of it: but for a tenth at most.
    ends = [lifetime_ms(document, STALE, replaces=left_ms) for left_ms in (32_000, 90_000)]
    assert [92_000, 96_000] == ends
