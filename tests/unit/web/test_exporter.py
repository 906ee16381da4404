"""The exporter: who may ask it, what it answers, and that nobody keeps it from others."""

from __future__ import annotations

import errno
import http.client
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from wsgiref.simple_server import WSGIServer

import pytest

from tests.waiting import wait_until
from web import exporter
from web.exporter import Exporter, Server
from writebehind.access.gate import Gate
from writebehind.monitoring.page import Page


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request, installation) -> Iterator[Server]:
    gate = Gate(request.param, ["metrics.example"])
    with Server(request.param, 0, Exporter(Page(installation.pipeline), gate, None)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> SimpleNamespace:
    address = server.server_address[:2]
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return SimpleNamespace(status=answer.status, headers=answer.headers, text=answer.read().decode())
    finally:
        connection.close()


def test_the_page(server):
    """It serves the same page as the API, in both formats."""
    text, openmetrics = ask(server, "/metrics"), ask(server, "/metrics", Accept="application/openmetrics-text")

    assert (200, 200) == (text.status, openmetrics.status)
    assert "writebehind_redis_up 1.0" in text.text
    assert openmetrics.text.endswith("# EOF\n")
    assert "openmetrics" in openmetrics.headers["Content-Type"]


@pytest.mark.parametrize(
    "accept",
    [
        'application/openmetrics-text;version="99"',
        "application/openmetrics-text;version=1..",
        "application/openmetrics-text;version=1.0.7",
        "application/openmetrics-text;escaping=nonsense",
        "text/plain;version=x",
        ";;;q=x,,,/",
    ],
)
def test_formats_that_clients_make_up(server, accept):
    """A client chooses among two pages, whatever it calls them: none is kept for it, and none fails."""
    types = {
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }

    answer = ask(server, "/metrics", Accept=accept)

    assert answer.status == 200
    assert answer.headers["Content-Type"] in types
    assert ("openmetrics" in accept) == answer.text.endswith("# EOF\n")


def test_others_paths_and_methods(server):
    """It has a health check besides, and nothing else."""
    assert (200, "ok\n") == ((found := ask(server, "/healthz")).status, found.text)
    assert 404 == ask(server, "/").status
    assert 405 == ask(server, "/metrics", "POST").status
    head = ask(server, "/metrics", "HEAD")
    assert (200, "") == (head.status, head.text)


@pytest.mark.parametrize(("host", "status"), [("evil.example", 421), ("metrics.example", 200), ("", 400)])
def test_only_for_this_host(server, host, status):
    """A page whose name leads here (DNS rebinding) reads no figures."""
    assert status == ask(server, "/metrics", Host=host).status


def test_many_slow_clients_lose_to_those_that_come(server, monkeypatch):
    """More than there may be: the oldest are cut off soon, long before their time is over."""
    monkeypatch.setattr(exporter, "MOST_CONNECTIONS", 4)
    silent: list[socket.socket] = []
    try:
        for number in range(10):
            silent.append(socket.create_connection(server.server_address[:2], timeout=5))
            if number >= 4:
                assert silent[number - 4].recv(1) == b""
                wait_until(lambda: len(server._open) == 4, "the next one to be served", 5)
        assert 200 == ask(server, "/metrics").status
        assert silent[6].recv(1) == b""
    finally:
        for one in silent:
            one.close()
    wait_until(lambda: server._open == {}, "all connections to be closed", 5)


def test_a_page_that_takes_long_takes_few_threads(server, monkeypatch):
    """Of more than may be served at a time the last ones wait, and each is answered."""
    monkeypatch.setattr(exporter, "MOST_CONNECTIONS", 4)
    may_end, made = threading.Event(), []

    def render(*_: object) -> tuple[bytes, str]:
        made.append(1)
        assert may_end.wait(20)
        return b"late", "text/plain"

    monkeypatch.setattr(Page, "render", render)
    clients: list[socket.socket] = []
    try:
        for _ in range(40):
            clients.append(socket.create_connection(server.server_address[:2], timeout=10))
            clients[-1].sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert len(server._open) <= 4
        wait_until(lambda: len(made) >= 4, "some to wait for the page", 10)
        assert len(made) <= 4
        may_end.set()
        assert [b"HTTP/1.0 200 OK"] * 40 == [one.recv(15) for one in clients]
    finally:
        may_end.set()
        for one in clients:
            one.close()
    wait_until(lambda: server._open == {}, "all connections to be closed", 5)


def test_slow_clients_keep_nobody_waiting(server, monkeypatch):
    """Those that send nothing are cut off after a while, and others are served meanwhile."""
    monkeypatch.setattr(exporter._Handler, "timeout", 0.5)
    silent = [socket.create_connection(server.server_address[:2], timeout=5) for _ in range(20)]
    try:
        assert 200 == ask(server, "/healthz").status
        assert [b""] * len(silent) == [one.recv(1) for one in silent]
    finally:
        for one in silent:
            one.close()


def test_a_client_that_drips_is_cut_off(server, monkeypatch):
    """A byte now and then gains no time: the head of a request is to be there by then."""
    monkeypatch.setattr(exporter._Handler, "timeout", 0.3)
    with socket.create_connection(server.server_address[:2], timeout=5) as one:
        one.sendall(b"GET /metrics HTTP/1.1\r\n")
        one.settimeout(0.05)
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            try:
                assert one.recv(1) == b""
                break
            except TimeoutError:
                one.sendall(b"X")
            except ConnectionError:
                break
        assert time.monotonic() < ends


def test_a_long_head_is_refused(server):
    """Nobody's head is kept beyond its bound, however many lines it has."""
    with socket.create_connection(server.server_address[:2], timeout=5) as one:
        one.sendall(
            (b"GET /metrics HTTP/1.1\r\nX: " + bytes(exporter.MOST_HEAD_BYTES))[: exporter.MOST_HEAD_BYTES]
        )
        assert one.recv(99).startswith(b"HTTP/1.0 431 ")
        assert one.recv(1) == b""


def test_a_client_that_says_no_more_is_answered(server):
    """It has closed its side after the request."""
    with socket.create_connection(server.server_address[:2], timeout=5) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        one.shutdown(socket.SHUT_WR)
        with one.makefile("rb") as answer:
            assert answer.read().endswith(b"ok\n")


def test_where_there_is_no_room_for_a_connection_it_waits(server, monkeypatch, caplog):
    """The process takes no time meanwhile, says so once, and serves who has waited."""
    tries, true = [], WSGIServer.get_request

    def accept(self: WSGIServer) -> tuple[socket.socket, object]:
        tries.append(time.monotonic())
        if len(tries) <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return true(self)

    monkeypatch.setattr(WSGIServer, "get_request", accept)
    assert 200 == ask(server, "/healthz").status
    assert min(later - before for before, later in itertools.pairwise(tries[:4])) >= 0.09
    assert ["exporter_no_room", "exporter_room"] == [one.event for one in caplog.records]


def test_a_low_limit_of_files_leaves_some_for_others(server, monkeypatch):
    """Connections have half of them at most."""
    monkeypatch.setattr(exporter.resource, "getrlimit", lambda _: (8, 8))
    silent = [socket.create_connection(server.server_address[:2], timeout=5) for _ in range(10)]
    try:
        wait_until(lambda: len(server._open) == 4, "as many as may be", 5)
        assert 200 == ask(server, "/healthz").status
    finally:
        for one in silent:
            one.close()
