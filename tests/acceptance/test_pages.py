"""Pages of other sites, in a real browser where one is installed, before the API and Flower."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.acceptance.conftest import System
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline

pytestmark = pytest.mark.acceptance

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium is installed; tests/unit/web/test_origins.py sends what it would send",
)

#: What a page sends: with types that need no preflight, with none, and with what needs one; then what came of it.
PAGE = """<!doctype html><title>A page</title><pre id="told">nothing</pre><script>
const target = "TARGET", told = {};
async function send(name, path, options) {
  try {
    const answer = await fetch(target + path, options);
    told[name] = answer.type + " " + answer.status + " " + await answer.text();
  } catch (error) { told[name] = String(error); }
}
const item = id => JSON.stringify([{op: "put", id: id, doc: {}}]);
const simple = {method: "POST", mode: "no-cors"};
const type = name => ({headers: {"Content-Type": name}});
(async () => {
  const form = type("application/x-www-form-urlencoded");
  await send("untyped", "/v1/users:bulk", {...simple, body: new Blob([item("page-untyped")])});
  await send("form", "/v1/users:bulk", {...simple, ...form, body: item("page-form")});
  await send("text", "/v1/users:bulk", {...simple, ...type("text/plain"), body: item("page-text")});
  await send("increment", "/v1/users/page-increment:increment", {...simple, ...form, body: '{"n": 1}'});
  await send("replay", "/admin/dead-letters:replay?all=true", simple);
  navigator.sendBeacon(target + "/v1/users:bulk", new Blob([item("page-beacon")]));
  await send("put", "/v1/users/page-put", {method: "PUT", ...type("application/json"), body: "{}"});
  await send("delete", "/v1/users/page-secret", {method: "DELETE"});
  await send("read", "/v1/users/page-secret", {});
  document.getElementById("told").textContent = JSON.stringify(told);
})();
</script>"""


class Site(ThreadingHTTPServer):
    """A site of somebody else: it shows a page, and notes what it is sent."""

    page = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.sent: list[tuple[str, str]] = []

    @property
    def port(self) -> int:
        return self.server_address[1]


class _Pages(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        body = self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.sent.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tell nobody."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def visit(url: str, directory: Path) -> str:
    """What a browser makes of a page; all names below `example` lead to this machine."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--no-proxy-server",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
        "--virtual-time-budget=10000",
        f"--user-data-dir={directory}",
        "--dump-dom",
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


def attack(target: str, host: str, directory: Path) -> dict[str, str]:
    """What a page on another host could do to the target, as the page sees it."""
    with site() as foreign:
        foreign.page = PAGE.replace("TARGET", target)
        return told_by(visit(f"http://{host}:{foreign.port}/", directory))


def told_by(shown: str) -> dict[str, str]:
    """What the page says came of its requests."""
    told = shown.partition('<pre id="told">')[2].partition("</pre>")[0]
    return json.loads(told.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.fixture
def secret(system: System) -> str:
    """A document that no page may see."""
    system.http.put("/v1/users/page-secret", json={"secret": "sesame"}).raise_for_status()
    return "sesame"


@pytest.fixture
def flower(system: System) -> Iterator[httpx.Client]:
    url = json.loads((system.stack.data_dir / "up.json").read_text())["flower"]
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        wait_until(lambda: http.get("/healthcheck").is_success, "Flower", 60)
        yield http


@in_a_browser
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1"], ids=["another site", "another port"])
def test_a_page_of_another_origin_changes_and_reads_nothing(system, secret, tmp_path, host):
    """Nothing that it sends is carried out, although the browser sends it; it gets to see nothing."""
    ids = [f"page-{name}" for name in ("untyped", "form", "text", "increment", "beacon", "put")]

    with site() as unprotected:  # what does not defend itself is reached by the same page
        attack(f"http://127.0.0.1:{unprotected.port}", host, tmp_path / "first")
        bulks = [body for path, body in unprotected.sent if path == "/v1/users:bulk"]
    told = attack(system.stack.url, host, tmp_path / "second")

    assert 4 == len(bulks)
    assert ids == system.http.post("/v1/users:get", json={"ids": ids}).json()["missing"]
    assert secret == system.http.get("/v1/users/page-secret").json()["secret"]
    assert all("TypeError" in told[name] for name in ("put", "delete", "read")), told
    assert all(told[name].startswith("opaque 0") for name in ("untyped", "form", "text", "increment")), told


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The address at which an application answers."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@in_a_browser
def test_a_page_of_an_origin_in_the_settings_reads_and_writes_documents(settings, tmp_path):
    """With the same page that nobody else's browser lets through; what is for operators stays closed to it."""
    with site() as friend:
        origins = [f"http://friend.example:{friend.port}"]
        allowed = settings.model_copy(update={"cors_origins": origins})
        with Pipeline(allowed) as pipeline, served(create_app(pipeline)) as url:
            pipeline.collection("users").put("page-secret", {"secret": "sesame"})
            friend.page = PAGE.replace("TARGET", url)
            shown = visit(f"http://friend.example:{friend.port}/", tmp_path)
            written = pipeline.collection("users").get("page-put")
    told = told_by(shown)

    assert written is not None
    assert told["put"].startswith("cors 200"), told
    assert told["delete"].startswith("cors 204"), told
    assert told["read"].startswith("cors 404"), told
    assert told["replay"].startswith("opaque"), told


@in_a_browser
def test_a_name_that_was_made_to_lead_here_reads_nothing(system, flower, secret, tmp_path):
    """What is shown under our own name is not shown under another one, neither by the API nor by Flower."""
    api, monitor = f"{system.stack.url.rpartition(':')[2]}", flower.base_url.port

    ours = visit(f"http://localhost:{api}/v1/users/page-secret", tmp_path / "api")
    theirs = visit(f"http://rebound.example:{api}/v1/users/page-secret", tmp_path / "rebound")
    shown = visit(f"http://localhost:{monitor}/", tmp_path / "flower")
    hidden = visit(f"http://rebound.example:{monitor}/", tmp_path / "rebound-flower")

    assert secret in ours
    assert secret not in theirs
    assert "misdirected-request" in theirs
    assert "Workers" in shown
    assert "Workers" not in hidden
    assert "421" in hidden


@in_a_browser
def test_our_own_page_works(system, tmp_path):
    """The page under `/docs` loads the description and shows it."""
    shown = visit(f"{system.stack.url}/docs", tmp_path)

    assert "/v1/{collection}/{id}" in shown.replace("\u200b", "").replace("<wbr>", "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:5555"}, 421),
        ({"Host": "a b"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/workers", "/tasks", "/metrics", "/healthcheck", "/api/workers"])
def test_flower_shows_a_foreign_page_nothing(flower, path, headers, status):
    """Neither under another host's name, nor to a page that asks for it."""
    answer = flower.get(path, headers=headers)

    assert status == answer.status_code
    assert "Flower" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1"},
        {"Referer": "http://evil.example/"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path", ["/api/worker/shutdown/worker@x", "/api/task/send-task/x", "/api/task/revoke/x", "/login", "/"]
)
def test_a_foreign_page_acts_through_flower_on_nothing(flower, path, headers):
    """It is refused before Flower looks at what it wants."""
    assert 403 == flower.post(path, headers=headers, data={"a": "b"}).status_code


def test_flower_serves_this_host_and_stays_out_of_frames(flower):
    """Under the names of loopback."""
    port = flower.base_url.port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        answer = flower.get("/workers", headers={"Host": host, "Sec-Fetch-Site": "none"})
        assert 200 == answer.status_code
        assert "Flower" in answer.text
        assert "DENY" == answer.headers["X-Frame-Options"]
