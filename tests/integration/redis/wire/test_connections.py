"""Connections: which are kept, how they are made, and who bounds a wait on them."""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import ResponseError, TryAgainError

from tests.integration.redis.wire.conftest import TIMEOUT_MS
from tests.waiting import wait_until
from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import CERTAIN_S, MOST_BUFFERED, Greeted, connection_pool, limit_waits
from writebehind.redis.wire import Wire


def test_a_connection_that_was_cut_is_not_used(wire, proxy):
    """A call after a pause in which its connection was cut succeeds on another one."""
    wire.call("PING")
    proxy.cut()
    idle_since = wire._servers.place("")._idle[0][1]
    wait_until(lambda: time.monotonic() > idle_since + 2 * CERTAIN_S, "a pause")

    assert wire.call("ECHO", "a") == b"a"


def test_a_connection_is_kept_after_a_pause(wire):
    """A pause makes no connection suspect: what TLS sends of its own accord was read with the first answer."""
    wire.call("PING")
    for _ in range(3):
        (connection, idle_since) = wire._servers.place("")._idle[0]
        wait_until(lambda since=idle_since: time.monotonic() > since + 2 * CERTAIN_S, "a pause")
        wire.call("PING")
        assert connection is wire._servers.place("")._idle[0][0]


def test_a_server_that_hangs_is_waited_for_once(hasty, proxy, monkeypatch):
    """Each open connection would be greeted before it is used, and wait as long as the first."""
    greeted = []

    def greet(ask) -> Greeted:
        greeted.append(ask([("PING",)]))
        return Greeted()

    hasty.greet(greet)
    connections = hasty._servers.place("")
    for one in [connections.send([("PING",)]) for _ in range(5)]:
        connections.answers(one)
    assert 5 == len(connections._idle)
    monkeypatch.setattr("writebehind.redis.connections.GREETED_S", 0.0)
    waits = []
    monkeypatch.setattr(connections, "greeting", lambda ask: waits.append(1) or greet(ask))
    proxy.hang()

    with pytest.raises(RedisUnavailableError):
        hasty.call("PING")

    assert [1] == waits
    assert not connections._idle


def test_a_greeting_says_what_may_not_be_sent(wire):
    """An error is the answer, or another command is asked; the rest is sent, and the connection used once."""
    refused = ResponseError("not now")
    instead = {"SET": refused, "INCR": ("EXISTS", "n"), "LPUSH": ("LLEN", "n")}
    wire.call("SET", "n", 1)
    connections = wire._servers.place("")
    connections.close()
    wire.greet(lambda _: Greeted(instead=lambda command: instead.get(command[0])))
    commands = [("GET", "n"), ("SET", "n", 2), ("INCR", "n"), ("LPUSH", "n", 1), ("GET", "n")]

    first, second, third, fourth, last = connections.exchange(commands)

    assert (b"1", refused, b"1") == (first, second, last)
    assert isinstance(third, TryAgainError)  # it might have been carried out there
    assert "WRONGTYPE" in str(fourth)
    assert [refused] == connections.exchange([("SET", "n", 2)])
    assert connections.lend() is None
    assert not connections._idle


def test_a_unix_socket(valkey, tmp_path):
    """A server is reached by a socket in the file system too; one that nobody listens on does not answer."""
    path = tmp_path / "redis"

    def pass_on(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", valkey.port)) as server:
            while data := client.recv(1 << 16):
                server.sendall(data)
                client.sendall(server.recv(1 << 16))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        wire = Wire(connection_pool(f"unix://{path}?db=3", TIMEOUT_MS))
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        listener.listen()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: pass_on(listener.accept()[0]))
            assert wait_until(lambda: wire.call("ECHO", "a") == b"a", "an answer")
            assert b"db=3" in wire.call("CLIENT", "INFO")
            wire.close()


class GreenSocket(socket.socket):
    """One that does not block in the kernel, whatever its time limit: as gevent's."""

    limit_s: float | None = None

    def settimeout(self, value: float | None) -> None:
        self.limit_s = value
        self.setblocking(False)


def test_who_bounds_a_wait():
    """The kernel does for sockets that block in it, and Python for all others."""
    with socket.socket() as plain, GreenSocket() as green:
        limit_waits(plain, 500)
        limit_waits(green, 500)
        assert (None, 0.5) == (plain.gettimeout(), green.limit_s)
        limit = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.calcsize("ll"))
        assert (
            0.4 < sum(part / scale for part, scale in zip(struct.unpack("ll", limit), (1, 1e6), strict=True)) < 0.6
        )


@pytest.mark.parametrize("commands", [[("GET", "large")], [("PING",), ("MGET", "none", "large")]])
def test_a_connection_keeps_no_room_for_a_large_answer(wire, commands):
    """Each connection would come to have it, as any of them may read the next large document."""
    wire.call("SET", "large", b"x" * (MOST_BUFFERED + 1))
    before = wire.call("CLIENT", "ID")
    assert before == wire.call("CLIENT", "ID")

    wire.calls(commands)

    assert before != wire.call("CLIENT", "ID")
