"""`examples/flask_app`: an application that was there before, under a server that forks, with its own worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.acceptance.conftest import LIMITS, ROOT
from tests.acceptance.topology import redis_servers
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

pytestmark = pytest.mark.acceptance

EXAMPLES = ROOT / "examples"
GUNICORN = ("-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:{port}")
WORKER = (
    "-m",
    "celery",
    "-A",
    "shop",
    "worker",
    "-Q",
    "celery,mail,flush,refresh,maintenance",
    "--pool",
    "threads",
)
#: What a proxy in front takes away from each path.
OUTER = "/outer"
TOKEN = {"Authorization": "Bearer open sesame"}


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[dict[str, str]]:
    with redis_servers(tmp_path_factory.mktemp("shop")) as env:
        yield env


@pytest.fixture(scope="module")
def env(redis, mongo) -> dict[str, str]:
    """What tells the shop's processes where the servers are."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    return outside | {
        "PYTHONPATH": str(ROOT),
        **redis,
        "MONGODB_URL": mongo.url,
        "MONGODB_DATABASE": f"shop_{os.getpid()}",
        "WRITEBEHIND_DEFAULTS__flush_delay_ms": "100",
    }


@contextmanager
def running(directory: Path, command: tuple[str, ...], env: dict[str, str], log: Path) -> Iterator[None]:
    """A process of an example's, as its users start it."""
    with log.open("wb") as out:
        words = bound_to_parent([sys.executable, *command])
        leader = subprocess.Popen(
            words, cwd=directory, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        end([Group(leader)])


@pytest.fixture(scope="module")
def shop(env, tmp_path_factory) -> Iterator[httpx.Client]:
    """A client of the application, which believes one proxy."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "web"
    command = (*(word.format(port=port) for word in GUNICORN), "shop:create_app()")
    with (
        running(EXAMPLES / "flask_app", command, env | {"SHOP_PROXIES": "1"}, log),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False, limits=LIMITS) as http,
    ):
        wait_until(lambda: answers(http), f"the shop: {log.read_text()}", 60)
        yield http
    assert "Traceback" not in log.read_text()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/products").is_success
    except httpx.TransportError:
        return False


class Stripping(BaseHTTPRequestHandler):
    """Passes requests on without their prefix, as it tells in a header."""

    server: Proxy

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() not in {"connection", "host"}}
        told = {"X-Forwarded-Prefix": OUTER, "X-Forwarded-Host": self.headers["Host"]}
        path = self.path.removeprefix(OUTER)
        answer = self.server.behind.request(self.command, path, headers=kept | told, content=body)
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Location"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = pass_on  # noqa: N815 - as the server calls them

    def log_message(self, *_: object) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    """Before an application."""

    def __init__(self, behind: httpx.Client) -> None:
        self.behind = behind
        super().__init__(("127.0.0.1", 0), Stripping)


@pytest.fixture
def outside(shop) -> Iterator[httpx.Client]:
    """A client that reaches the application through a proxy, which strips a prefix."""
    with Proxy(shop) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{proxy.server_address[1]}"
            with httpx.Client(base_url=url, timeout=30, trust_env=False, limits=LIMITS) as http:
                yield http
        finally:
            proxy.shutdown()


def processes(shop: httpx.Client) -> set[int]:
    """The processes that answer."""
    found: set[int] = set()

    def both() -> bool:
        found.add(shop.get("/process", headers={"Connection": "close"}).json()["process"])
        return len(found) == 2

    wait_until(both, "both processes", 30)
    return found


def test_its_own_routes_and_pages_are_what_they_were(shop):
    """Its data, its 404 page, and errors that are none of the API."""
    assert {"tea": "Darjeeling", "milk": "whole"} == shop.get("/products").json()
    for path in ("/nothing", "/v1/orders/A1", "/api"):
        missing = shop.get(path)
        assert (404, "<h1>The shop has no such thing</h1>") == (missing.status_code, missing.text)
    assert 405 == shop.post("/products").status_code
    assert "text/html" in shop.post("/products").headers["Content-Type"]


def test_it_reads_its_own_writes_in_each_process(shop):
    """Its views and the API see one state, whichever of the forked processes answers."""
    assert 2 == len(processes(shop))
    for n in range(20):
        items = ["tea"] * (n + 1)
        taken = shop.put("/orders/own", data={"items": items}, headers={"Connection": "close"})
        assert {"_id": "own", "items": items} == taken.json()["order"]
        for _ in range(4):
            answer = shop.get("/api/v1/orders/own", headers=TOKEN | {"Connection": "close"})
            assert (200, items) == (answer.status_code, answer.json()["items"])


def test_the_api_is_guarded_by_the_application(shop):
    """As a problem, also for operators; the application's own routes stay open."""
    for path in ("/api/v1/orders/A1", "/api/admin/status", "/api/docs"):
        answer = shop.get(path)
        assert (401, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
        assert 401 != shop.get(path, headers=TOKEN).status_code


def test_addresses_below_a_prefix(shop):
    """Of a document, of the description, and of what the page for people loads."""
    made = shop.post("/api/v1/orders", json={"_id": "below"}, headers=TOKEN)
    assert "/api/v1/orders/below" == made.headers["Location"]
    assert 200 == shop.get(made.headers["Location"], headers=TOKEN).status_code
    assert [{"url": "/api"}] == shop.get("/api/openapi.json", headers=TOKEN).json()["servers"]


def test_addresses_behind_a_proxy_that_strips_a_prefix(outside):
    """All that leads somewhere leads there from outside."""
    made = outside.post(f"{OUTER}/api/v1/orders", json={"_id": "behind"}, headers=TOKEN)

    assert f"{OUTER}/api/v1/orders/behind" == made.headers["Location"]
    assert "behind" == outside.get(made.headers["Location"], headers=TOKEN).json()["_id"]
    assert [{"url": f"{OUTER}/api"}] == outside.get(f"{OUTER}/api/openapi.json", headers=TOKEN).json()["servers"]
    page = outside.get(f"{OUTER}/api/docs", headers=TOKEN).text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) >= 3
    for path in assets:
        assert 200 == outside.get(path, headers=TOKEN).status_code
    page_of_ours = {"Origin": str(outside.base_url), "Sec-Fetch-Site": "same-origin"}
    written = outside.put(f"{OUTER}/api/v1/orders/behind", json={}, headers=TOKEN | page_of_ours)
    assert 200 == written.status_code


def test_its_own_worker_persists(shop, env, mongo_client, tmp_path):
    """What its views and the API acknowledge reaches MongoDB by the Celery application that the shop has."""
    shop.put("/orders/A1", data={"items": ["tea"]}).raise_for_status()
    shop.put("/api/v1/orders/A2", json={"items": ["milk"]}, headers=TOKEN).raise_for_status()
    orders = mongo_client[env["MONGODB_DATABASE"]].orders

    with running(EXAMPLES / "celery_app", WORKER, env, tmp_path / "worker"):
        for number, items in (("A1", ["tea"]), ("A2", ["milk"])):
            wait_until(
                lambda number=number, items=items: orders.find_one({"_id": number, "items": items}), number, 60
            )
        # By a flush task that the web process has sent: there is no beat, and so no sweep.
        shop.put("/orders/A3", data={"items": ["tea"]}).raise_for_status()
        wait_until(lambda: orders.find_one({"_id": "A3"}), "the order in MongoDB", 60)
