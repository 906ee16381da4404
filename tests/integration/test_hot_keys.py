"""Which documents are read most, on each kind of Redis; and what a Redis that is full keeps of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from pymongo import MongoClient

from tests.reading import reads_by_source
from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.redis.cache import Filled
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.store import Store
from writebehind.redis.wire import Wire
from writebehind.warming.hot_keys import HotKeys

ADA = Entry(0, Kind.DOCUMENT, "e" * 32, b"body")


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, database="shop", partitions=2, max_pending=10, tombstone_ttl_ms=1_000)


def counted(store: Store, reads: dict[str, int], **changed) -> HotKeys:
    """What several processes have counted and sent."""
    hot = HotKeys(store, **({"samples": 1_000_000, "most": 100, "half_life_s": 600} | changed))
    hot._thread = threading.current_thread()  # the test sends
    for member, count in reads.items():
        for _ in range(count):
            hot.seen(f"users/s:{member}")
        hot.send()
    return hot


def heats(store: Store) -> dict[str, float]:
    found = {}
    for partition in range(store.partitions):
        flat = store._wire.call("ZRANGE", partition_keys(partition).hot, 0, -1, "WITHSCORES")
        found |= {one.decode(): float(heat) for one, heat in zip(flat[::2], flat[1::2], strict=True)}
    return found


def full(expiring: int) -> LoadSample:
    """Figures of a Redis that has so many documents and no room."""
    return LoadSample("", True, (), {}, 100, 100, True, expiring, expiring, True, 0, True, 0.0)


def roomy() -> LoadSample:
    return LoadSample("", True, (), {}, 1, 0, True, 9, 9, True, 0, True, 0.0)


def age(store: Store, seconds: float) -> None:
    """Let that much time have passed."""
    for partition in range(store.partitions):
        heat = partition_keys(partition).heat
        for field in ("since", "decayed"):
            at = store._wire.call("HGET", heat, field)
            if at is not None:
                store._wire.call("HSET", heat, field, int(at) - int(seconds * 1000))


def test_reads_add_up(store):
    """The counts of all processes are added, and the most read come first, overall and in each partition."""
    counted(store, {"a": 5, "b": 2, "c": 9})
    hot = counted(store, {"a": 3, "d": 1})

    assert ["c", "a", "b", "d"] == [one.id.text for one in hot.top(10)]
    assert ["c", "a"] == [one.id.text for one in hot.top(2)]
    for partition, found in enumerate(hot.by_partition(10)):
        assert all(partition == one.partition == store.partition_of(one.id.member) for one in found)
        assert [one.rate for one in found] == sorted((one.rate for one in found), reverse=True)


def test_a_sample_stands_for_all(store):
    """Of more reads than are counted the first ones stand for all."""
    hot = counted(store, {})
    hot._samples = 100
    for n in range(1_000):
        hot.seen(f"users/s:{n % 4}")
    hot.send()
    assert {f"users/s:{n}": 250.0 for n in range(4)} == pytest.approx(heats(store))


def test_many_at_once(store):
    """Of however many documents a process has read within a second, all are counted."""
    hot = counted(store, {}, most=20_000)
    for n in range(20_000):
        hot.seen(f"users/s:{n}")
    hot.send()
    assert 20_000 == len(heats(store))


def test_what_cannot_be_sent(valkey_wire, monkeypatch, caplog):
    """It is said, and what is counted afterwards is sent."""
    monkeypatch.setattr("writebehind.warming.hot_keys.SEND_EVERY_S", 0.01)
    store = Store(valkey_wire, database="shop", partitions=2, max_pending=10, tombstone_ttl_ms=1_000)
    hot = HotKeys(store, samples=100, most=100, half_life_s=600)
    add = store.heat.add

    def fail(reads, *, most: int) -> int:
        monkeypatch.setattr(store.heat, "add", add)
        raise ValueError(reads, most)

    monkeypatch.setattr(store.heat, "add", fail)
    hot.seen("users/s:lost")
    wait_until(lambda: "reads not counted" in caplog.text, "it to say so", 5)
    hot.seen("users/s:a")
    wait_until(lambda: heats(store) == {"users/s:a": 1.0}, "the next count", 5)
    hot.close()


def test_rates(store):
    """Rates are reads per second, soon after the start and long after it."""
    hot = counted(store, {"a": 100, "b": 10})
    age(store, 10)
    assert {"a": pytest.approx(10, rel=0.1), "b": pytest.approx(1, rel=0.1)} == {
        one.id.text: one.rate for one in hot.top(2)
    }
    for _ in range(100):  # 10 and 1 per second, for 3,000 s: five half-lives
        counted(store, {"a": 300, "b": 30})
        age(store, 30)
        hot.decay(roomy())
    assert {"a": pytest.approx(10, rel=0.1), "b": pytest.approx(1, rel=0.1)} == {
        one.id.text: one.rate for one in hot.top(2)
    }


def test_decay(store):
    """After a half-life a read counts half, whether there are one or two beats; what is cold is forgotten."""
    hot = counted(store, {"a": 80, "b": 40, "c": 1})
    age(store, 600)
    hot.decay(roomy())
    hot.decay(roomy())
    assert {"users/s:a": 40, "users/s:b": 20, "users/s:c": 0.5} == pytest.approx(heats(store), rel=0.01)
    age(store, 6_000)
    assert {"kept": 0} == hot.decay(roomy())
    assert [] == store._wire.call("KEYS", "wb:{*}:h*")


def test_they_are_bounded(store):
    """However many documents are read, about so many are kept: the most read."""
    hot = counted(store, {}, most=10)
    for n in range(200):
        hot.seen(f"users/s:{n}")
    for n in range(5):
        for _ in range(10):
            hot.seen(f"users/s:hot{n}")
    hot.send()
    assert 2 * 2 * 10 >= len(heats(store))
    hot.decay(roomy())
    assert {f"users/s:hot{n}" for n in range(5)} <= set(heats(store))
    assert 2 * 10 >= len(heats(store))


def test_what_is_cold_displaces_nothing(store):
    """In a Redis that is full only what is hot enough is kept."""
    hot = counted(store, {"hot": 100, **{f"u{n}": 10 + n for n in range(20)}, "cold": 1})
    members = [f"users/s:{one}" for one in ("hot", "cold", "never")]

    def kept(*, when_full: bool) -> list[bool]:
        for member in members:
            store.cache.invalidate_many([member])[0]
        assert all(one.may_load for one in store.loads.get_or_lease_many(members, "t", life_ms=5_000))
        loaded = [(member, ADA, 60_000) for member in members]
        filled = store.loads.fill_many(loaded, "t", full=when_full)
        found = [store.cache.get(member)[0] == ADA for member in members]
        assert [Filled.FILLED if there else Filled.NOT_KEPT for there in found] == filled
        return found

    assert [True] * 3 == kept(when_full=True)  # nobody has said yet what is cold
    hot.decay(full(expiring=8))
    assert [True, False, False] == kept(when_full=True)
    assert [True] * 3 == kept(when_full=False)
    hot.decay(full(expiring=1_000))  # it has room for all that is counted
    assert [True] * 3 == kept(when_full=True)
    hot.decay(full(expiring=8))
    hot.decay(roomy())
    assert [True] * 3 == kept(when_full=True)


@pytest.mark.one_server("each server is full by itself")
def test_a_full_redis_is_told_from_others(valkey_wire):
    """One that evicts and uses nearly all of its memory."""
    store = Store(valkey_wire, database="shop", partitions=2, max_pending=10, tombstone_ttl_ms=1_000)
    store.loads.get_or_lease("users/s:a", "t", life_ms=5_000)
    store.loads.fill("users/s:a", "t", ABSENT, ttl_ms=60_000)
    valkey_wire.call("SET", "other", "x")
    assert (2, 1) == ((seen := store.load()).keys, seen.expiring)
    found = {}
    cases = (("volatile-lru", 0.98), ("volatile-lru", 0.93), ("volatile-lru", 0.5), ("noeviction", 0.98))
    try:
        for policy, part in cases:
            limit(valkey_wire, policy, int(store.load().used_memory / part))
            seen = store.load()
            found[policy, part] = seen.keeps_for_hot, seen.displaces
    finally:
        limit(valkey_wire, "noeviction", 0)
    assert dict(zip(cases, [(True, True), (True, False), (False, False), (False, False)], strict=True)) == found


def limit(wire: Wire, policy: str, memory: int) -> None:
    wire.call("CONFIG", "SET", "maxmemory-policy", policy)
    wire.call("CONFIG", "SET", "maxmemory", memory)


@pytest.mark.one_server("each server is full by itself")
def test_what_is_cold_does_not_fill_redis_up(settings, valkey_wire):
    """A reader stores what is not hot only where there is room for more than is filled until it looks again."""
    with opened(settings, valkey_wire) as pipeline:
        users = pipeline.collection("users")
        hot = counted(pipeline.store, {"hot": 100, **{f"u{n}": 10 for n in range(200)}})
        hot.decay(full(expiring=8))
        kept = {}
        try:
            for part in (0.93, 0.5):
                used = pipeline.store.load().used_memory
                limit(valkey_wire, "volatile-lru", int(used / part))
                pipeline._sampler._vitals = None  # as if a second had gone by
                assert [None, None] == [users.get(one) for one in ("hot", "cold")]
                kept[part] = [pipeline.store.cache.get(f"users/s:{one}")[0] is not None for one in ("hot", "cold")]
        finally:
            limit(valkey_wire, "noeviction", 0)
    assert {0.93: [True, False], 0.5: [True, True]} == kept


@contextmanager
def opened(settings: Settings, wire: Wire, samples: int = 1_000) -> Iterator[Pipeline]:
    """A process of its own that counts, and closes what it uses."""
    counts = settings.model_copy(update={"hot_samples": samples})
    with MongoClient(settings.mongodb_url) as client, Pipeline(counts, wire=wire, client=client) as pipeline:
        yield pipeline


def test_reads_of_every_kind_are_counted(settings, valkey_wire):
    """From Redis, from MongoDB, several at once, and one after the other; not those that find no document."""
    with opened(settings, valkey_wire) as pipeline:
        users = pipeline.collection("users")
        expected: Counter[str] = Counter()
        users.put("a", {"n": 1})
        users.put("b", {"n": 2})
        for _ in range(3):
            users.get("a")
            users.get("absent")
            users.read_many(["a", "b"])
            assert [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}, None] == [*users.get_each(["a", "b", "absent"])]
            expected += Counter({"users/s:a": 3, "users/s:b": 2})
        assert {"hit": 20, "miss": 1} == reads_by_source(pipeline.tallies)
        wait_until(lambda: heats(pipeline.store) == expected, "the counts to be sent", 10)


def test_no_samples(settings, valkey_wire):
    """Without them nothing is counted, and there is no thread."""
    with opened(settings, valkey_wire, samples=0) as pipeline:
        pipeline.collection("users").get("a")
        pipeline.hot_keys.send()
        assert ([], None) == (pipeline.hot_keys.top(10), pipeline.hot_keys._thread)


def test_what_was_counted_is_sent_at_the_end(settings, valkey_wire):
    """A process that ends sends what it has counted."""
    with opened(settings, valkey_wire) as pipeline:
        pipeline.collection("users").put("a", {})
        pipeline.collection("users").get("a")
    assert {"users/s:a": 1.0} == heats(pipeline.store)


def test_the_command(settings, valkey_wire, run):
    """`writebehind hot-keys` lists them, for people and for scripts."""
    with opened(settings, valkey_wire) as pipeline:
        for name, times in (("ada", 3), ("bob", 1)):
            pipeline.collection("users").put(name, {})
            for _ in range(times):
                pipeline.collection("users").get(name)
    told = [orjson.loads(line) for line in run("hot-keys", "--json").stdout.splitlines()]
    assert ["ada", "bob"] == [one["id"] for one in told]
    assert told[0]["reads_per_second"] > told[1]["reads_per_second"] > 0
    assert "ada" in run("hot-keys", "--limit", "1").stdout
    assert "bob" not in run("hot-keys", "--limit", "1").stdout


def test_no_more_are_kept_than_were_asked_for(store):
    """The coldest go when heat decays; between two times there may be twice as many."""
    counted(store, {f"u{n}": n for n in range(1, 31)})
    assert 30 == len(heats(store))

    HotKeys(store, samples=1_000_000, most=5, half_life_s=600).decay(roomy())

    kept = heats(store)
    assert len(kept) <= 5 * store.partitions
    assert {"users/s:u30", "users/s:u29"} <= kept.keys()


def test_only_what_is_cold_and_may_be_evicted_makes_room(store):
    """What is hot stays, and what is pending or dead."""
    of = partition_keys(0)
    entries = [of.entry(f"users/s:{name}") for name in ("cold", "hot", "pending")]
    store._wire.calls([("SET", one, "x") for one in entries] + [("PEXPIRE", one, 50_000) for one in entries[:2]])
    store._wire.call("ZADD", of.hot, 1, "users/s:cold", 9, "users/s:hot", 1, "users/s:pending")
    store._wire.call("HSET", of.heat, "floor", 5)
    names = ("users/s:cold", "users/s:hot", "users/s:pending")

    assert 1 == store._wire.run(script("drop_cold"), (of.hot, of.heat, *entries), names)

    assert [0, 1, 1] == store._wire.calls([("EXISTS", one) for one in entries])
