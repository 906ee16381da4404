"""Every request is answered in time, whatever hangs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.conftest import NO_TLS, System
from tests.acceptance.servers import WebServer, web_server
from tests.conftest import TOPOLOGY
from tests.proxy import Proxy, rerouted
from tests.topologies import OF_ONE_SERVER
from tests.waiting import slowness, wait_until

pytestmark = pytest.mark.acceptance

#: Time for a request, seconds, and how long a server may hang before it is given up: longer.
PATIENCE_S, SERVER_S = 2.0, 25.0
#: What a machine with other work takes besides, seconds.
SLACK_S = 1.5
FILLED = {"collection": "users", "id": "late", "key": "none", "name": "late", "idempotency_key": "late"}
#: Bodies by the ends of the paths that take one, and by methods.
BODIES: dict[str, Any] = {
    ":bulk": [{"op": "put", "id": "late", "doc": {"n": 1}}],
    ":get": {"ids": ["late", "later"]},
    ":increment": {"n": 1},
    ":update": {"$set": {"n": 1}},
    "PATCH": {"n": 1},
    "PUT": {"n": 1},
    "POST": {"n": 1},
}


@dataclass(frozen=True)
class Served:
    """A web process, and its ways to its servers."""

    server: WebServer
    ways: dict[str, Proxy]


@pytest.fixture(scope="module")
def served(system: System) -> Iterator[Served]:
    """One web process that has less patience than its servers may take."""
    urls = {"mongodb": system.stack.mongodb_url}
    if TOPOLOGY in OF_ONE_SERVER:
        urls["redis"] = system.stack.redis_url
    with ExitStack() as stack:
        ways = {name: stack.enter_context(Proxy(urlsplit(url).port or 0)) for name, url in urls.items()}
        environment = {
            "BROKER_URL": system.stack.broker_url or system.stack.redis_url,
            **{f"{name.upper()}_URL": rerouted(url, ways[name].port) for name, url in urls.items()},
            "WRITEBEHIND_REQUEST_TIMEOUT_MS": str(int(PATIENCE_S * 1000)),
            "WRITEBEHIND_REDIS_TIMEOUT_MS": str(int(SERVER_S * 1000)),
            "WRITEBEHIND_MONGODB_TIMEOUT_MS": str(int(SERVER_S * 1000)),
            "WRITEBEHIND_LEASE_MS": "60000",
            "WRITEBEHIND_LOAD_TIMEOUT_MS": str(int(SERVER_S * 1000)),
        }
        server = stack.enter_context(web_server(system, **environment))
        yield Served(server, ways)
    # A pause that hung may come to Redis after the resumption that was asked for after it.
    system.http.post("/admin/resume").raise_for_status()
    assert [] == system.status()["paused"]


def operations(described: dict[str, Any]) -> list[tuple[str, str, Any, set[str]]]:
    """Each operation of the description: method, path, body, and the statuses that are described."""
    found = []
    for template, methods in described["paths"].items():
        path = re.sub(r"{(\w+)}", lambda one: FILLED[one[1]], template)
        for method, operation in methods.items():
            ending = next((one for one in BODIES if path.endswith(one)), method.upper())
            body = BODIES.get(ending) if "requestBody" in operation else None
            found.append((method.upper(), path, body, set(operation["responses"])))
    return found


@pytest.mark.parametrize(
    "which",
    [pytest.param("redis", marks=pytest.mark.one_server("a proxy stands before one port of Redis")), "mongodb"],
)
def test_every_route_answers_in_time(served, which):
    """With a status that is described, and as a problem where it fails."""
    http = served.server.http
    asked = operations(http.get("/openapi.json").json())
    assert len(asked) > 30

    def ask(one: tuple[str, str, Any, set[str]]) -> tuple[str, float, httpx.Response, set[str]]:
        method, path, body, described = one
        content = None if body is None else json.dumps(body)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with httpx.Client(base_url=http.base_url, timeout=60, trust_env=False, verify=NO_TLS) as client:
            began = time.monotonic()
            answer = client.request(method, path, content=content, headers={"Content-Type": kind})
            return f"{method} {path}", time.monotonic() - began, answer, described

    slow = slowness()
    way = served.ways[which]
    way.hang()
    try:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, asked))
    finally:
        way.flow()
    slow = max(slow, slowness())

    late = {name: took for name, took, _, _ in answers if took > PATIENCE_S + SLACK_S * slow}
    assert {} == late
    for name, _, answer, described in answers:
        assert str(answer.status_code) in described or answer.status_code < 500, (name, answer.text)
        if answer.status_code >= 500:
            assert 503 == answer.status_code, (name, answer.text)
            is_problem = "application/problem+json" == answer.headers["Content-Type"]
            assert is_problem or name == "GET /readyz", name
    assert any(answer.status_code == 503 for _, _, answer, _ in answers)
    wait_until(lambda: http.get("/readyz").status_code == 200, "what hung to be asked again", 60)
