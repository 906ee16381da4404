"""Back-pressure on a real server: what is refused, what is not, and what clients are told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.waiting import wait_until
from writebehind import BulkOperation, CollectionSettings, Durability, Pipeline, Written
from writebehind.errors import MemoryPressureError, PartitionFullError, RedisFullError, RedisUnavailableError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.reading.read import Source
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import PARTITIONS
from writebehind.redis.scripts import script
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample, Sampler
from writebehind.redis.wire import Wire
from writebehind.writing.admission import LONGEST_S, Admission


class FixedSampler:
    """A sample that the test makes."""

    def __init__(self, pending: int, drained_per_second: float) -> None:
        self.vitals = LoadSample(
            misfit="",
            recorded=True,
            pending=(pending, 0),
            dead={},
            used_memory=100,
            max_memory=0,
            evicts=False,
            keys=0,
            expiring=0,
            appendonly=True,
            replicas=0,
            waits_for_disk=True,
            drained_per_second=drained_per_second,
        )

    def look(self) -> LoadSample:
        return self.vitals


@pytest.fixture
def full(settings, valkey_wire, mongo_client) -> Pipeline:
    """A pipeline whose only partition holds as many pending documents as it may."""
    changed = settings.model_copy(update={"partitions": 1, "max_pending_per_partition": 3})
    pipeline = Pipeline(changed, wire=valkey_wire, client=mongo_client)
    for n in range(3):
        pipeline.collection("slow").put(f"u{n}", {"n": 0})
    return pipeline


def test_a_full_partition(full):
    """A new document is refused, one that is pending already is taken, and reads are as ever."""
    slow = full.collection("slow")

    with pytest.raises(PartitionFullError) as refused:
        slow.put("new", {})
    slow.put("u1", {"n": 1})
    slow.delete("u2")

    assert 1 <= refused.value.retry_after_s <= LONGEST_S
    assert [{"_id": "u0", "n": 0}, {"_id": "u1", "n": 1}, None] == [slow.get(f"u{n}") for n in range(3)]
    assert slow.get("new") is None
    assert 3 == full.status()["pending"]


def test_what_is_written_through_needs_no_room(full):
    """What others leave in a partition does not stop what is persisted before it is answered."""
    assert "persisted" == full.collection("through").put("new", {"n": 1}).durability
    assert "persisted" == full.collection("around").put("new", {"n": 1}).durability


def test_what_is_written_through_is_bounded(full, monkeypatch):
    """Where MongoDB takes none of it and nobody knows, it may wait as well, up to twice the cap."""
    monkeypatch.setattr(full.flusher, "persist", lambda versions, **_: versions and {})
    through = full.collection("through")
    for n in range(3):
        through.put(f"new{n}", {"n": n})
    with pytest.raises(PartitionFullError):
        full.collection("around").put("more", {})
    through.put("new1", {"n": 5})
    assert 6 == full.status()["pending"]


@pytest.mark.parametrize("name", ["through", "around"])
def test_what_is_written_through_while_mongodb_is_away(settings, valkey_wire, monkeypatch, name):
    """It waits like any other: once the breaker is open, the cap and the bound of memory are the same."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    limits = {"mongodb_timeout_ms": 100, "persist_timeout_ms": 100, "max_pending_per_partition": 5}
    away = {"partitions": 1, "mongodb_url": "mongodb://127.0.0.1:1/"}
    with Pipeline(settings.model_copy(update=limits | away), wire=valkey_wire) as pipeline:
        one, taken = pipeline.collection(name), 0
        with suppress(PartitionFullError):
            for taken in range(20):
                one.put(f"u{taken}", {})
        assert ("open", 5) == (pipeline.breaker.state().state, taken)

        valkey_wire.call("DEL", "wb:{0}:pending")
        monkeypatch.setattr(LoadSample, "uses", lambda *_: True)
        with pytest.raises(MemoryPressureError):
            one.put("new", {})


def test_there_is_room_again(full):
    """Once something is persisted a new document is taken."""
    full.flusher.persist({"slow/s:u0": 0}, timeout_ms=5_000)
    full.store._wire.call("ZADD", "wb:{0}:pending", 0, "slow/s:u0", 0, "slow/s:u1", 0, "slow/s:u2")
    full.flusher.flush(0)

    assert "buffered" == full.collection("slow").put("new", {}).durability


def test_redis_memory(settings, mongo_client, tmp_path, monkeypatch):
    """Near Redis's limit a new document is refused before Redis would; one that is pending is taken."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 5_000))
        pipeline = Pipeline(settings, wire=wire, client=mongo_client)
        slow, through = pipeline.collection("slow"), pipeline.collection("through")
        slow.put("old", {"n": 0})
        # A few percent of it are more than its ups and downs. Sent as a value it would be in buffers as well.
        wire.call("SETRANGE", "ballast", 20 << 20, "x")
        used = pipeline._admission._sampler.look().used_memory
        wire.call("CONFIG", "SET", "maxmemory", limit := used * 100 // 94)

        with pytest.raises(MemoryPressureError, match=rf"of {limit} bytes.*90 %.*raise maxmemory"):
            slow.put("new", {})
        slow.put("old", {"n": 1})
        assert slow.get("old") == {"_id": "old", "n": 1}
        assert "persisted" == through.put("new", {}).durability

        wire.call("CONFIG", "SET", "maxmemory", used * 10)
        slow.put("new", {})
        wire.close()


def test_a_redis_that_evicts(settings, mongo_client, tmp_path, monkeypatch):
    """One that is full of what MongoDB has takes writes, and evicts for them; until hardly any of that is left."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 5_000))
        pipeline = Pipeline(settings, wire=wire, client=mongo_client)
        slow, text = pipeline.collection("slow"), "x" * 100_000
        for n in range(100):
            pipeline.collection("through").put(f"u{n}", {"text": text})
        used = pipeline._admission._sampler.look().used_memory
        wire.call("CONFIG", "SET", "maxmemory", used * 106 // 100)
        with pytest.raises(MemoryPressureError):
            slow.put("u0", {})
        (one,) = (one for one in pipeline.status()["to_do"] if one["about"] == "refused")
        assert "copies of what MongoDB has" in one["found"]
        assert "`CONFIG SET maxmemory-policy volatile-lru` makes room" in one["advice"]
        wire.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", used)

        taken = 0
        with suppress(MemoryPressureError):
            for taken in range(200):
                slow.put(f"u{taken}", {"text": text})

        assert 80 < taken < 120
        assert [text] * taken == [slow.get(f"u{at}")["text"] for at in range(taken)]
        assert taken == pipeline.status()["pending"]
        wire.close()


def test_redis_is_full(settings, mongo_client, tmp_path, monkeypatch):
    """A Redis that takes no writes at all still serves reads, and lets what is pending drain."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 5_000))
        pipeline = Pipeline(
            settings.model_copy(update={"max_memory_percent": 100}), wire=wire, client=mongo_client
        )
        users = pipeline.collection("users")
        for n in range(10):
            users.put(f"u{n}", {"n": n})
        users.delete("u9")
        monkeypatch.setattr("writebehind.writing.admission.Admission._short_of_memory", lambda *_: False)
        wire.call("CONFIG", "SET", "maxmemory", 1)

        with pytest.raises(RedisFullError):
            users.put("new", {})
        assert {"_id": "u1", "n": 1} == users.get("u1")
        assert (Source.MISS, False) == ((read := users.read("never")).source, read.stored)
        summaries = [pipeline.flusher.flush(partition) for partition in range(settings.partitions)]

        assert (9, 1) == (sum(one.persisted for one in summaries), sum(one.deleted for one in summaries))
        assert 0 == pipeline.status()["pending"]
        assert pipeline.maintenance.sweep() == {"pending": 0, "enqueued": 0}
        wire.call("CONFIG", "SET", "maxmemory", 0)
        users.put("new", {})
        wire.close()


@pytest.mark.parametrize("lookup", [{}, {"name": "string"}], ids=["", "lookup"])
@pytest.mark.parametrize("durability", [Durability.BUFFERED, Durability.FSYNCED])
def test_redis_becomes_full_during_a_bulk(settings, mongo_client, tmp_path, hints, durability, lookup):
    """Each write says for itself whether it has happened, and a flush task comes for those that have."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 5_000))
        listed = settings.collections | {
            "users": settings.collections["users"].model_copy(update={"lookup": lookup})
        }
        changed = settings.model_copy(update={"max_memory_percent": 100, "collections": listed})
        pipeline = Pipeline(changed, hints=hints, wire=wire, client=mongo_client)
        users = pipeline.collection("users")
        users.put("first", {"name": "first"})
        hints.clear()
        wire.call("CONFIG", "SET", "maxmemory", int(pipeline.store.facts()[""]["used_memory"]) + (2 << 20))
        operations = [BulkOperation("put", f"u{n}", {"name": f"n{n}", "text": "x" * 40_000}) for n in range(90)]

        done = users.bulk(operations, durability=durability)

        wire.call("CONFIG", "SET", "maxmemory", 0)
        assert {Written, RedisFullError} == {type(one) for one in done}
        assert {durability} == {one.durability for one in done if isinstance(one, Written)}
        assert [isinstance(one, Written) for one in done] == [
            users.get(operation.id) is not None for operation in operations
        ]
        ids = [users.id(one.id) for one in done if isinstance(one, Written)]
        if lookup:
            assert [users.look_up("name", f"n{one.text[1:]}")[0] for one in ids] == ids
        first = pipeline.store.partition_of(users.id("first").member)
        assert {pipeline.store.partition_of(one.member) for one in ids} - {first} == {
            hint.partition for hint in hints
        } - {first}
        wire.close()


def test_the_figures_are_sampled(full):
    """A thousand writes ask for the figures a few times only."""
    asked = []
    send = full.store._wire.exchange
    full.store._wire.exchange = lambda commands: asked.extend(commands) or send(commands)

    for n in range(1000):
        full.collection("slow").put("u1", {"n": n})

    assert 1000 == sum(command[:2] == ("EVALSHA", script("commit").sha1) for command in asked)
    assert sum(command[0] == "INFO" for command in asked) <= 20


def test_a_process_that_counts_partitions_differently_writes_nothing(full, monkeypatch):
    """A process of another number than Redis has refuses writes, says what to do, and misplaces none."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    advice = {
        "2": "holds data in 2 partitions, not in 1: set WRITEBEHIND_PARTITIONS=2, and restart",
        "moving:1:2": "number is being changed from 1 to 2",
    }
    for recorded, said in advice.items():
        full.store._wire.call("SET", PARTITIONS, recorded)
        with pytest.raises(RedisUnavailableError, match=said):
            full.collection("slow").put("u1", {"n": 1})
    full.store._wire.call("SET", PARTITIONS, "1")
    wait_until(lambda: full.collection("slow").put("u1", {"n": 2}), "the write to be taken")


@pytest.mark.parametrize(
    ("pending", "rate", "least", "most"),
    [
        (10_000, 1_000, 2, 3),  # a tenth of what two such partitions hold, at that rate, and up to a quarter more
        (10_000, 100, 20, 25),
        (10_000, 1, LONGEST_S, LONGEST_S),
        (10_000, 0, LONGEST_S, LONGEST_S),
        (10, 1_000, 1, 1),
    ],
)
def test_when_to_come_again(pending, rate, least, most):
    """Clients are told to wait for about as long as it takes to make room at the measured rate."""
    admission = Admission(FixedSampler(pending, rate), Caps(pending, 0.9))

    assert least <= admission.refusal("users", CollectionSettings()).retry_after_s <= most


def test_one_caller_takes_the_sample(full, monkeypatch):
    """While one caller takes a sample the others go by the last one."""
    sampler = Sampler(full.store.load, lambda _: None)
    first = sampler.look()
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)

    with ThreadPoolExecutor(1) as other:
        other.submit(sampler._lock.acquire).result()
        assert sampler.look() is first
        other.submit(sampler._lock.release).result()
    assert sampler.look() is not first
