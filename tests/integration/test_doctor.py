"""What `writebehind doctor` finds, and what keeps a process from starting."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.synchronous.database import Database

from tests.integration.conftest import environment
from tests.waiting import wait_until
from writebehind import CollectionSettings, Pipeline, Settings
from writebehind.change_stream.listener import ListenerState
from writebehind.cli import cli
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.local.embedded import EmbeddedRedis, free_port
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.maintenance.periodic import SWEEP
from writebehind.mongodb.deployment import CollectionInfo
from writebehind.operations.doctor import Finding, Level, check_start, examine, mongodb, processes, redis
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.wire import Wire, connection_pool
from writebehind.settings.names import QUEUES


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    """A server whose configuration may be changed."""
    with EmbeddedRedis(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def patient(server, settings, mongo_client) -> Iterator[Pipeline]:
    """A pipeline in good health, but for workers and beat."""
    wire = Wire(connection_pool(server.url, 5_000))
    wire.call("FLUSHALL")
    for name, value in (
        ("maxmemory", "100mb"),
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
    ):
        wire.call("CONFIG", "SET", name, value)
    changed = settings.model_copy(update={"redis_url": server.url})
    yield Pipeline(changed, wire=wire, client=mongo_client)
    wire.close()


def found(pipeline: Pipeline, check: str) -> Finding:
    return next(one for one in examine(pipeline) if one.check == check)


def test_good_health(patient):
    """An installation in good health has nothing to be done, once its processes run."""
    patient.store.metrics.record_heartbeat("worker@here", QUEUES)
    patient.maintenance.sweep()
    patient.store._wire.call(
        "SET", keys.LISTENER, ListenerState(leader="here", at_ms=patient.store.now_ms()).dump()
    )
    patient.check()

    core = [*redis.check(patient), *mongodb.check(patient), *processes.check(patient)]

    assert [] == [one for one in core if one.level is not Level.OK]
    assert [""] == list({one.advice for one in core})
    assert {
        "redis version",
        "redis eviction",
        "redis persistence",
        "redis role",
        "redis fsync",
        "redis memory",
        "redis durability",
        "redis clock",
        "partitions",
    } <= {one.check for one in core}
    assert {"mongodb version", "mongodb topology", "mongodb write concern", "workers", "beat", "backlog"} <= {
        one.check for one in core
    }


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
def replica(patient, valkey) -> Iterator[Pipeline]:
    wire = patient.store._wire
    patient.check()
    wire.call("REPLICAOF", "127.0.0.1", valkey.port)
    yield patient
    wire.call("REPLICAOF", "NO", "ONE")
    wire.call("CONFIG", "SET", "replica-read-only", "yes")


def test_a_replica(replica):
    """A replica is a failure. It may become the primary, so processes start, unless it takes writes itself."""
    one = found(replica, "redis role")
    assert (Level.FAILURE, "name its primary in REDIS_URL") == (one.level, one.advice)
    with pytest.raises(RedisUnavailableError):
        check_start(replica)

    replica.store._wire.call("CONFIG", "SET", "replica-read-only", "no")
    with pytest.raises(ConfigurationError, match="takes writes, and loses them: name its primary"):
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

    assert {"it can promise buffered, fsynced, persisted": Level.OK} == judged(users="fsynced", pages="persisted")
    assert {"writes to users": Level.WARNING} == judged(users="replicated", pages="fsynced")
    patient.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert {"writes to users, pages": Level.FAILURE} == judged(users="fsynced", pages="fsynced")


def test_nothing_is_synced_without_a_file(patient):
    """Without an append-only file it is not said that only a second would be lost."""
    patient.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert "redis fsync" not in {one.check for one in redis.check(patient)}


def test_the_clock():
    """Clocks that differ by seconds are worth a warning, in both directions."""
    assert [Level.WARNING, Level.OK, Level.WARNING] == [redis.clock(ahead).level for ahead in (-3, 1, 3)]


def test_the_append_only_file_cannot_be_written():
    """A disk that is full is a failure."""
    facts = {"aof_enabled": "1", "aof_last_write_status": "err"}
    assert Level.FAILURE is redis.persistence(facts).level
    assert not redis.persistence(facts).fatal  # it refuses writes by itself, and may have room again soon
    for fact in ("aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        assert Level.WARNING is redis.persistence({"aof_enabled": "1", fact: "err"}).level


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


def test_servers_that_do_not_answer(patient, monkeypatch):
    """Servers that are away are findings, not errors."""

    def no_redis(*_: object) -> None:
        raise RedisUnavailableError

    def no_mongodb(*_: object, **__: object) -> None:
        raise MongoUnavailableError

    monkeypatch.setattr(patient.store._wire, "exchange", no_redis)
    monkeypatch.setattr(patient.sink, "command", no_mongodb)
    failures = {one.check: one.advice for one in examine(patient) if one.level is Level.FAILURE}
    assert ("start it, or set REDIS_URL", "start it, or set MONGODB_URL") == (
        failures["redis"],
        failures["mongodb"],
    )


def test_a_majority_that_does_not_answer(patient, monkeypatch):
    """Writes that no majority acknowledges would never be persisted."""

    def refuse() -> None:
        raise MongoUnavailableError("no majority")

    monkeypatch.setattr(patient.sink, "try_write_concern", refuse)
    assert (Level.FAILURE, "no majority") == (
        (one := found(patient, "mongodb write concern")).level,
        one.found,
    )


@pytest.mark.parametrize(
    ("hello", "level", "text"),
    [
        ({"msg": "isdbgrid"}, Level.OK, "sharded"),
        ({"setName": "rs0", "hosts": ["a", "b", "c"], "isWritablePrimary": True}, Level.OK, "replica set of 3"),
        ({"setName": "rs0", "hosts": ["a"], "isWritablePrimary": False}, Level.FAILURE, "not its primary"),
        ({}, Level.WARNING, "no change streams"),
    ],
)
def test_topology(hello, level, text):
    """A standalone server works, but is worth a warning; one that is no primary takes no writes."""
    one = mongodb.topology(hello)
    assert (level, True) == (one.level, text in one.found)


@pytest.mark.parametrize(("version", "level"), [("4.4.1", Level.WARNING), ("8.0.3", Level.OK)])
def test_the_version_of_mongodb(version, level):
    """What is older than what is tested is worth a warning."""
    assert level is mongodb.version(version).level


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"properties": {"name": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}, "_v": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}}, "patternProperties": {"^_": {}}}, True),
        ({"additionalProperties": {"bsonType": "long"}, "properties": {"name": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}}}, False),
        ({"additionalProperties": False}, False),
    ],
)
def test_schemas_that_allow_the_version(schema, allowed):
    """A schema that lists every field has to list `_v`, by name or by pattern."""
    assert allowed is mongodb.allows_version(schema)


@pytest.mark.parametrize(
    "error",
    [OperationFailure("not supported", 115), OperationFailure("not authorized", 13), AutoReconnect("gone")],
)
def test_a_change_stream_that_does_not_open(patient, monkeypatch, error):
    """A server that says it is a replica set may have no change streams, or not for this user: one is opened."""
    assert (Level.OK, "opens") == ((one := found(patient, "mongodb change stream")).level, one.found)

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Database, "watch", refuse)
    one = found(patient, "mongodb change stream")
    assert (Level.WARNING, True) == (one.level, str(error) in one.found)
    assert "none opens" in one.found
    assert "mongodb write concern" in {one.check for one in mongodb.check(patient)}


def test_collections_that_do_not_keep_documents(patient, mongo_client):
    """Views, capped collections and default collations are named, where they are ours."""
    database = mongo_client[patient.settings.mongodb_database]
    for name in ("users", "of-somebody-else"):
        database.create_collection(name, viewOn="other", pipeline=[])
    database.create_collection("slow", capped=True, size=4_096)
    database.create_collection("through", collation={"locale": "en", "strength": 2})

    said = [one.found for one in mongodb.check(patient) if one.check == "mongodb collection"]

    assert ["slow is capped", "through has the default collation en", "users is a view"] == [
        one.split(":")[0] for one in said
    ]
    anybody = Pipeline(
        patient.settings.model_copy(update={"allow_unlisted": True}), wire=patient.store._wire, client=mongo_client
    )
    assert len(said) + 1 == sum(one.check == "mongodb collection" for one in mongodb.check(anybody))


@pytest.mark.parametrize(
    ("info", "faults"),
    [
        (CollectionInfo("collection", {}), 0),
        (CollectionInfo("", {"collation": {"locale": "simple"}, "capped": False}), 0),
        (CollectionInfo("view", {"viewOn": "x", "collation": {"locale": "de"}}), 2),
        (CollectionInfo("timeseries", {"timeseries": {"timeField": "t"}}), 1),
        (CollectionInfo("collection", {"clusteredIndex": {"unique": True, "key": {"_id": 1}}}), 0),
    ],
)
def test_what_servers_list(info, faults):
    """An ordinary collection is nothing to speak of; several faults are said one by one."""
    assert faults == len(list(mongodb.collection("users", info)))


def test_a_server_that_lists_nothing(patient, monkeypatch):
    """What MongoDB refuses to tell is said, and everything else is looked at all the same."""

    def refuse() -> None:
        raise MongoUnavailableError("MongoDB refuses: not authorized")

    monkeypatch.setattr(patient.sink, "collections", refuse)
    one = found(patient, "mongodb")
    assert (Level.FAILURE, "MongoDB refuses: not authorized") == (one.level, one.found)
    assert "let its user read" in one.advice
    assert {"mongodb version", "mongodb write concern"} <= {one.check for one in mongodb.check(patient)}


def test_a_validator_that_knows_no_version(patient, mongo_client):
    """A validator that refuses every document is found, if it refuses at all and the collection is ours."""
    database = mongo_client[patient.settings.mongodb_database]
    closed = {"$jsonSchema": {"additionalProperties": False, "properties": {"_id": {}, "name": {}}}}
    database.create_collection("users", validator=closed)
    database.create_collection("slow", validator=closed, validationAction="warn")
    database.create_collection("through", validator=closed, validationLevel="off")
    database.create_collection("of-somebody-else", validator=closed)

    [one] = [one for one in mongodb.check(patient) if one.check == "mongodb validator"]

    assert (Level.FAILURE, True, True) == (one.level, "validator of users" in one.found, '"_v"' in one.advice)


def test_processes(patient, monkeypatch):
    """Without workers and beat nothing is persisted, or nothing lost is found: both are failures."""
    expected = {"workers": Level.FAILURE, "beat": Level.FAILURE, "backlog": Level.OK, "listener": Level.WARNING}
    assert expected | {f"queue {queue}": Level.FAILURE for queue in QUEUES} == {
        one.check: one.level for one in processes.check(patient)
    }
    told = '{"seconds": 0.1, "outcome": {}, "error": ""}'
    patient.store._wire.call("HSET", keys.RUNS, SWEEP, f"{patient.store.now_ms() - 60_000} {told}")
    assert "60 s ago" in found(patient, "beat").found
    for status in ({"dead_letters": 1}, {"breaker": "open", "breaker_reason": "it is down"}):
        healthy = {"pending": 0, "oldest_pending_seconds": 0, "dead_letters": 0, "breaker": "closed"}
        assert Level.WARNING is processes.backlog(healthy | status).level


def test_a_system_that_has_just_begun(patient):
    """Its first sweep is waited for: until then nothing is wrong with it."""
    patient.store.metrics.record_heartbeat("worker@here", QUEUES)
    first = threading.Timer(0.5, patient.maintenance.sweep)
    first.start()
    try:
        assert Level.OK is found(patient, "beat").level
    finally:
        first.join()


def test_beat_is_down(patient, monkeypatch):
    """Where a worker would sweep and none is asked to, that is said after the time of one sweep."""
    monkeypatch.setattr(processes, "STARTING_S", 0.1)
    patient = Pipeline(
        patient.settings.model_copy(update={"sweep_interval": 0.1}),
        wire=patient.store._wire,
        client=patient._client,
    )
    patient.store.metrics.record_heartbeat("worker@here", QUEUES)
    one = found(patient, "beat")
    assert (Level.FAILURE, "no sweep has run yet") == (one.level, one.found)
    assert Level.WARNING is processes.beat(None, 300).level
    assert Level.FAILURE is processes.beat(3_000, 300).level


def test_servers_that_are_away_are_told_in_short(patient):
    """Why MongoDB or the listener does not serve is one short sentence, with what to do, wherever it is shown."""
    url = "mongodb://somebody:pwSecr1@127.0.0.1:1,127.0.0.1:2/"
    away = patient.settings.model_copy(update={"mongodb_url": url, "mongodb_timeout_ms": 200})
    with Pipeline(away, wire=patient.store._wire) as pipeline:
        [one] = mongodb.check(pipeline)
        for _ in range(3):
            with pytest.raises(MongoUnavailableError):
                pipeline.collection("users").get("nobody")
        listener = pipeline.listener()
        listening = threading.Thread(target=listener.listen, daemon=True)
        listening.start()
        wait_until(lambda: (pipeline.status()["listener"] or {}).get("error"), "the listener to fail")
        listener.stop()
        listening.join()
        status = pipeline.status()
        backlog = processes.backlog(status)
    assert (Level.FAILURE, "open") == (one.level, status["breaker"])
    for text in (one.found, status["breaker_reason"], backlog.advice, status["listener"]["error"]):
        assert "MongoDB does not answer: 127.0.0.1:" in text
        assert "Connection refused" in text
        assert len(text) < 200
        assert not re.search("Topology|pwSecr1|configured|Errno", text)


def test_the_listener(patient):
    """Without one, changes of others show late: a warning, as the cache alone is concerned."""
    assert "none has ever run" in found(patient, "listener").found
    healthy = {"leader": "here", "lag_s": 0.2, "seconds_ago": 1, "error": None}
    for status, level in ({}, Level.OK), ({"seconds_ago": 60}, Level.WARNING), ({"error": "no"}, Level.WARNING):
        assert level is processes.listener(healthy | status).level


def test_the_exit_status_is_that_of_the_worst(patient, monkeypatch):
    """The command ends with 2 for a failure, 1 for a warning, and 0 where all is well."""
    for name, value in environment(patient.settings).items():
        monkeypatch.setenv(name, value)
    for level in Level:
        findings = [Finding("a", Level.OK, "[fine]"), Finding("b", level, "found", "advice")]
        monkeypatch.setattr("writebehind.cli.operations.examine", lambda _, findings=findings: iter(findings))
        shown = CliRunner().invoke(cli, ["doctor"])
        lines = CliRunner().invoke(cli, ["doctor", "--json"]).stdout.splitlines()
        assert int(level) == shown.exit_code
        assert "[fine]" in shown.stdout
        expected = {
            "check": "b",
            "level": level.name.lower(),
            "found": "found",
            "advice": "advice",
            "fatal": False,
        }
        assert expected == json.loads(lines[1])


# Starting ---------------------------------------------------------------------------------------------


def test_a_start_that_is_fine(patient):
    """Warnings do not keep a process from starting."""
    assert [] == check_start(patient)
    patient.store._wire.call("CONFIG", "SET", "appendonly", "no")
    assert ["redis persistence"] == [one.check for one in check_start(patient)]


def test_a_start_that_would_lose_data(patient):
    """What would evict pending documents does."""
    patient.store._wire.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match=r"allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
        check_start(patient)


RUN = [sys.executable, "-m", "writebehind", "run"]
WEB = [*RUN, "web"]
WORKER = [*RUN, "worker", "--pool", "solo", "-Q", "flush"]


def variables(settings: Settings) -> dict[str, str]:
    return {**os.environ, **environment(settings), "WRITEBEHIND_PORT": str(free_port())}


@pytest.mark.parametrize("command", [WEB, WORKER], ids=["web", "worker"])
@pytest.mark.parametrize(
    ("change", "reason", "advice"),
    [
        (
            ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
            "maxmemory-policy is allkeys-lru",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        (("SET", keys.PARTITIONS, "5"), "in 5 partitions, not in 4", "set WRITEBEHIND_PARTITIONS=5"),
        (("SET", keys.PARTITIONS, "moving:4:5"), "being changed from 4 to 5", "`writebehind repartition 5`"),
    ],
    ids=["eviction", "partitions", "interrupted"],
)
def test_processes_refuse_to_start(patient, command, change, reason, advice):
    """The web server and a worker end with one line that says what to do."""
    patient.store._wire.call(*change)

    ended = subprocess.run(
        command, env=variables(patient.settings), capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    [line] = [one for one in ended.stderr.splitlines() if one.startswith("writebehind: ")]
    assert reason in line
    assert advice in line
    assert "Traceback" not in ended.stderr


@contextmanager
def running(command: list[str], env: dict[str, str], log_file: Path) -> Iterator[subprocess.Popen]:
    with log_file.open("wb") as log:
        leader = subprocess.Popen(bound_to_parent(command), env=env, stderr=log, start_new_session=True)
    try:
        yield leader
    finally:
        end([Group(leader)])


def test_a_redis_that_comes_later(settings, tmp_path):
    """Processes start without Redis. Once it answers and does not fit, a worker ends and the API is not ready."""
    server = EmbeddedRedis(tmp_path)
    with server:
        wire = Wire(connection_pool(server.url, 5_000))
        wire.call("SET", keys.PARTITIONS, "5")
        wire.close()
    env = variables(settings.model_copy(update={"redis_url": server.url}))
    logs = tmp_path / "worker", tmp_path / "web"
    with running(WORKER, env, logs[0]) as worker, running(WEB, env, logs[1]) as web:
        for log in logs:
            wait_until(lambda log=log: "cannot check Redis yet" in log.read_text(), "the process", 30)

        def ready() -> httpx.Response:
            return httpx.get(f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}/readyz", trust_env=False)

        # Its processes start one after the other: one that finds the wrong Redis at its start ends at once.
        wait_until(ready, "the API to answer", 30)
        with server:
            wait_until(lambda: worker.poll() is not None, "the worker to end", 30)
            wait_until(lambda: "WRITEBEHIND_PARTITIONS=5" in ready().text, "the API to say why", 30)
            assert (1, None) == (worker.returncode, web.poll())
            assert "WRITEBEHIND_PARTITIONS=5" in logs[0].read_text()


def test_a_worker_that_ends(patient, tmp_path):
    """A worker that has ended does not count as alive any more, so that Redis may be divided anew at once."""
    with running(WORKER, variables(patient.settings), tmp_path / "log") as worker:
        wait_until(patient.store.metrics.workers, "the worker's heartbeat", 30)
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, "its end", 30)
    assert [] == patient.store.metrics.workers()


def test_a_queue_that_nobody_consumes(patient, tmp_path):
    """The status and the doctor name the queues that no worker that is alive consumes now."""

    def unconsumed() -> list[str]:
        failures = [one.check for one in processes.check(patient) if one.level is Level.FAILURE]
        told = patient.status()
        assert told["unconsumed"] == [queue for queue, workers in told["consumers"].items() if not workers]
        assert told["unconsumed"] == [
            name.removeprefix("queue ") for name in failures if name.startswith("queue ")
        ]
        return told["unconsumed"]

    assert [*QUEUES] == unconsumed()
    with running(WORKER, variables(patient.settings), tmp_path / "log") as worker:
        wait_until(lambda: patient.status()["consumers"]["flush"], "the worker's heartbeat", 30)
        assert ["refresh", "maintenance"] == unconsumed()
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, "its end", 30)
    assert [*QUEUES] == unconsumed()


def test_the_broker(patient, monkeypatch):
    """A broker that is away is a failure."""
    from writebehind.celery import checks  # noqa: PLC0415 - the core's tests do without Celery elsewhere

    monkeypatch.setattr(checks, "PATIENCE_S", 0.2)
    assert [("broker", Level.OK)] == [(one.check, one.level) for one in checks.broker(patient)]

    away = patient.settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    [one] = checks.broker(SimpleNamespace(settings=away))
    assert ("broker", Level.FAILURE) == (one.check, one.level)


@pytest.mark.usefixtures("valkey_wire")
def test_a_port_that_is_taken(settings):
    """A web process says so and ends: it would share the port, and each server would get half of the requests."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            WEB,
            env=variables(settings) | {"WRITEBEHIND_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert 1 == done.returncode
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr
