"""The exporter: who may ask it, what it answers, and that nobody keeps it from others."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tests.waiting import wait_until
from web import exporter
from web.exporter import Exporter, Server
from writebehind.access.gate import Gate
from writebehind.monitoring.page import Page


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request, installation) -> Iterator[Server]:
    gate = Gate(request.param, ["metrics.example"])
    with Server(request.param, 0, Exporter(Page(installation.pipeline), gate)) as server:
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
    """More than there may be: the oldest are cut off at once, long before their time is over."""
    monkeypatch.setattr(exporter, "MOST_CONNECTIONS", 4)
    silent: list[socket.socket] = []
    try:
        for number in range(10):
            silent.append(socket.create_connection(server.server_address[:2], timeout=5))
            if number >= 4:
                assert silent[number - 4].recv(1) == b""
                # Where clients come faster than threads end, the last ones are refused instead.
                wait_until(lambda: len(server._open) == 4, "the thread of the oldest to end", 5)
        assert 200 == ask(server, "/metrics").status
        assert silent[6].recv(1) == b""
    finally:
        for one in silent:
            one.close()
    wait_until(lambda: server._open == {}, "all connections to be closed", 5)


def test_a_page_that_takes_long_takes_few_threads(server, monkeypatch):
    """It is made once for all who wait, and of more than are cut off the last ones are refused."""
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
            with suppress(OSError):  # it was cut off
                clients[-1].sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert len(server._open) <= 8
        wait_until(lambda: len(made) >= 4, "some to wait for the page", 10)
        assert len(made) <= 8
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
