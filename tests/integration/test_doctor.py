"""What `writebehind doctor` finds, and what keeps a process from starting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment
from writebehind import Pipeline, doctor, keys
from writebehind.cli import cli
from writebehind.connections import Wire, connection_pool
from writebehind.doctor import Finding, Level, check_start, examine
from writebehind.embedded import EmbeddedRedis, free_port
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.pipeline import SWEEP


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
    patient.store.worker_alive("worker@here")
    patient.sweep()
    patient.check()

    core = [*doctor.redis(patient), *doctor.mongodb(patient), *doctor.processes(patient)]

    assert [] == [one for one in core if one.level is not Level.OK]
    assert [""] == list({one.advice for one in core})
    assert {
        "redis version",
        "redis eviction",
        "redis persistence",
        "redis role",
        "redis fsync",
        "redis memory",
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
        ("appendfsync", "everysec", "redis fsync", Level.OK, ""),
        ("appendfsync", "no", "redis fsync", Level.WARNING, "CONFIG SET appendfsync everysec"),
        ("maxmemory", "0", "redis memory", Level.WARNING, "CONFIG SET maxmemory"),
        ("maxmemory", "1mb", "redis memory", Level.WARNING, "raise maxmemory"),
    ],
)
def test_the_configuration_of_redis(patient, name, value, check, level, advice):
    """What Redis is told to do with what it holds is judged, and what to set is said."""
    patient.store.wire.call("CONFIG", "SET", name, value)

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
        ({}, Level.FAILURE),
    ],
)
def test_the_version_of_redis(facts, level):
    """What is too old, or does not say what it is, is refused."""
    assert level is doctor._redis_version(facts).level


def test_a_replica(patient, valkey):
    """A server that takes no writes is the wrong one."""
    patient.store.wire.call("REPLICAOF", "127.0.0.1", valkey.port)
    try:
        assert (Level.FAILURE, "name its primary") == (
            (one := found(patient, "redis role")).level,
            one.advice,
        )
    finally:
        patient.store.wire.call("REPLICAOF", "NO", "ONE")


def test_the_clock():
    """Clocks that differ by seconds are worth a warning, in both directions."""
    assert [Level.WARNING, Level.OK, Level.WARNING] == [doctor._clock(ahead).level for ahead in (-3, 1, 3)]


def test_the_append_only_file_cannot_be_written():
    """A disk that is full is a failure."""
    facts = {"aof_enabled": "1", "aof_last_write_status": "err"}
    assert Level.FAILURE is doctor._append_only_file(facts).level


def test_partitions(patient):
    """Another number of partitions than Redis is divided into is a failure."""
    assert "nobody has written" in found(patient, "partitions").found
    patient.check()
    assert "4, as recorded" in found(patient, "partitions").found
    patient.store.wire.call("SET", "wb:partitions", 5)
    assert Level.FAILURE is found(patient, "partitions").level


def test_servers_that_do_not_answer(patient, monkeypatch):
    """Servers that are away are findings, not errors."""

    def no_redis(*_: object) -> None:
        raise RedisUnavailableError

    def no_mongodb(*_: object, **__: object) -> None:
        raise MongoUnavailableError

    monkeypatch.setattr(patient.store.wire, "calls", no_redis)
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
        ({"setName": "rs0", "hosts": ["a", "b", "c"]}, Level.OK, "replica set of 3"),
        ({}, Level.WARNING, "no change streams"),
    ],
)
def test_topology(hello, level, text):
    """A standalone server works, but is worth a warning."""
    one = doctor._topology(hello)
    assert (level, True) == (one.level, text in one.found)


@pytest.mark.parametrize(("version", "level"), [("4.4.1", Level.WARNING), ("8.0.3", Level.OK)])
def test_the_version_of_mongodb(version, level):
    """What is older than what is tested is worth a warning."""
    assert level is doctor._mongodb_version(version).level


def test_a_validator_that_knows_no_version(patient, monkeypatch):
    """A validator that would refuse every document for its `_v` is found; one that names it or is open is not."""
    closed = {"additionalProperties": False, "properties": {"name": {}}}
    named = {"additionalProperties": False, "properties": {"name": {}, "_v": {}}}
    monkeypatch.setattr(patient.sink, "validators", lambda: {"a": closed, "b": named, "c": {"properties": {}}})
    [one] = [one for one in doctor.mongodb(patient) if one.check == "mongodb validator"]
    assert (Level.FAILURE, True, True) == (one.level, "validator of a" in one.found, '"_v"' in one.advice)


def test_processes(patient, monkeypatch):
    """Without workers and beat nothing is persisted, or nothing lost is found: both are failures."""
    assert {"workers": Level.FAILURE, "beat": Level.FAILURE, "backlog": Level.OK} == {
        one.check: one.level for one in doctor.processes(patient)
    }
    patient.store.wire.call("ZADD", keys.RAN, patient.store.now_ms() - 60_000, SWEEP)
    assert "60 s ago" in found(patient, "beat").found
    for status in ({"dead_letters": 1}, {"breaker": "open", "breaker_reason": "it is down"}):
        healthy = {"pending": 0, "oldest_pending_seconds": 0, "dead_letters": 0, "breaker": "closed"}
        assert Level.WARNING is doctor._backlog(healthy | status).level


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
        assert {"check": "b", "level": level.name.lower(), "found": "found", "advice": "advice"} == json.loads(
            lines[1]
        )


# Starting ---------------------------------------------------------------------------------------------


def test_a_start_that_is_fine(patient):
    """Warnings do not keep a process from starting."""
    assert [] == check_start(patient)
    patient.store.wire.call("CONFIG", "SET", "appendonly", "no")
    assert ["redis persistence"] == [one.check for one in check_start(patient)]


def test_a_start_that_would_lose_data(patient):
    """What would evict pending documents does."""
    patient.store.wire.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match=r"allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
        check_start(patient)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "web"],
        [sys.executable, "-m", "celery", "-q", "-A", "tasks.celery", "worker", "--pool", "solo", "-Q", "flush"],
    ],
    ids=["web", "worker"],
)
def test_processes_refuse_to_start(patient, command):
    """The web server and a worker end with one line that says what to set."""
    patient.store.wire.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    env = {**os.environ, **environment(patient.settings), "WRITEBEHIND_PORT": str(free_port())}

    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "writebehind: maxmemory-policy is allkeys-lru" in ended.stderr
    assert "CONFIG SET maxmemory-policy noeviction" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_celery(patient, monkeypatch):
    """A broker without workers has queues that nobody consumes; one that is away is a failure."""
    from tasks import checks  # noqa: PLC0415 - the core's tests do without Celery elsewhere

    monkeypatch.setattr(checks, "PATIENCE_S", 0.2)
    levels = {one.check: one.level for one in checks.celery(patient)}
    assert {"broker": Level.OK, "queue flush": Level.FAILURE, "queue maintenance": Level.FAILURE} == levels

    away = patient.settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    [one] = checks.celery(SimpleNamespace(settings=away))
    assert ("broker", Level.FAILURE) == (one.check, one.level)
