"""Warming, on real servers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from types import SimpleNamespace

import orjson
import pytest
from pymongo import MongoClient

from tests.integration.conftest import flush_all
from tests.reading import reads_by_source
from writebehind import Collection, Pipeline, Settings
from writebehind.errors import MongoUnavailableError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.reading.read import Source
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import WARM_LEASE
from writebehind.redis.wire import Wire
from writebehind.warming.hot_keys import WARMED, WARMED_READ
from writebehind.warming.warmer import Warmed


@pytest.fixture
def config(settings) -> Settings:
    values = settings.model_dump() | {"defaults": {}, "load_timeout_ms": 6_000, "hot_samples": 1_000_000}
    featured = {"filter": {"featured": {"$gte": {"$numberLong": "1"}}}, "sort": {"featured": -1}, "limit": 3}
    collections = {
        "users": {"flush_delay_ms": 0, "ttl": 100},
        "shop": {"flush_delay_ms": 0, "warm": [featured]},
        "stale": {"flush_delay_ms": 0, "ttl": 100, "stale_if_error": 1_000},
    }
    return Settings.model_validate(values | {"collections": collections})


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Iterator[Pipeline]:
    pipeline = Pipeline(config, wire=valkey_wire, client=mongo_client)
    yield pipeline
    pipeline.hot_keys.close()


@pytest.fixture
def users(pipeline) -> Collection:
    return pipeline.collection("users")


@pytest.fixture
def database(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]


@pytest.fixture
def loads(pipeline, monkeypatch) -> list[str]:
    """The documents that MongoDB was asked for."""
    asked: list[str] = []
    find, find_portion = pipeline.sink.find, pipeline.sink.find_portion

    def one(document_id):
        asked.append(document_id.text)
        return find(document_id)

    def many(ids, **more):
        asked.extend(one.text for one in ids)
        return find_portion(ids, **more)

    monkeypatch.setattr(pipeline.sink, "find", one)
    monkeypatch.setattr(pipeline.sink, "find_portion", many)
    return asked


def make_hot(pipeline: Pipeline, members: dict[str, int]) -> None:
    """Let documents have been read so often."""
    for member, reads in members.items():
        for _ in range(reads):
            pipeline.hot_keys.seen(member)
    pipeline.hot_keys.send()


def expire_soon(pipeline: Pipeline, member: str, left_ms: int) -> None:
    assert pipeline.store._wire.call("PEXPIRE", pipeline.store.cache.key(member), left_ms)


def test_hot_keys_that_are_missing(pipeline, users, database, loads):
    """They are loaded in one batch, and the next pass finds nothing to do; what nobody reads stays away.

    What MongoDB does not have is held as absent, once, and forgotten.
    """
    database.users.insert_many([{"_id": f"u{n}", "n": n} for n in range(10)])
    make_hot(pipeline, {"users/s:u1": 5, "users/s:u2": 3, "users/s:gone": 1})

    first, second = pipeline.warmer.warm(), pipeline.warmer.warm()

    assert (3, 3, 2, 1, "") == (first.looked_at, first.loaded, first.warmed, first.absent, first.stopped)
    assert (2, 0, 0, 0, "") == (second.looked_at, second.loaded, second.warmed, second.absent, second.stopped)
    assert {"u1", "u2", "gone"} == set(loads)
    assert [Source.HIT] * 3 == [users.read(one).source for one in ("u1", "u2", "gone")]
    assert users.read("u3").source is Source.MISS


def test_what_does_not_exist_is_never_hot(pipeline, users, database, loads):
    """Reads of absent ids, however many and often, give warming nothing to do, by any way of reading."""
    database.users.insert_one({"_id": "real", "n": 1})
    absent = [f"x{n}" for n in range(40)]
    for _ in range(3):
        assert None is users.get("x0")
        users.read_many(["real", *absent])
        assert 41 == len([*users.get_each(["real", *absent])])
    users.get("real")
    pipeline.hot_keys.send()
    keys = [pipeline.store.cache.key(f"users/s:{one}") for one in ("real", *absent)]
    pipeline.store._wire.call("DEL", *keys)  # as they expire
    loads.clear()

    assert ["real"] == [one.id.text for one in pipeline.hot_keys.top(100)]
    assert (1, 1, 1) == ((done := pipeline.warmer.warm()).looked_at, done.loaded, done.warmed)
    assert ["real"] == loads


@pytest.mark.parametrize("how", ["by others", "pending", "settled", "settled and expired"])
def test_a_hot_document_that_is_deleted_is_forgotten(pipeline, users, database, loads, how):
    """Warming asks MongoDB for it once at most, and not again when its absence has expired."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    make_hot(pipeline, {"users/s:ada": 50})
    key = pipeline.store.cache.key("users/s:ada")
    if how == "by others":
        database.users.delete_one({"_id": "ada"})
        pipeline.store._wire.call("DEL", key)
    else:
        users.delete("ada")
    if "settled" in how:
        flush_all(pipeline)
    if "expired" in how:
        pipeline.store._wire.call("DEL", key)
    loads.clear()

    first = pipeline.warmer.warm()
    assert (1, 0) == (first.absent, first.warmed)
    assert (["ada"] if how in {"by others", "settled and expired"} else []) == loads
    if how != "pending":
        pipeline.store._wire.call("DEL", key)
    loads.clear()
    assert 0 == pipeline.warmer.warm().looked_at
    assert [] == loads


def test_hot_keys_that_are_about_to_expire(pipeline, users, database, loads):
    """They are refreshed, and have the whole TTL again and what they had left; also those that may be stale."""
    for collection in ("users", "stale"):
        database[collection].insert_many([{"_id": "late", "n": 1}, {"_id": "early", "n": 1}])
        for name in ("late", "early"):
            pipeline.collection(collection).get(name)
        make_hot(pipeline, {f"{collection}/s:late": 2, f"{collection}/s:early": 2})
    expire_soon(pipeline, "users/s:late", 9_000)
    expire_soon(pipeline, "users/s:early", 20_000)
    expire_soon(pipeline, "stale/s:late", 1_009_000)
    expire_soon(pipeline, "stale/s:early", 1_020_000)
    database.users.update_many({}, {"$set": {"n": 2}})
    loads.clear()

    assert 2 == pipeline.warmer.warm().warmed
    assert ["late", "late"] == loads
    assert (2, 1) == (users.get("late")["n"], users.get("early")["n"])
    ttls = {member: pipeline.store.cache.get(member)[1] for member in ("users/s:late", "stale/s:late")}
    assert 99_000 < ttls["users/s:late"] <= 110_000
    assert 1_099_000 < ttls["stale/s:late"] <= 1_110_000


def test_what_settings_keep_warm(pipeline, database, loads):
    """The documents of the configured queries, in their order and as many as they say, whoever reads them."""
    database.shop.insert_many([{"_id": f"a{n}", "featured": n} for n in range(6)])

    assert 3 == pipeline.warmer.warm().warmed
    assert {"a5", "a4", "a3"} == set(loads)
    shop = pipeline.collection("shop")
    assert Source.HIT is shop.read("a5").source
    assert Source.MISS is shop.read("a2").source


def test_what_is_pending_stays(pipeline, database):
    """An entry that MongoDB does not have yet is not touched."""
    slow = pipeline.collection("users")
    database.users.insert_one({"_id": "ada", "n": 0})
    slow.put("ada", {"n": 1})
    make_hot(pipeline, {"users/s:ada": 5})
    assert 0 == pipeline.warmer.warm().loaded
    assert (1, -1) == (slow.get("ada")["n"], pipeline.store.cache.get("users/s:ada")[1])


class Disturbance:
    """Does to some documents what happens to them in life, and knows what they should be."""

    def __init__(self, pipeline: Pipeline, database, names: list[str]) -> None:
        self.written: dict[str, int] = {}
        self.pipeline = pipeline
        self.users = pipeline.collection("users")
        self.database = database
        self.names = names
        self.choose = random.Random(7)

    def happen(self, n: int) -> None:
        """One of five things."""
        name = self.choose.choice(self.names)
        what = (self.put, self.put, self.flush, self.evict, self.change)[n % 5]
        what(name, n)

    def put(self, name: str, n: int) -> None:
        self.users.put(name, {"n": n})
        self.written[name] = n
        assert n == self.users.get(name)["n"]

    def flush(self, _: str, __: int) -> None:
        for partition in range(self.pipeline.settings.partitions):
            self.pipeline.flusher.flush(partition)

    def evict(self, name: str, _: int) -> None:
        """One is gone, another one near its end."""
        if self.pipeline.store.cache.get(f"users/s:{name}")[1] > 0:
            if self.choose.random() < 0.5:
                expire_soon(self.pipeline, f"users/s:{name}", 5_000)
            self.pipeline.store.cache.invalidate_many([f"users/s:{self.choose.choice(self.names)}"])[0]

    def change(self, name: str, n: int) -> None:
        """Somebody else writes to MongoDB, and it is heard of."""
        store, member = self.pipeline.store, f"users/s:{name}"
        if name in self.written and not store.unsettled.among([member]):
            self.database.users.update_one({"_id": name}, {"$set": {"n": -n}})
            store.cache.invalidate_many([member])[0]
            self.written[name] = -n
            assert -n == self.users.get(name)["n"]


def test_warming_hides_no_write(pipeline, users, database):
    """While passes go on, documents are written, persisted, changed by others and evicted: the last counts."""
    names = [f"u{n}" for n in range(20)]
    make_hot(pipeline, {f"users/s:{name}": 5 for name in names})
    life = Disturbance(pipeline, database, names)
    over = threading.Event()

    def warm() -> int:
        passes = 0
        while not over.is_set():
            pipeline.warmer.warm()
            passes += 1
        return passes

    with ThreadPoolExecutor(1) as threads:
        passes = threads.submit(warm)
        try:
            for n in range(1, 600):
                life.happen(n)
        finally:
            over.set()
    flush_all(pipeline)
    assert 8 < passes.result()
    assert life.written == {name: users.get(name)["n"] for name in life.written}


def test_two_at_once(pipeline, database, valkey_wire):
    """The second one does nothing, and says so."""
    valkey_wire.call("SET", WARM_LEASE, "another", "PX", 60_000)
    assert pipeline.warmer.warm() is None
    assert {"busy": True} == pipeline.maintenance.warm()
    assert b"another" == valkey_wire.call("GET", WARM_LEASE)


def test_how_many_were_read(pipeline, users, database):
    """Of what was warmed it is counted what is read afterwards, each once; and the status shows the last pass."""
    database.users.insert_many([{"_id": f"u{n}"} for n in range(5)])
    make_hot(pipeline, {f"users/s:u{n}": 2 for n in range(5)})
    assert 5 == pipeline.maintenance.warm()["warmed"]
    for _ in range(3):
        for n in range(2):
            users.get(f"u{n}")
    pipeline.hot_keys.send()

    totals = pipeline.status()["totals"]
    assert (5, 2) == (totals[WARMED], totals[WARMED_READ])
    assert (5, None) == tuple(
        pipeline.status()["periodic"]["warm"]["outcome"][one] for one in ("warmed", "stopped")
    )


def test_mongodb_does_not_answer(pipeline, config, valkey_wire, monkeypatch):
    """The pass ends, gives the rights to load back, and says why; while the breaker is open there is none."""
    pipeline.collection("users").put("old", {})
    flush_all(pipeline)
    expire_soon(pipeline, "users/s:old", 9_000)
    make_hot(pipeline, {"users/s:ada": 5, "users/s:old": 5})

    def fail(*_, **__):
        raise MongoUnavailableError("away")

    monkeypatch.setattr(pipeline.sink, "find_portion", fail)
    assert Warmed(looked_at=2, stopped="away").stopped == pipeline.warmer.warm().stopped
    assert [] == [key for key in valkey_wire.call("KEYS", "*") if b":load:" in key or b"lease" in key]
    valkey_wire.call("HSET", "wb:breaker", "state", "open", "why", "it is gone", "since", 1, "until", 2)
    assert "MongoDB is left alone: it is gone" == pipeline.warmer.warm().stopped


def test_a_query_that_is_refused(pipeline, config, valkey_wire, mongo_client, database, caplog):
    """It warms nothing and says why; the others warm what they find, and MongoDB is not taken for down."""
    database.shop.insert_one({"_id": "p1", "featured": 1})
    values = config.model_dump()
    values["collections"]["shop"]["warm"].insert(0, {"filter": {"name": {"$regex": "("}}, "limit": 5})
    pipeline = Pipeline(Settings.model_validate(values), wire=valkey_wire, client=mongo_client)

    passes = [pipeline.warmer.warm() for _ in range(4)]

    assert [(1, "")] * 4 == [(one.looked_at, one.stopped) for one in passes]
    assert pipeline.collection("shop").read("p1").source is Source.HIT
    assert "closed" == pipeline.breaker.state().state
    [told] = [one for one in caplog.records if getattr(one, "event", "") == "collection_refused"]  # in four passes
    assert ("shop", True) == (told.collection, "is not warmed by the query" in told.message)
    pipeline.hot_keys.close()


def test_redis_is_short_of_memory(pipeline, database, valkey_wire, monkeypatch):
    """Where it does not evict nothing is filled near its limit."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    make_hot(pipeline, {"users/s:ada": 5})
    used = pipeline._sampler.look().used_memory
    valkey_wire.call("CONFIG", "SET", "maxmemory", int(used / 0.93))
    try:
        done = pipeline.warmer.warm()
    finally:
        valkey_wire.call("CONFIG", "SET", "maxmemory", 0)
    assert (0, True) == (done.loaded, done.stopped.startswith("Redis uses"))


def test_a_slow_mongodb_gets_pauses(pipeline, database, monkeypatch):
    """A batch that takes long is followed by a pause as long and a smaller one; a fast one keeps to the rate."""
    make_hot(pipeline, {f"users/s:u{n}": 1 for n in range(450)})
    sizes: list[int] = []
    pauses: list[float] = []
    find_portion, now = pipeline.sink.find_portion, [0.0]
    durations = iter([0.01, 2.0, 0.02])

    def slow(ids, **more):
        sizes.append(len(ids))
        now[0] += next(durations, 0.0)
        return find_portion(ids, **more)

    def wait(seconds):
        pauses.append(round(seconds, 3))
        return False

    monkeypatch.setattr(pipeline.sink, "find_portion", slow)
    monkeypatch.setattr("writebehind.warming.warmer.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(pipeline.warmer._stopping, "wait", wait)
    assert "" == pipeline.warmer.warm().stopped
    assert [200, 200, 50] == sizes
    assert [0.09, 2.0] == pauses  # 200 documents at 2,000 per second, of which 0.01 s is over

    pipeline.store._wire.call("FLUSHALL")
    make_hot(pipeline, {f"users/s:u{n}": 1 for n in range(450)})
    durations = iter([100.0])
    assert pipeline.warmer.warm().stopped.startswith("60 s are over")


def test_somebody_else_has_begun(pipeline, database, monkeypatch):
    """A pass whose lease has run out leaves the rest to whoever has it by now."""
    make_hot(pipeline, {f"users/s:u{n}": 1 for n in range(450)})
    find, wire = pipeline.sink.find_portion, pipeline.store._wire

    def slow(ids, **more):
        wire.call("SET", WARM_LEASE, "another", "PX", 60_000)
        return find(ids, **more)

    monkeypatch.setattr(pipeline.sink, "find_portion", slow)
    done = pipeline.warmer.warm()
    assert (200, "somebody else has begun to warm") == (done.looked_at, done.stopped)
    assert b"another" == wire.call("GET", WARM_LEASE)


def test_a_process_that_ends(pipeline, database, monkeypatch):
    """It does not wait for the pass."""
    make_hot(pipeline, {f"users/s:u{n}": 1 for n in range(450)})
    pipeline.warmer.stop()
    done = pipeline.warmer.warm()
    assert (200, "this process ends") == (done.looked_at, done.stopped)


def test_the_command(pipeline, config, database, run, monkeypatch):
    """`writebehind warm` says what it did, for people and for scripts."""
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS", orjson.dumps({"users": {}, "shop": {}}).decode())
    database.users.insert_many([{"_id": f"u{n}"} for n in range(3)])
    database.shop.insert_one({"_id": "a"})
    make_hot(pipeline, {"users/s:u0": 3, "users/s:u1": 2, "users/s:u2": 1, "shop/s:a": 9})

    told = orjson.loads(run("warm", "--collection", "users", "--limit", "3", "--json").stdout)
    assert (2, 2, 2) == (told["looked_at"], told["loaded"], told["warmed_in_all"])
    assert "2 of 4 documents warmed" in run("warm").stdout
    assert 2 == run("warm", "--collection", "nobody").exit_code
    pipeline.store._wire.call("SET", WARM_LEASE, "another", "PX", 60_000)
    assert (1, True) == ((busy := run("warm")).exit_code, "somebody else" in busy.stderr)
    pipeline.store._wire.call("DEL", WARM_LEASE)
    pipeline.store._wire.call("HSET", "wb:breaker", "state", "open", "why", "gone", "since", 1, "until", 1 << 45)
    assert (1, True) == ((ended := run("warm")).exit_code, "ended early" in ended.stderr)


def test_what_is_hot_stays_in_a_full_redis(config, mongo_client: MongoClient, tmp_path, monkeypatch):
    """Zipf(1.1) over 2,000 documents of which Redis holds a fifth: after warming nearly as many hits as can be."""
    documents, held, training, measured = 2_000, 400, 60_000, 10_000
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.05)
    weights = list(accumulate(1 / rank**1.1 for rank in range(1, documents + 1)))
    names = [f"u{n}" for n in range(documents)]
    random.Random(3).shuffle(names)
    draw: Callable[[int], list[str]] = lambda count: random.Random(count).choices(  # noqa: E731
        names, cum_weights=weights, k=count
    )
    with EmbeddedRedis(tmp_path) as server, MongoClient(config.mongodb_url) as client:
        wire = Wire(connection_pool(server.url, 5_000))
        with Pipeline(config, wire=wire, client=client) as pipeline:
            users = pipeline.collection("users")
            client[config.mongodb_database].users.insert_many(
                [{"_id": name, "text": "x" * 5_000} for name in names]
            )
            wire.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
            trained = draw(training)
            for at in range(0, training, 50):
                users.read_many(trained[at : at + 50])
            pipeline.hot_keys.send()
            pipeline.store.cache.invalidate_many([f"users/s:{name}" for name in names])
            for at in range(0, held, 50):
                users.read_many(names[-held:][at : at + 50])
            buffers = 300_000  # of a batch on its way, and of connections: little but in a Redis as small as this
            wire.call("CONFIG", "SET", "maxmemory", pipeline.store.load().used_memory + buffers)
            for _ in range(3):
                pipeline.maintenance.decay()
                pipeline.warmer.warm()
            before = reads_by_source(pipeline.tallies)["miss"]
            for name in draw(measured):
                users.get(name)
            ratio = 1 - (reads_by_source(pipeline.tallies)["miss"] - before) / measured
            ideal = weights[held - 1] / weights[-1]
            cached = pipeline.store.load().expiring
    assert cached <= held * 1.05
    assert ratio > ideal - 0.02
