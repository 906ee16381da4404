"""The proxy that faults are made with."""

from __future__ import annotations

import socket

import pytest

from tests.proxy import Proxy


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
