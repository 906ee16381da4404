"""Processes look at the servers before they start: what would lose data keeps them from it, in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import environment
from tests.tiers import cases
from tests.waiting import wait_until
from writebehind import Settings
from writebehind.errors import ConfigurationError
from writebehind.local.embedded import EmbeddedRedis, free_port
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.operations.doctor import Level, check_start, processes
from writebehind.redis import keys
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire
from writebehind.settings.names import QUEUES


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
EXPORTER = [*RUN, "exporter"]
FLOWER = [*RUN, "flower", "--address=127.0.0.1", "--port={port}"]
WORKER = [*RUN, "worker", "--pool", "solo", "-Q", "flush"]
BEAT = [*RUN, "beat"]
LISTENER = [sys.executable, "-m", "writebehind", "listen"]


def variables(settings: Settings) -> dict[str, str]:
    return {**os.environ, **environment(settings), "WRITEBEHIND_PORT": str(free_port())}


CHANGES = {
    "eviction": (
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        "maxmemory-policy is allkeys-lru",
        "CONFIG SET maxmemory-policy noeviction",
    ),
    "partitions": (("SET", keys.PARTITIONS, "5"), "in 5 partitions, not in 4", "set WRITEBEHIND_PARTITIONS=5"),
    "interrupted": (
        ("SET", keys.PARTITIONS, "moving:4:5"),
        "being changed from 4 to 5",
        "`writebehind repartition 5`",
    ),
}
REFUSED = {
    f"{change}-{name}": (*CHANGES[change], command)
    for change in CHANGES
    for name, command in {"web": WEB, "worker": WORKER}.items()
}


@pytest.mark.parametrize(
    ("change", "reason", "advice", "command"), cases(REFUSED, short={"eviction-web", "partitions-worker"})
)
def test_processes_refuse_to_start(patient, change, reason, advice, command):
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


@pytest.mark.parametrize(
    "command",
    cases({"web": WEB, "worker": WORKER, "beat": BEAT, "listener": LISTENER}, short={"web", "listener"}),
)
def test_no_process_starts_on_the_redis_of_another_database(patient, command):
    """Each ends with one line: whose this Redis is, what the settings name, and what to do."""
    patient.store._wire.call("SET", keys.DATABASE, "database/shop")
    # More than that where the server was a replica in another test: this process lets versions leap there first.
    before = {*patient.store._wire.call("KEYS", "wb:*")}

    ended = subprocess.run(
        command, env=variables(patient.settings), capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == (2 if command is LISTENER else 1)
    [line] = [one for one in ended.stderr.splitlines() if one.startswith("writebehind: ")]
    assert f"belongs to database 'shop', not to {patient.settings.mongodb_database!r}: set REDIS_URL" in line
    assert "Traceback" not in ended.stderr
    assert before == {*patient.store._wire.call("KEYS", "wb:*")}


@contextmanager
def running(command: list[str], env: dict[str, str], log_file: Path) -> Iterator[subprocess.Popen]:
    with log_file.open("wb") as log:
        leader = subprocess.Popen(
            bound_to_parent(command), env=env, stdout=log, stderr=log, start_new_session=True
        )
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
        wait_until(lambda: "serves " in logs[1].read_text(), "it to say that it serves", 30)
        healthy = httpx.get(f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}/healthz", trust_env=False)
        assert 200 == healthy.status_code  # at once, as it says so
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
        wait_until(patient.store.workers.alive, "the worker's heartbeat", 30)
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, "its end", 30)
    assert [] == patient.store.workers.alive()


def test_a_queue_that_nobody_consumes(patient, tmp_path):
    """The status and the doctor name the queues that no worker that is alive consumes now."""

    def unconsumed() -> list[str]:
        failures = [one.check for one in processes.check(patient) if one.level is not Level.OK]
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


@pytest.mark.usefixtures("valkey_wire")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (WEB, "port {port} of 127.0.0.1 is taken: end who listens there, or set WRITEBEHIND_PORT"),
        (EXPORTER, "port {port} of 127.0.0.1 is taken: end who listens there, or set WRITEBEHIND_EXPORTER_PORT"),
        (FLOWER, "Flower cannot listen: [Errno "),
    ],
    ids=["web", "exporter", "flower"],
)
def test_a_port_that_is_taken(settings, command, said):
    """A web process says so and ends: it would share the port, and each server would get half of the requests."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [one.format(port=port) for one in command],
            env=variables(settings) | {"WRITEBEHIND_PORT": str(port), "WRITEBEHIND_EXPORTER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert 1 == done.returncode
    assert said.format(port=port) in done.stderr
    assert not {"serves", "watches"} & set(done.stdout.split())
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("valkey_wire")
@pytest.mark.parametrize("command", [WEB, EXPORTER], ids=["web", "exporter"])
def test_a_host_that_is_none(settings, command):
    """It is a wrong setting, which is named, and no error of the program, once nobody needs a key."""
    done = subprocess.run(
        command,
        env=variables(settings) | {"WRITEBEHIND_HOST": "no host", "WRITEBEHIND_INSECURE": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == done.returncode
    assert "writebehind: host no host: " in done.stderr
    assert "Traceback" not in done.stderr
