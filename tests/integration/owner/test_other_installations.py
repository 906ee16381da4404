"""Installations with another MongoDB database: what they may not do in this Redis."""

from __future__ import annotations

import threading

import pytest

from tests.integration.conftest import flush_all, put
from writebehind.errors import (
    ForeignDatabaseError,
    ForeignRedisError,
    RedisUnavailableError,
)
from writebehind.operations.drain import drain
from writebehind.operations.repartition import repartition
from writebehind.reading.read import Source
from writebehind.redis.keys import DATABASE, PARTITIONS, partition_keys
from writebehind.redis.shared.owner import Owner


def test_nothing_is_acknowledged_for_another_database(pipeline, foreign):
    """A write of another installation is refused, with what to do, and changes nothing."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    before = pipeline.store.cache.get("users/s:ada")

    for name in ("users", "slow", "through", "around"):
        with pytest.raises(RedisUnavailableError, match=r"belongs to database.*REDIS_URL"):
            foreign.collection(name).put("ada", {"name": "Eve"})
        with pytest.raises(RedisUnavailableError, match="belongs to database"):
            foreign.collection(name).delete("ada")

    assert (before, 1) == (pipeline.store.cache.get("users/s:ada"), pipeline.status()["pending"])


def test_reads_of_another_installation_go_past_this_redis(pipeline, foreign, mongo_client):
    """They find what their own database has, and leave nothing of it here: documents, values and queries."""
    pipeline.collection("users").put("ada", {"name": "Ada", "of": "a"})
    theirs = mongo_client[foreign.settings.mongodb_database]["users"]
    theirs.insert_many([{"_id": "ada", "name": "Eve", "of": "b"}, {"_id": "bob", "name": "Bob", "of": "b"}])
    wire, users = pipeline.store._wire, foreign.collection("users")
    before = sorted(wire.call("KEYS", "*"))

    assert Source.BYPASS is users.read("ada").source
    assert {"_id": "ada", "name": "Eve", "of": "b"} == users.get("ada")
    assert [{"_id": "bob", "name": "Bob", "of": "b"}] == users.mget(["bob"])
    assert ["bob", None] == [
        found and found.value for found, _ in (users.look_up("name", n) for n in ("Bob", "Ada"))
    ]
    assert ["bob"] == [one["_id"] for one in users.query("named", {"name": "Bob"})]

    assert before == sorted(wire.call("KEYS", "*"))


def test_nothing_is_flushed_to_another_database(pipeline, foreign, mongo_client):
    """A flusher of another installation writes nothing, and the partition is free for its own at once."""
    partition = pipeline.store.partition_of("users/s:ada")
    pipeline.collection("users").put("ada", {"name": "Ada"})
    wire, of_it = pipeline.store._wire, partition_keys(pipeline.store.partition_of("users/s:ada"))
    for flush in (
        lambda: foreign.flusher.flush(partition),
        lambda: foreign.flusher.drain(partition, budget_s=1),
        lambda: foreign.flusher.persist({"users/s:ada": 1}, timeout_ms=500),
    ):
        with pytest.raises(ForeignRedisError, match="belongs to database"):
            flush()
        assert [0, 0] == [wire.call("EXISTS", key) for key in (of_it.lease, of_it.scheduled)]

    assert foreign.settings.mongodb_database not in mongo_client.list_database_names()
    assert 1 == pipeline.flusher.flush(partition).persisted


def test_nothing_is_maintained_for_another_database(pipeline, foreign, hints):
    """No periodic task of another installation does anything here, nor does a worker of it hand anything over."""
    put(pipeline, 3)
    pipeline.collection("users").delete("ada")
    flush_all(pipeline)
    put(pipeline, 3, n=10)
    wire = pipeline.store._wire
    before = {key: wire.call("DUMP", key) for key in wire.call("KEYS", "*")}
    of_it = foreign.maintenance

    for task in (of_it.sweep, of_it.audit_deletions, of_it.reconcile, of_it.decay, of_it.warm, of_it.hand_over):
        with pytest.raises(RedisUnavailableError, match="belongs to database"):
            task()

    assert before == {key: wire.call("DUMP", key) for key in wire.call("KEYS", "*")}


def test_a_listener_of_another_database_does_not_lead(pipeline, foreign):
    """It neither takes the lease nor says anything in the status, which is the other installation's."""
    pipeline.check()
    listener = foreign.listener()
    thread = threading.Thread(target=listener.listen)
    checks = threading.Event()
    check = listener._check

    def noted() -> None:
        checks.set()
        check()

    listener._check = noted
    thread.start()
    assert checks.wait(10)
    listener.stop()
    thread.join(10)

    assert not thread.is_alive()
    assert [] == pipeline.store._wire.call("KEYS", "wb:listener*")


def test_a_process_that_runs_notices(pipeline, foreign):
    """Redis was emptied, and another installation came first: nothing is acknowledged or flushed any more."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    pipeline.store._wire.call("FLUSHALL")
    foreign.collection("users").put("eve", {"name": "Eve"})

    with pytest.raises(RedisUnavailableError, match="belongs to database"):
        pipeline.collection("users").put("ada", {"name": "Ada"})
    with pytest.raises(RedisUnavailableError, match="belongs to database"):
        pipeline.flusher.flush(pipeline.store.partition_of("users/s:eve"))
    assert 1 == foreign.status()["pending"]


def test_what_is_seen_at_the_last_moment(pipeline, foreign, monkeypatch, mongo_client):
    """What a flusher has read just before another installation's Redis took this one's place is not written."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    entries, wire = pipeline.store.pending.entries, pipeline.store._wire

    def then_another(*arguments):
        found = entries(*arguments)
        wire.call("SET", DATABASE, Owner(foreign.settings.mongodb_database).record)
        return found

    monkeypatch.setattr(pipeline.store.pending, "entries", then_another)
    with pytest.raises(ForeignRedisError):
        pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    assert pipeline.settings.mongodb_database not in mongo_client.list_database_names()


@pytest.mark.parametrize(
    "act", [lambda one: drain(one, timeout_s=5), lambda one: repartition(one, 8)], ids=["drain", "repartition"]
)
def test_operations_of_another_installation(pipeline, foreign, act):
    """They refuse, with what to do, and change nothing."""
    put(pipeline, 2)
    with pytest.raises(ForeignDatabaseError, match="belongs to database"):
        act(foreign)
    assert (2, b"4") == (pipeline.status()["pending"], pipeline.store._wire.call("GET", PARTITIONS))


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("drain",),
        ("repartition", "8"),
        ("reconcile",),
        ("reconcile", "--all"),
        ("warm",),
        ("hot-keys",),
        ("conflicts",),
        ("listen",),
        ("dead-letters", "list"),
    ],
)
def test_commands_of_another_installation(pipeline, run, monkeypatch, tmp_path, command):
    """A command whose settings name another database does not start, and says what to do."""
    pipeline.check()
    monkeypatch.setenv("WRITEBEHIND_METRICS_DIR", str(tmp_path))  # `listen` would choose one
    monkeypatch.setenv("MONGODB_DATABASE", "of_others")
    with pytest.raises(ForeignDatabaseError, match=r"not to 'of_others': set REDIS_URL"):
        run(*command)
