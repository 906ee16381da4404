"""The API while Redis hangs: with TLS and without, nobody waits for long, and everything goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from flask.testing import FlaskClient

from tests.integration.hanging import TIMEOUT_MS, pipeline, way
from tests.waiting import slowness, wait_until
from web.app import create_app

__all__ = ["pipeline", "way"]  # fixtures

pytestmark = pytest.mark.one_server("a proxy stands before one port")

#: What no caller waits longer than where a machine has time, seconds: a call on an open connection, on a new one.
SOON_S = 6 * TIMEOUT_MS / 1000
CALLERS = 8


@pytest.fixture
def client(pipeline) -> Callable[[], FlaskClient]:
    """Clients, one for each thread."""
    app = create_app(pipeline)
    return app.test_client


def test_callers_are_answered_in_time(client, way, pipeline):
    """Health is told at once, reads come from MongoDB, writes are refused, whoever asks while Redis hangs."""
    pipeline.collection("through").put("ada", {"n": 1})
    assert 200 == create_app(pipeline).test_client().get("/readyz").status_code  # which `client` is not told

    def ask(path: str, method: str = "GET") -> tuple[int, float]:
        began = time.monotonic()
        body = {"json": {"n": 2}} if method == "PUT" else {}
        status = client().open(path, method=method, **body).status_code
        return status, time.monotonic() - began

    slow = slowness()
    way.proxy.hang()
    with ThreadPoolExecutor(3 * CALLERS) as threads:
        reads = [threads.submit(ask, "/v1/through/ada") for _ in range(CALLERS)]
        writes = [threads.submit(ask, "/v1/through/ada", "PUT") for _ in range(CALLERS)]
        looks = [threads.submit(ask, "/readyz") for _ in range(CALLERS)]
        healthy = ask("/healthz")
        answers = {
            name: [one.result() for one in some]
            for name, some in (("reads", reads), ("writes", writes), ("looks", looks))
        }
    way.proxy.flow()
    slow = max(slow, slowness())

    assert 200 == healthy[0]
    assert healthy[1] < TIMEOUT_MS / 1000 * slow
    statuses = {name: {status for status, _ in some} for name, some in answers.items()}
    assert {"reads": {200}, "writes": {503}, "looks": {503}} == statuses
    assert max(seconds for some in answers.values() for _, seconds in some) < SOON_S * slow
    wait_until(lambda: client().get("/readyz").status_code == 200, "Redis to be asked again")
    wait_until(lambda: ask("/v1/through/ada", "PUT")[0] == 200, "writes to be taken again")


def put_until_taken(client, n: int) -> None:
    """Many handshakes at once take longer than the short time limit on a busy machine."""
    wait_until(lambda: client().put(f"/v1/users/u{n}", json={"n": n}).status_code in {200, 201}, "a write")


@pytest.mark.parametrize("how", ["stall", "cut"])
def test_open_connections_break(client, way, how):
    """Where those that are open hang or are cut, new ones are opened: soon everything is as before."""
    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(partial(put_until_taken, client), range(CALLERS)))
    getattr(way.proxy, how)()
    began = time.monotonic()
    wait_until(lambda: client().put("/v1/users/u0", json={"n": -1}).status_code == 200, "a write to be taken")
    assert time.monotonic() - began < (1 + SOON_S) * slowness()
    for n in range(1, CALLERS):
        assert n == client().get(f"/v1/users/u{n}").get_json()["n"]
