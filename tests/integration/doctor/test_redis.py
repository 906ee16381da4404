"""What the doctor says of Redis."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.doctor.conftest import found
from tests.servers import forget_replicas
from tests.topologies import ask
from writebehind import CollectionSettings, Pipeline
from writebehind.errors import ReplicaError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.operations.doctor import Finding, Level, check_start, clocks, redis
from writebehind.redis import keys
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import partition_keys
from writebehind.redis.wire import Wire
from writebehind.settings.running import DATA_DIR, STATE_FILE


@pytest.mark.parametrize(
    ("name", "value", "check", "level", "advice"),
    [
        ("maxmemory-policy", "allkeys-lru", "redis eviction", Level.FAILURE, "maxmemory-policy noeviction"),
        ("maxmemory-policy", "allkeys-random", "redis eviction", Level.FAILURE, "maxmemory-policy noeviction"),
        ("maxmemory-policy", "volatile-lru", "redis eviction", Level.OK, ""),
        ("appendonly", "no", "redis persistence", Level.WARNING, "CONFIG SET appendonly yes"),
        ("appendonly", "no", "redis durability", Level.OK, ""),
        ("appendfsync", "everysec", "redis fsync", Level.OK, ""),
        ("appendfsync", "no", "redis fsync", Level.WARNING, "CONFIG SET appendfsync everysec"),
        ("maxmemory", "0", "redis memory", Level.WARNING, "CONFIG SET maxmemory"),
        ("maxmemory", "1mb", "redis memory", Level.WARNING, "raise maxmemory"),
    ],
)
def test_the_configuration_of_redis(patient, name, value, check, level, advice):
    """What Redis is told to do with what it holds is judged, and what to set is said."""
    patient.store._wire.call("CONFIG", "SET", name, value)

    one = found(patient, check)

    assert (level, True) == (one.level, advice in one.advice)
    assert name in {"maxmemory", "appendonly"} or value in one.found


@pytest.mark.parametrize(
    ("policy", "replicas", "says"),
    [
        ("everysec", 0, "the last second of writes that were answered as buffered, which no replica has; fsynced"),
        ("everysec", 1, "the last second of writes that were answered as buffered; fsynced waits for the disk"),
        ("always", 0, "no acknowledged write is lost"),
    ],
)
def test_what_a_crash_takes_of_what_was_acknowledged(policy, replicas, says):
    """It is what `buffered` means, and no fault: it is said, with the levels that wait for more."""
    one = redis.fsync(policy, replicas)
    assert (Level.OK, True) == (one.level, says in one.found)


@pytest.mark.parametrize(
    ("facts", "again"),
    [
        ({"config_file": ""}, "again after each start"),
        ({"config_file": "/r.conf"}, "its configuration file"),
        ({}, "file"),
    ],
)
def test_a_server_without_a_configuration_file(facts, again):
    """Who is to set a limit is told of no file that there is not, as of the embedded server."""
    one = redis.memory(facts)
    assert (Level.WARNING, True) == (one.level, again in one.advice)
    assert ("and the same in its" in one.advice) == (facts.get("config_file") != "")


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({"redis_version": "6.2.14"}, Level.FAILURE),
        ({"redis_version": "7.0.0"}, Level.OK),
        ({"redis_version": "8.2.1"}, Level.OK),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, Level.OK),
    ],
)
def test_the_version_of_redis(facts, level):
    """What is too old is refused."""
    assert level is redis.version(facts).level


@pytest.fixture
def replica(patient, one_valkey) -> Iterator[Pipeline]:
    wire = patient.store._wire
    port = wire._servers.place("")._pool.connection_kwargs["port"]
    patient.check()
    ask(port, "REPLICAOF", "127.0.0.1", one_valkey.port)
    wire.close()
    yield patient
    ask(port, "REPLICAOF", "NO", "ONE")
    forget_replicas(one_valkey)


def test_a_replica(replica):
    """A replica is a failure. It may become the primary, so processes start, and wait for that."""
    for _ in range(2):  # it is asked, and is not asked again for a moment
        (one,) = redis.check(replica)
        assert ("redis role", Level.FAILURE) == (one.check, one.level)
        assert "name its primary in REDIS_URL" == one.advice
        with pytest.raises(ReplicaError):
            check_start(replica)


def test_a_cluster():
    """A node of a Redis Cluster, which has only a part of the keys, is the wrong server."""
    facts = {"redis_version": "8.0.0", "maxmemory_policy": "noeviction", "aof_enabled": "1", "role": "master"}
    assert [] == [one for one in redis.fitness(facts) if one.level is not Level.OK]
    [one] = [one for one in redis.fitness(facts | {"cluster_enabled": "1"}) if one.level is not Level.OK]
    assert ("redis cluster", Level.FAILURE, True) == (one.check, one.level, one.fatal)


def test_a_redis_that_says_little(patient, server):
    """A user who may not ask for figures is a warning, and can still be served."""
    wire = patient.store._wire
    wire.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info", "-config")
    limited = Wire(connection_pool(server.url.replace("redis://", "redis://app:secret@"), 5_000))
    pipeline = Pipeline(patient.settings, wire=limited, client=patient._client)
    assert ["redis"] == [one.check for one in check_start(pipeline)]
    levels = {one.check: one.level for one in redis.check(pipeline)}
    assert {"redis": Level.WARNING, "redis clock": Level.OK, "partitions": Level.OK} == {
        name: levels[name] for name in ("redis", "redis clock", "partitions")
    }
    wire.call("ACL", "SETUSER", "app", "+info")
    assert "unknown, as CONFIG GET is refused" in found(pipeline, "redis fsync").found
    wire.call("ACL", "DELUSER", "app")
    limited.close()


def test_what_collections_are_promised(patient):
    """What a collection's settings promise, and this Redis cannot, is found."""

    def judged(**durability: str) -> dict[str, Level]:
        collections = {
            name: CollectionSettings.model_validate({"durability": one}) for name, one in durability.items()
        }
        settings = patient.settings.model_copy(update={"collections": collections})
        pipeline = Pipeline(settings, wire=patient.store._wire, client=patient._client)
        return {one.found.split(" are ")[0]: one.level for one in redis.durability(pipeline)}

    assert {"it can promise buffered, fsynced, persisted; replicated needs 1 replica": Level.OK} == judged(
        users="fsynced", pages="persisted"
    )
    assert {"writes to users": Level.WARNING} == judged(users="replicated", pages="fsynced")
    patient.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert {"writes to users, pages": Level.FAILURE} == judged(users="fsynced", pages="fsynced")


def test_nothing_is_synced_without_a_file(patient):
    """Without an append-only file it is not said that only a second would be lost."""
    patient.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert "redis fsync" not in {one.check for one in redis.check(patient)}


def test_the_clock():
    """Clocks that differ by seconds are worth a warning, in both directions."""
    assert [Level.WARNING, Level.OK, Level.WARNING] == [clocks.clock(ahead).level for ahead in (-3, 1, 3)]


def test_the_append_only_file_cannot_be_written():
    """A disk that is full is a failure."""
    facts = {"aof_enabled": "1", "aof_last_write_status": "err"}
    assert Level.FAILURE is redis.persistence(facts).level
    assert not redis.persistence(facts).fatal  # it refuses writes by itself, and may have room again soon
    for fact in ("aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        assert Level.WARNING is redis.persistence({"aof_enabled": "1", fact: "err"}).level


@pytest.fixture
def of_up(tmp_path, monkeypatch, settings, mongo_client) -> Iterator[tuple[EmbeddedRedis, Pipeline]]:
    """A server with an append-only file, as a system that runs in this directory has it."""
    monkeypatch.chdir(tmp_path)
    with EmbeddedRedis(tmp_path / DATA_DIR) as server:
        state = {
            "redis_url": server.url,
            "mongodb_url": settings.mongodb_url,
            "mongodb_database": settings.mongodb_database,
            "embedded": {"redis": server.title},
            "data_dir": str(tmp_path / DATA_DIR),
            "pid": os.getpid(),
        }
        (tmp_path / DATA_DIR / STATE_FILE).write_text(json.dumps(state))
        changed = settings.model_copy(update={"redis_url": server.url, "broker_url": ""})
        wire = Wire(connection_pool(server.url, 5_000))
        yield server, Pipeline(changed, wire=wire, client=mongo_client)
        wire.close()


def test_a_directory_that_was_taken_away_under_it(of_up, tmp_path):
    """It writes on, to files that its next start does not find."""
    _, pipeline = of_up
    home = tmp_path / DATA_DIR / "redis"
    assert Level.OK is persistence_of(pipeline).level

    home.rename(tmp_path / "elsewhere")
    moved = persistence_of(pipeline)
    assert (Level.FAILURE, True) == (moved.level, f"{tmp_path / 'elsewhere'}/data" in moved.found)
    assert f"move it back to {home}" in moved.advice
    (tmp_path / "elsewhere").rename(home)
    assert Level.OK is persistence_of(pipeline).level

    shutil.rmtree(home)
    deleted = persistence_of(pipeline)
    assert (Level.FAILURE, True) == (deleted.level, "is not there any more" in deleted.found)
    assert "drain" in deleted.advice
    pipeline.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert "is off" in persistence_of(pipeline).found


def persistence_of(pipeline: Pipeline) -> Finding:
    return next(one for one in redis.check(pipeline) if one.check == "redis persistence")


def test_a_directory_that_nobody_tells():
    """As of a Redis that others run, whose configuration may not be read."""
    assert redis.lost_files(None, Path("/home/of/redis")) is None


def test_partitions(patient):
    """Another number of partitions than Redis is divided into is a failure."""
    assert "nobody has written" in found(patient, "partitions").found
    patient.check()
    assert "4, as recorded" in found(patient, "partitions").found
    patient.store._wire.call("ZADD", partition_keys(9).pending, 0, "users/s:late")
    assert "in partition 9, where nobody looks" in found(patient, "partitions").found
    for record, advice in (("5", "set WRITEBEHIND_PARTITIONS=5"), ("moving:4:8", "`writebehind repartition 8`")):
        patient.store._wire.call("SET", keys.PARTITIONS, record)
        one = found(patient, "partitions")
        assert (Level.FAILURE, True) == (one.level, advice in one.advice)


def test_the_database(patient):
    """A Redis of another MongoDB database than the settings name is a failure; the doctor records nothing."""
    for _ in range(2):
        assert "nobody has written" in found(patient, "database").found
    patient.check()
    name = patient.settings.mongodb_database
    assert f"{name}, as recorded" in found(patient, "database").found
    for record, told, advice in (
        ("database/shop", f"belongs to database 'shop', not to {name!r}", "set REDIS_URL to a Redis database"),
        (f"moving/shop/{name}", "is being moved from database 'shop'", "finish it by `writebehind adopt`"),
    ):
        patient.store._wire.call("SET", keys.DATABASE, record)
        one = found(patient, "database")
        assert (Level.FAILURE, True, True) == (one.level, told in one.found, one.advice.startswith(advice))
