"""A connection of the event loop, whatever its server says: nobody gets another's answer, or none for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.redis.connections import Connections, connection_pool
from writebehind.redis.lanes import Line
from writebehind.redis.round_trip import RoundTrip, UndecidedError

TIMEOUT_S = 0.3
WITHIN_S = 20


class Connection:
    """One that leads to the test."""

    def __init__(self) -> None:
        self._sock, self.peer = socket.socketpair()
        self.is_closed = False

    def disconnect(self) -> None:
        self.is_closed = True
        self._sock.close()


class Server(Connections):
    """Notes what it gets back."""

    check = ("HGET", "record", "epoch")

    def __init__(self) -> None:
        super().__init__(connection_pool("redis://127.0.0.1:9", 300))
        self.kept: list[Connection] = []
        self.is_primary = True

    def is_good(self, _lent_at: float) -> bool:
        return self.is_primary

    def take_back(self, connection: Any, *, is_kept: bool) -> None:
        self.kept += [connection] if is_kept else []
        super().take_back(connection, is_kept=is_kept)


def on_a_line(work: Callable[[Line, Connection, Server], Awaitable[None]]) -> None:
    async def run() -> None:
        server, connection = Server(), Connection()
        line = Line(server, connection, 0.0, asyncio.get_running_loop(), TIMEOUT_S)
        try:
            async with asyncio.timeout(WITHIN_S):
                await work(line, connection, server)
        finally:
            line.close()
            connection.disconnect()
            connection.peer.close()

    asyncio.run(run())


def begun(line: Line, server: Server, *commands: tuple, conclude: Callable[[list], Any] = list) -> asyncio.Future:
    return line.begin(RoundTrip(server, commands or (("GET", "x"),), conclude), asyncio.get_running_loop().time())


def read(line: Line, server: Server, epoch: bytes) -> asyncio.Future:
    """Begin a read that holds while the server's check is answered so."""
    return line.begin(RoundTrip(server, (("GET", "x"),), list, epoch=epoch), asyncio.get_running_loop().time())


async def outcomes(*futures: asyncio.Future) -> list[type]:
    return [type(one) for one in await asyncio.gather(*futures, return_exceptions=True)]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_answers_come_in_pieces_and_in_order():
    async def work(line, connection, server):
        futures = [begun(line, server, ("GET", "x"), ("PTTL", "x")), begun(line, server)]
        await turns()
        for at, one in enumerate(b"$1\r\nx\r\n:5\r\n$-1\r\n"):
            connection.peer.send(bytes([one]))
            await turns(2 if at % 2 else 1)
        assert [[b"x", 5], [None]] == await asyncio.gather(*futures)

    on_a_line(work)


def test_what_is_no_answer_of_a_redis_ends_all_that_is_under_way():
    async def work(line, connection, server):
        futures = [begun(line, server) for _ in range(3)]
        await turns()
        connection.peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert [RedisUnavailableError] * 3 == await outcomes(*futures)
        assert connection.is_closed
        assert not line.is_good()

    on_a_line(work)


@pytest.mark.parametrize("said", [b"-ERR too late\r\n", b"$5\r\nab"], ids=["whole", "begun"])
def test_what_nobody_asked_for_is_nobodys_answer(said):
    """Else each caller would get the answer of the one before."""

    async def work(line, connection, server):
        connection.peer.send(said)
        while line.is_good():  # noqa: ASYNC110 - what comes in ends it
            await asyncio.sleep(0)
        assert connection.is_closed
        line.retire(is_kept=True)
        assert not server.kept

    on_a_line(work)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", RedisNotReadyError),
        (b"-NOAUTH Authentication required.\r\n", RedisUnavailableError),
        (b"-WRONGPASS invalid username-password pair\r\n", RedisUnavailableError),
    ],
)
def test_a_server_that_serves_nobody_is_told_from_one_that_refuses_a_step(said, error):
    async def work(line, connection, server):
        future = begun(line, server)
        await turns()
        connection.peer.send(said)
        assert [error] == await outcomes(future)

    on_a_line(work)


def test_a_connection_to_a_replica_is_not_used_again():
    """A server that has become one: only a new connection finds the primary."""

    async def work(line, connection, server):
        futures = [begun(line, server), begun(line, server)]
        await turns()
        connection.peer.send(b"-READONLY You can't write against a read only replica.\r\n+OK\r\n")
        refused, _ = await asyncio.gather(*futures)
        assert "read only" in str(refused[0])
        assert not line.is_good()
        line.retire(is_kept=True)
        assert connection.is_closed
        assert not server.kept

    on_a_line(work)


def test_what_is_not_sent_when_a_new_primary_is_met_is_not_sent_to_the_old_one():
    async def work(line, connection, server):
        future = begun(line, server)
        server.is_primary = False
        assert [UndecidedError] == await outcomes(future)
        connection.peer.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.peer.recv(1)

    on_a_line(work)


def test_a_server_that_says_a_byte_now_and_then_is_not_waited_for_without_end():
    async def work(line, connection, server):
        future, began = begun(line, server), asyncio.get_running_loop().time()
        await turns()
        connection.peer.send(b"$100000\r\n")
        while not future.done():
            connection.peer.send(b"x")
            await asyncio.sleep(TIMEOUT_S / 5)
        assert [RedisUnavailableError] == await outcomes(future)
        assert future.exception().late
        assert 3 * TIMEOUT_S <= asyncio.get_running_loop().time() - began

    on_a_line(work)


def test_one_that_answers_slowly_and_steadily_is_waited_for():
    async def work(line, connection, server):
        future = begun(line, server)
        await turns()
        for one in (b"$3\r\n", b"a", b"bc", b"\r\n"):
            await asyncio.sleep(TIMEOUT_S / 2)
            connection.peer.send(one)
        assert [b"abc"] == await future

    on_a_line(work)


def test_whoever_cannot_make_anything_of_an_answer_harms_nobody_else():
    async def work(line, connection, server):
        def fails(_: list) -> None:
            raise TypeError

        futures = [begun(line, server, conclude=fails), begun(line, server)]
        await turns()
        connection.peer.send(b"+OK\r\n+OK\r\n")
        assert [TypeError, list] == await outcomes(*futures)

    on_a_line(work)


def test_a_command_that_cannot_be_packed_is_its_callers():
    async def work(line, connection, server):
        future = begun(line, server)
        with pytest.raises(TypeError):
            begun(line, server, ("GET", object()))
        await turns()
        connection.peer.send(b"+OK\r\n")
        assert [b"OK"] == await future

    on_a_line(work)


def test_a_line_that_is_closed_leaves_nobody_waiting():
    async def work(line, connection, server):
        under_way = begun(line, server)
        await turns()
        unsent = begun(line, server)
        line.close()
        assert [RedisUnavailableError, UndecidedError] == await outcomes(under_way, unsent)
        assert connection.is_closed

    on_a_line(work)


def test_a_connection_goes_back_when_all_is_answered():
    async def work(line, connection, server):
        future = begun(line, server)
        await turns()
        line.retire(is_kept=True)
        assert not server.kept
        connection.peer.send(b"+OK\r\n")
        assert [b"OK"] == await future
        assert [connection] == server.kept
        assert not connection.is_closed
        assert connection._sock.gettimeout() is None

    on_a_line(work)


def test_one_check_is_sent_for_all_that_is_read_by_a_piece():
    async def work(line, connection, server):
        futures = [read(line, server, b"now"), begun(line, server), read(line, server, b"before")]
        await turns()
        sent = connection.peer.recv(4096)
        assert sent.count(b"GET\r\n$1\r\nx") == 3
        assert sent.endswith(b"*3\r\n$4\r\nHGET\r\n$6\r\nrecord\r\n$5\r\nepoch\r\n")
        assert sent.count(b"HGET") == 1
        connection.peer.send(b"+a\r\n+b\r\n+c\r\n")
        await turns()
        assert [False, True, False] == [one.done() for one in futures]
        connection.peer.send(b"$3\r\nnow\r\n")
        held, other = await asyncio.gather(*futures[:2])
        assert [[b"a"], [b"b"]] == [held, other]
        assert [UndecidedError] == await outcomes(futures[2])

    on_a_line(work)


@pytest.mark.parametrize(
    "said", [b"-ERR refused\r\n", b"$-1\r\n", b":1\r\n"], ids=["error", "nothing", "a number"]
)
def test_what_was_read_does_not_hold_by_a_check_that_says_something_else(said):
    async def work(line, connection, server):
        futures = [read(line, server, b"now"), read(line, server, b"now")]
        await turns()
        connection.peer.send(b"+a\r\n+b\r\n" + said)
        assert [UndecidedError] * 2 == await outcomes(*futures)
        assert line.is_good()

    on_a_line(work)


def test_what_was_read_is_not_known_to_hold_where_the_check_is_not_answered():
    async def work(line, connection, server):
        futures = [read(line, server, b"now"), read(line, server, b"now")]
        await turns()
        connection.peer.send(b"+a\r\n+b\r\n")
        await turns()
        connection.peer.close()
        assert [RedisUnavailableError] * 2 == await outcomes(*futures)

    on_a_line(work)
