"""Limits of clients in real web processes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.conftest import NO_TLS, System
from tests.acceptance.servers import WebServer, web_server

pytestmark = pytest.mark.acceptance

PROCESSES, RATE, WINDOW_S = 3, 50, 1
#: Ids in each request, and how long clients go on, seconds.
IDS, LONG_S = 5, 10.0
#: Another client of this machine.
ELSEWHERE = "127.0.0.2"


@pytest.fixture(scope="module")
def server(system: System) -> Iterator[WebServer]:
    """Three web processes that hold clients to a rate."""
    limits = {"WRITEBEHIND_CLIENT_RATE": str(RATE), "WRITEBEHIND_CLIENT_WINDOW": str(WINDOW_S)}
    with web_server(system, WRITEBEHIND_WEB_WORKERS=str(PROCESSES), **limits) as served:
        yield served


def ask(server: WebServer, method: str, path: str, address: str = "127.0.0.1", **given: object) -> httpx.Response:
    """A request over a connection of its own, which any of the processes may accept."""
    transport = httpx.HTTPTransport(local_address=address, verify=NO_TLS)
    with httpx.Client(base_url=server.http.base_url, transport=transport, timeout=30) as http:
        return http.request(method, path, **given)


def test_processes_hold_a_rate_together(server):
    """A greedy client gets its rate and not that of each process; others are served, and so is who watches."""
    enough = threading.Event()
    statuses: Counter[int] = Counter()
    ids = {"ids": [f"limited{number}" for number in range(IDS)]}

    def go_on(_: int) -> None:
        while not enough.is_set():
            answer = ask(server, "POST", "/v1/users:get", json=ids)
            statuses[answer.status_code] += 1
            assert "RateLimit-Policy" in answer.headers
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                enough.wait(0.02)  # far less than that

    began = time.monotonic()
    others: list[int] = []
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(go_on, number) for number in range(4)]
        try:
            while time.monotonic() < began + LONG_S:
                others.append(ask(server, "GET", "/v1/users/limited0", ELSEWHERE).status_code)
                assert 200 == ask(server, "GET", "/healthz").status_code
                enough.wait(0.1)
        finally:
            enough.set()
        for one in asked:
            one.result()
    items = IDS * statuses[200]
    took_s = time.monotonic() - began

    assert {200, 429} == statuses.keys()
    assert {404} == set(others)
    # Before the processes know of each other, each lets a quota and two seconds' worth through.
    assert items <= RATE * took_s + PROCESSES * RATE * (WINDOW_S + 2), (items, took_s)
    assert items >= RATE * took_s / 2, (items, took_s)
