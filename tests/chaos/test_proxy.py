"""The proxy that faults are made with."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tests.proxy import Proxy
from tests.waiting import wait_until


def test_a_stalled_connection_is_overtaken():
    """What was sent over a stalled connection arrives after what was sent later over a new one."""
    with socket.create_server(("127.0.0.1", 0)) as server, Proxy(server.getsockname()[1]) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as first:
            stalled, _ = server.accept()
            stalled.settimeout(5)
            first.sendall(b"1")
            assert b"1" == stalled.recv(100)
            proxy.stall()
            first.sendall(b"2")
        with socket.create_connection(("127.0.0.1", proxy.port)) as second:
            passing, _ = server.accept()
            passing.settimeout(5)
            second.sendall(b"3")
            assert b"3" == passing.recv(100)
            passing.close()
        stalled.setblocking(False)
        with pytest.raises(BlockingIOError):
            stalled.recv(100)
        proxy.flow()
        stalled.settimeout(5)
        assert b"2" == stalled.recv(100)
        stalled.close()


def test_who_is_gone_is_asked_for_no_more():
    """A proxy forgets connections that have ended: it would ask for each of them whether it is to hang."""
    with socket.create_server(("127.0.0.1", 0)) as server, Proxy(server.getsockname()[1]) as proxy:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", proxy.port)), server.accept()[0]:
                wait_until(lambda: proxy.connections == 1, "it to be open")
            wait_until(lambda: proxy.connections == 0, "it to be forgotten")
        with socket.create_connection(("127.0.0.1", proxy.port)) as here, server.accept()[0]:
            wait_until(lambda: proxy.connections == 1, "one to be open")
            asked = []
            proxy.hang(lambda who: bool(asked.append(who)))
            assert {here.getsockname()} == set(asked)


def test_some_hang_and_others_do_not():
    """By where they come from; over connections that are open, and over new ones, until it is over."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(Proxy(server.getsockname()[1]))

        def client(address: str) -> tuple[socket.socket, socket.socket]:
            way = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 5, (address, 0)))
            accepted = stack.enter_context(server.accept()[0])
            accepted.settimeout(5)
            return way, accepted

        before = client("127.1.0.1")
        proxy.hang(lambda who: who[0] == "127.1.0.1")
        after, other = client("127.1.0.1"), client("127.1.0.2")
        for way, _ in (before, after, other):
            way.sendall(b"1")
        assert b"1" == other[1].recv(100)
        for _, accepted in (before, after):
            accepted.setblocking(False)
            with pytest.raises(BlockingIOError):
                accepted.recv(100)
            accepted.settimeout(5)
        proxy.flow()
        assert [b"1", b"1"] == [accepted.recv(100) for _, accepted in (before, after)]
