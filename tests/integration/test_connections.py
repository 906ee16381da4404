"""The wire to Redis when Redis hangs, ends, or forgets its scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proxy import Proxy
from tests.waiting import wait_until
from writebehind.connections import Wire, connection_pool, script
from writebehind.embedded import EmbeddedRedis
from writebehind.errors import RedisFullError, RedisUnavailableError

TIMEOUT_MS = 300


@pytest.fixture
def proxy(valkey) -> Iterator[Proxy]:
    with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def wire(proxy) -> Iterator[Wire]:
    wire = Wire(connection_pool(f"redis://127.0.0.1:{proxy.port}/0", TIMEOUT_MS))
    yield wire
    wire.close()


def test_a_server_that_hangs_is_waited_for_no_longer_than_allowed(wire, proxy):
    """A call to a Redis that does not answer fails in time, on an open connection and on a new one."""
    assert wire.call("PING") == b"PONG"
    proxy.hang()
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        assert time.monotonic() - start < 10 * TIMEOUT_MS / 1000
    proxy.flow()

    assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")


def test_only_one_waits_for_a_server_that_hangs(wire, proxy):
    """After one call has waited in vain the others fail at once, and after the pause one of them finds out."""
    wire.call("PING")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        wire.call("PING")

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(50))) < TIMEOUT_MS / 1000
        wait_until(lambda: time.monotonic() > wire._paused_until, "the pause to be over")
        waits = sorted(threads.map(ask, range(8)))
    assert waits[-2] < TIMEOUT_MS / 1000 <= waits[-1]
    proxy.flow()
    assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")
    assert [b"PONG"] * 20 == [wire.call("PING") for _ in range(20)]


def test_a_server_that_is_down_is_asked_each_time(tmp_path):
    """A refused connection costs no wait, so the first call after the server is back succeeds."""
    server = EmbeddedRedis(tmp_path).start()
    wire = Wire(connection_pool(server.url, 2_000))
    wire.call("PING")
    server.kill()
    for _ in range(10):
        with pytest.raises(RedisUnavailableError, match="does not answer"):
            wire.call("PING")
    with server:
        assert wire.call("PING") == b"PONG"
        wire.close()


def test_a_command_after_steps_is_on_their_connection(wire):
    """A command that follows steps is answered after them, also when the server had forgotten the script."""
    step = script("lease_get")
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")
    for expected in ([b"load"], [b"wait"]):
        answers, count = wire.run_many_then(step, [(("entry", "load"), ("token", 5_000))], ("DBSIZE",))
        assert ([expected], 1) == (answers, count)


def test_an_answer_that_comes_late_is_not_taken_for_another(wire, proxy):
    """After a time-out no call gets the answer of the one before."""
    wire.call("SET", "one", "1")
    wire.call("SET", "two", "2")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        wire.call("GET", "one")
    proxy.flow()

    assert wait_until(lambda: wire.call("GET", "two"), "an answer") == b"2"


def test_connections_that_the_server_closed_are_not_used(tmp_path):
    """After a restart of Redis the first call succeeds, although every idle connection is dead."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: wire.call("PING"), range(20)))
        server.stop()
        server.start()

        assert wire.call("PING") == b"PONG"
        wire.close()


def test_a_server_that_is_gone(wire, proxy):
    """Without a server the error says that Redis does not answer."""
    proxy.close()

    with pytest.raises(RedisUnavailableError, match="does not answer"):
        wire.call("PING")


def test_scripts_that_the_server_forgot(wire):
    """A server that has lost its scripts gets them again, in single calls and in many."""
    step = script("lease_get")
    calls = [((f"entry{n}", f"load{n}"), ("token", 5_000)) for n in range(3)]
    wire.call("FLUSHALL")
    assert [[b"load"]] * 3 == wire.run_many(step, calls)
    wire.call("SCRIPT", "FLUSH")

    assert wire.run(step, *calls[0]) == [b"wait"]
    wire.call("SCRIPT", "FLUSH")
    assert [[b"wait"]] * 3 == wire.run_many(step, calls)


def test_an_error_of_one_command_leaves_the_others_alone(wire):
    """Of several commands in one round trip, one that fails does not disturb the answers of the others."""
    good, bad, last = wire.calls((("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b")))

    assert (b"a", b"b") == (good, last)
    assert "unknown command" in str(bad)
    assert wire.call("ECHO", "c") == b"c"


def test_a_server_that_is_full(tmp_path):
    """A Redis without memory is unavailable for writes, as a command and in a script, and still answers reads."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        wire.call("SET", "key", "value")
        wire.call("CONFIG", "SET", "maxmemory", "1")

        with pytest.raises(RedisFullError, match="no memory left"):
            wire.call("SET", "key", "another")
        with pytest.raises(RedisFullError, match="no memory left"):
            wire.run(script("heat"), ("hot", "heat", "warmed"), (10, "member", 1))
        assert wire.call("GET", "key") == b"value"
        wire.close()
