"""The exporter by TLS: slow clients are as bounded as without it, and others are served meanwhile."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.tls import Authority
from tests.waiting import wait_until
from web import exporter
from web.exporter import Exporter, Server
from writebehind.access.gate import Gate
from writebehind.monitoring.page import Page


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(installation, authority) -> Iterator[Server]:
    application = Exporter(Page(installation.pipeline), Gate("127.0.0.1", []), None)
    with Server("127.0.0.1", 0, application, authority.server_context()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


def ask(server: Server, trusting: ssl.SSLContext, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPSConnection(*server.server_address[:2], timeout=20, context=trusting)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def silent(server: Server) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=20)


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed a connection, which it does within the time limit."""
    with suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


def test_the_page_comes_by_tls_and_by_nothing_else(server, trusting):
    """A client that speaks none learns nothing, and disturbs nobody."""
    with silent(server) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionError):
            assert b"writebehind" not in plain.recv(1000)
    status, page = ask(server, trusting)
    assert (200, True) == (status, "writebehind_redis_up 1.0" in page)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "the beginning of a handshake"])
def test_a_handshake_that_does_not_come_keeps_nobody_waiting(server, trusting, monkeypatch, sent):
    """It has the time of a request, and the thread that accepts connections waits for none."""
    monkeypatch.setattr(exporter._Handler, "timeout", 3.0)
    waiting = [silent(server) for _ in range(10)]
    try:
        for one in waiting:
            one.sendall(sent)
        assert 200 == ask(server, trusting)[0]
        assert all(ended(one) for one in waiting)
    finally:
        for one in waiting:
            one.close()


def test_many_slow_handshakes_lose_to_those_that_come(server, trusting, monkeypatch):
    """More than there may be: the oldest are cut off, long before their time is over."""
    monkeypatch.setattr(exporter, "MOST_CONNECTIONS", 4)
    monkeypatch.setattr(exporter, "HURRY_TLS_S", 0.1)
    waiting = [silent(server) for _ in range(4)]
    try:
        wait_until(lambda: len(server._open) == 4, "as many as may be", 10)
        monkeypatch.setattr(exporter, "HURRY_TLS_S", 20)
        assert 200 == ask(server, trusting)[0]
        assert ended(waiting[0])
    finally:
        for one in waiting:
            one.close()
    wait_until(lambda: server._open == {}, "all connections to be closed", 10)


def test_a_page_that_is_taken_byte_by_byte_is_not_sent_for_ever(server, trusting, monkeypatch):
    """It has one time limit as a whole, as without TLS, and not one for each part."""
    monkeypatch.setattr(exporter._Handler, "timeout", 3.0)
    monkeypatch.setattr(Page, "render", lambda *_: (bytes(64 << 20), "text/plain"))
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(server.server_address[:2])
    with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server._open != {}, "the connection to be served", 10)
        ends, taken = time.monotonic() + 20, 0
        with suppress(OSError):
            while server._open and time.monotonic() < ends:
                taken += len(client.recv(16_384))
                time.sleep(0.05)
        wait_until(lambda: server._open == {}, "the connection to be closed", 5)
    assert taken < 64 << 20
