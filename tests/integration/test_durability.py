"""Durability levels on real servers: what is promised is what the server has said."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.servers import RedisProgram, forget_replicas, freeze, resume
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind import BulkOperation, Durability, Pipeline
from writebehind.collection import Collection
from writebehind.documents.durability import Confirmed
from writebehind.errors import DurabilityNotOfferedError
from writebehind.local.embedded import EmbeddedRedis, valkey_binary
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire
from writebehind.writing.written import Written

pytestmark = pytest.mark.one_server("it has the replicas that a test gives it")

#: For what does not come; what comes on a busy machine comes in this time too.
WAIT_MS = 1_500


@pytest.fixture
def pipeline_on(settings, mongo_client, monkeypatch):
    """Pipelines on other servers than the one that most tests share."""
    wires: list[Wire] = []
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)

    def build(server: EmbeddedRedis, **changes: object) -> Pipeline:
        wires.append(Wire(connection_pool(server.url, 5_000)))
        wires[-1].call("FLUSHALL")
        changed = settings.model_copy(update={"confirm_timeout_ms": WAIT_MS, **changes})
        return Pipeline(changed, wire=wires[-1], client=mongo_client)

    yield build
    for wire in wires:
        wire.close()


@pytest.fixture
def replica(valkey, tmp_path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 5_000))
        wire.call("REPLICAOF", "127.0.0.1", valkey.port)
        wait_until(lambda: b"master_link_status:up" in wire.call("INFO", "replication"), "the replica", 30)
        yield server
        wire.close()
    forget_replicas(valkey)


@pytest.fixture
def followed(tmp_path) -> Iterator[tuple[Watched, list[Watched]]]:
    """A primary with two replicas, all of which have their files on disk before they answer."""
    primary = Watched(tmp_path / "primary", appendfsync="always")
    replicas = [Watched(tmp_path / f"replica{at}", primary, appendfsync="always") for at in range(2)]
    with primary, replicas[0], replicas[1]:
        wait_until(lambda: primary.ask("WAIT", 2, 100) == 2, "the replicas", 30)
        yield primary, replicas


@pytest.fixture
def without_waitaof(tmp_path) -> Iterator[EmbeddedRedis]:
    """A server that does not know WAITAOF, as Redis before 7.2."""
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\nexec '{valkey_binary()}' \"$@\" --rename-command WAITAOF ''\n")
    program.chmod(0o755)
    with RedisProgram(tmp_path / "data", program) as server:
        yield server


def test_fsynced(pipeline_on, one_valkey):
    """A server with an append-only file says when a write is on its disk: one, a deletion, and many at once."""
    users = pipeline_on(one_valkey).collection("users")

    written = users.put("ada", {"n": 1}, durability=Durability.FSYNCED)
    deleted = users.delete("ada", durability=Durability.FSYNCED)
    many = users.bulk([BulkOperation("put", f"u{n}", {}) for n in range(3)], durability=Durability.FSYNCED)

    assert {Durability.FSYNCED} == {one.durability for one in (written, deleted, *many)}
    assert users.get("ada") is None
    assert users.get("u2") == {"_id": "u2"}


def test_fsynced_where_the_server_cannot_say_so(pipeline_on, without_waitaof):
    """A server without WAITAOF is not asked to write: the error says what would help, and nothing is stored."""
    users = pipeline_on(without_waitaof).collection("users")

    with pytest.raises(DurabilityNotOfferedError, match=r"Redis 7\.2 or newer, or Valkey"):
        users.put("ada", {"n": 1}, durability=Durability.FSYNCED)
    with pytest.raises(DurabilityNotOfferedError):
        users.bulk([BulkOperation("put", "ada", {})], durability=Durability.FSYNCED)
    assert users.get("ada") is None


def test_fsynced_without_an_append_only_file(pipeline_on, tmp_path):
    """A server that writes no append-only file cannot promise it either; one that stops to, answers `buffered`."""
    with EmbeddedRedis(tmp_path) as server:
        pipeline = pipeline_on(server)
        users = pipeline.collection("users")
        pipeline.store._wire.call("CONFIG", "SET", "appendonly", "no")

        with pytest.raises(DurabilityNotOfferedError, match="appendonly yes"):
            users.put("ada", {"n": 1}, durability=Durability.FSYNCED)
        pipeline._admission.check_offered = lambda _: None  # as a sample of a moment before would have it
        assert Durability.BUFFERED is users.put("ada", {"n": 2}, durability=Durability.FSYNCED).durability
        assert users.get("ada") == {"_id": "ada", "n": 2}


def test_replicated(pipeline_on, valkey, replica):
    """A write that a replica has too says so; one that it does not get in time is `buffered`, and stands."""
    pipeline = pipeline_on(valkey)
    users = pipeline.collection("users")
    assert Durability.REPLICATED is users.put("ada", {"n": 1}, durability=Durability.REPLICATED).durability

    freeze(replica)
    try:
        late = users.put("ada", {"n": 2}, durability=Durability.REPLICATED)
    finally:
        resume(replica)

    assert Durability.BUFFERED is late.durability
    assert users.get("ada") == {"_id": "ada", "n": 2}


def test_repeated(pipeline_on, valkey, replica):
    """A write that is repeated by its key, over another connection, says what replicas have of it."""
    first, other = pipeline_on(valkey).collection("users"), pipeline_on(valkey)
    other.collection("users").put(
        "bob", {}, durability=Durability.REPLICATED
    )  # what a process writes when it begins
    freeze(replica)
    try:
        first.put("ada", {"n": 1}, key="1")
        late = other.collection("users").put("ada", {"n": 1}, durability=Durability.REPLICATED, key="1")
    finally:
        resume(replica)
    there = other.collection("users").put("ada", {"n": 1}, durability=Durability.REPLICATED, key="1")

    assert [(True, Durability.BUFFERED), (True, Durability.REPLICATED)] == [
        (one.replayed, one.durability) for one in (late, there)
    ]


def test_repeated_where_it_fits_no_more(pipeline_on, valkey, replica):
    """A patch that is found to have been made before by its receipt alone waits for replicas like any other."""
    first, other = (pipeline_on(valkey).collection("users") for _ in range(2))
    other.put("bob", {}, durability=Durability.REPLICATED)
    first.put("ada", {"n": 1})

    def patch(users: Collection, durability: Durability) -> Written:
        return users.patch("ada", json_patch=[{"op": "remove", "path": "/n"}], durability=durability, key="1")

    freeze(replica)
    try:
        patch(first, Durability.BUFFERED)
        late = patch(other, Durability.REPLICATED)
    finally:
        resume(replica)
    there = patch(other, Durability.REPLICATED)

    assert [(True, Durability.BUFFERED, 0), (True, Durability.REPLICATED, 1)] == [
        (one.replayed, one.durability, one.confirmed.replicas) for one in (late, there)
    ]


def test_replicated_without_a_replica(pipeline_on, valkey):
    """Nobody waits for a replica that is not there."""
    pipeline = pipeline_on(valkey, confirm_timeout_ms=4_999)
    wait_until(lambda: pipeline.store.load().replicas == 0, "replicas of other tests to be gone")
    calls = []
    send = pipeline.store._wire.exchange
    pipeline.store._wire.exchange = lambda commands: calls.extend(commands) or send(commands)

    written = pipeline.collection("users").put("ada", {"n": 1}, durability=Durability.REPLICATED)

    assert Durability.BUFFERED is written.durability
    assert "WAIT" not in {command[0] for command in calls}


def test_all_replicas_but_one(pipeline_on, followed):
    """One of several replicas may be away: the write is replicated, and the answer says how many have it."""
    primary, (first, second) = followed
    users = pipeline_on(primary).collection("users")
    freeze(first)
    try:
        with_one = users.put("ada", {"n": 1}, durability=Durability.REPLICATED)
        freeze(second)
        with_none = users.put("ada", {"n": 2}, durability=Durability.REPLICATED)
    finally:
        resume(first)
        resume(second)

    assert (Durability.REPLICATED, Confirmed(disk=False, replicas=1)) == (with_one.durability, with_one.confirmed)
    assert (Durability.BUFFERED, Confirmed(disk=False, replicas=0)) == (with_none.durability, with_none.confirmed)


def test_a_number_of_replicas(pipeline_on, followed):
    """Where the settings name a number, fewer are not enough; nobody waits for more than are connected."""
    primary, (first, _) = followed
    both = pipeline_on(primary, confirm_replicas=2).collection("users")
    assert Confirmed(disk=False, replicas=2) == both.put("ada", {}, durability=Durability.REPLICATED).confirmed
    freeze(first)
    try:
        late = [
            both.put("ada", {"n": 1}, durability=Durability.REPLICATED),
            *both.bulk([BulkOperation("put", "bob", {})], durability=Durability.REPLICATED),
        ]
    finally:
        resume(first)
    assert [(Durability.BUFFERED, 1)] * 2 == [(one.durability, one.confirmed.replicas) for one in late]

    three = pipeline_on(primary, confirm_replicas=3, confirm_timeout_ms=4_999).collection("users")
    for level in (Durability.REPLICATED, Durability.FSYNCED):
        began = time.monotonic()
        fewer = three.put("ada", {"n": 2}, durability=level)
        assert (Durability.BUFFERED, True) == (fewer.durability, fewer.confirmed.replicas <= 2)
        assert time.monotonic() - began < 4


def test_fsynced_with_replicas(pipeline_on, followed):
    """The disks of replicas have it too, and say so at once where they can; one without a file never does."""
    primary, replicas = followed
    users = pipeline_on(primary, confirm_replicas=2, confirm_timeout_ms=4_999).collection("users")
    quickest = 1.0
    for n in range(8):
        began = time.monotonic()
        written = users.put("ada", {"n": n}, durability=Durability.FSYNCED)
        quickest = min(quickest, time.monotonic() - began)
        assert (Durability.FSYNCED, Confirmed(disk=True, replicas=2)) == (written.durability, written.confirmed)
    assert quickest < 0.3

    replicas[0].ask("CONFIG", "SET", "appendonly", "no")
    users = pipeline_on(primary, confirm_replicas=2).collection("users")
    late = users.put("ada", {"n": 9}, durability=Durability.FSYNCED)

    assert (Durability.BUFFERED, Confirmed(disk=True, replicas=1)) == (late.durability, late.confirmed)


def test_fsynced_while_all_replicas_are_away(pipeline_on, followed):
    """One of them may take its place: the disk of the primary alone is not enough."""
    primary, replicas = followed
    users = pipeline_on(primary).collection("users")
    for one in replicas:
        one.stop()
    wait_until(lambda: primary.ask("INFO", "replication").find(b"connected_slaves:0") >= 0, "all to be away", 30)

    def alone() -> bool:
        written = users.put("ada", {"n": 1}, durability=Durability.FSYNCED)
        assert Durability.BUFFERED is written.durability
        return Confirmed(disk=True, replicas=0) == written.confirmed

    wait_until(alone, "the write to wait for nobody who is not there", 30)


def test_a_collection_has_its_own_level(pipeline_on, one_valkey, settings):
    """What a collection's settings say holds where a request asks for nothing else."""
    level = settings.collections["users"].model_copy(update={"durability": Durability.FSYNCED})
    users = pipeline_on(one_valkey, collections={"users": level}).collection("users")

    assert Durability.FSYNCED is users.put("ada", {}).durability
    assert Durability.BUFFERED is users.put("ada", {}, durability=Durability.BUFFERED).durability
    assert Durability.PERSISTED is users.put("ada", {}, durability=Durability.PERSISTED).durability
