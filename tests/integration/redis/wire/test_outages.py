"""A Redis that hangs, ends, is gone, or has no memory left."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.redis.wire.conftest import TIMEOUT_MS
from tests.proxy import Proxy
from tests.waiting import slowness, wait_until
from writebehind.errors import RedisFullError, RedisUnavailableError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis import connections as connections_module
from writebehind.redis.connections import connection_pool
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire


def test_a_server_that_hangs_is_waited_for_no_longer_than_allowed(hasty, proxy, caplog):
    """A call to a Redis that does not answer fails in time, on an open connection and on a new one."""
    assert hasty.call("PING") == b"PONG"
    proxy.hang()
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            hasty.call("PING")
        assert time.monotonic() - start < 10 * TIMEOUT_MS / 1000 * slowness()
    assert caplog.messages[0].startswith("Redis does not answer: no answer came in time; writes are refused")
    proxy.flow()

    assert wait_until(lambda: hasty.call("PING") == b"PONG", "an answer")


def test_only_one_waits_for_a_server_that_hangs(hasty, proxy, monkeypatch):
    """After one call has waited in vain the others fail at once, and after the pause one of them finds out."""
    monkeypatch.setattr(connections_module, "PAUSE_S", 60.0)
    connections, asked = hasty._servers.place(""), []
    take = connections._take
    monkeypatch.setattr(connections, "_take", lambda: asked.append(1) or take())
    hasty.call("PING")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        hasty.call("PING")

    def ask(_: int) -> None:
        with pytest.raises(RedisUnavailableError):
            hasty.call("PING")

    with ThreadPoolExecutor(8) as threads:
        asked.clear()
        list(threads.map(ask, range(50)))
        assert [] == asked
        connections._paused_until = time.monotonic()  # it is over
        list(threads.map(ask, range(8)))
        assert [1] == asked
    proxy.flow()
    connections._paused_until = time.monotonic()
    assert wait_until(lambda: hasty.call("PING") == b"PONG", "an answer")
    assert wait_until(lambda: [b"PONG"] * 20 == [hasty.call("PING") for _ in range(20)], "all answers")


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


def test_a_server_that_is_gone(hasty, proxy):
    """Without a server the error says that Redis does not answer."""
    proxy.close()

    with pytest.raises(RedisUnavailableError, match="does not answer"):
        hasty.call("PING")


def test_a_server_that_knows_no_users():
    """A server that does not know how we log in says so, and repeats the password: nobody else does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"-ERR unknown command 'AUTH', with args beginning with: 'me' 'pwSecr1' \r\n")

        threading.Thread(target=refuse, daemon=True).start()
        wire = Wire(connection_pool(f"redis://me:pwSecr1@127.0.0.1:{port}/0", 1_000))
        with pytest.raises(RedisUnavailableError, match="unknown command 'AUTH'") as refused:
            wire.call("PING")
    assert "pwSecr1" not in "".join(traceback.format_exception(refused.value))
    wire.close()


def test_a_server_that_is_full(tmp_path):
    """A Redis without memory is unavailable for writes, as a command and in a script, and still answers reads."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        wire.call("SET", "key", "value")
        wire.call("CONFIG", "SET", "maxmemory", "1")

        with pytest.raises(RedisFullError, match="no memory left"):
            wire.call("SET", "key", "another")
        with pytest.raises(RedisFullError, match="no memory left"):
            wire.run(script("add_heat"), ("hot", "heat", "warmed"), (10, "member", 1))
        [refused], size = wire.run_each(
            script("add_heat"), [(("hot", "heat", "warmed"), (10, "m", 1))], lambda _: [("DBSIZE",)]
        )
        assert (RedisFullError, [("", 1)]) == (type(refused), size)
        assert wire.call("GET", "key") == b"value"
        wire.close()


@pytest.mark.parametrize(
    "option",
    ["socket_timeout=60", "protocol=3", "decode_responses=1", "retry_on_timeout=1", "retry_on_error=OSError"],
)
def test_an_url_takes_nothing_back(valkey, option):
    """What the wire relies on holds whatever the URL of the server says: limits, no retries, and bytes."""
    with Proxy(valkey.port) as proxy:
        wire = Wire(connection_pool(f"redis://127.0.0.1:{proxy.port}/0?{option}", TIMEOUT_MS))
        assert b"a" == wire.call("ECHO", "a")
        proxy.hang()
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        assert time.monotonic() - began < 10 * TIMEOUT_MS / 1000 * slowness()
        wire.close()
