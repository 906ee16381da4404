"""What web processes answer is what Redis has, or the observer says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.consistency.conftest import figures, found, observing, step_until
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.access.keys import Token


class Web(ThreadingHTTPServer):
    """A web process that answers by a cache of its own, where it has one."""

    daemon_threads = True

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pipeline = pipeline
        self.near: dict[str, str] = {}
        self.status = 0
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        _, _, collection, name = self.path.split("/")
        web: Web = self.server
        entry = web.pipeline.collection(collection).read(name).entry
        etag = web.near.get(name, entry.etag)
        self.send_response(web.status or (200 if etag else 404))
        self.send_header("ETag", f'"{etag}"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def web(other) -> Iterator[Web]:
    with Web(other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    monkeypatch.setattr("writebehind.consistency.api.EVERY_S", 0.05)


def test_a_web_process_that_answers_from_a_cache_of_its_own_is_found(pipeline, web, users):
    """What it keeps after a write is behind Redis; its other answers are right, also that there is no document."""
    for name in ("ada", "bob"):
        users.put(name, {"n": 1})
    users.delete("eve")
    flush_all(pipeline)
    observer = pipeline.observer(api=web.url)
    step_until(
        observer, lambda: figures(pipeline)["sources"].get("api", {}).get("1", {}).get("looks", 0) > 9, "looks"
    )
    assert 0 == figures(pipeline)["sources"]["api"]["1"]["wrong"]

    web.near["ada"] = users.read("ada").entry.etag
    users.put("ada", {"n": 2})
    step_until(observer, lambda: found(pipeline), "it to be found")
    observer.close()
    assert {"ada": "behind-redis"} == found(pipeline)


def test_a_web_process_that_refuses_or_is_gone_says_nothing(pipeline, web, users):
    """No answer is no look: neither a refusal, nor a connection that is refused."""
    users.put("ada", {"n": 1})
    for status, url in ((503, web.url), (401, web.url), (0, "http://127.0.0.1:9")):
        web.status = status
        observer = pipeline.observer(api=url)
        count = observer.walk.count
        step_until(observer, lambda: observer.walk.count > count + 2, "walks")  # noqa: B023 - called at once
        observer.close()
    assert "api" not in figures(pipeline)["sources"]


@pytest.mark.parametrize("how", ["gone", 401, "another", "right"])
def test_the_command_says_whether_the_api_was_compared(pipeline, web, users, run, monkeypatch, how):
    """What nobody answered is no success, whatever Redis has; it is asked also while another process observes."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    url = "http://127.0.0.1:9" if how == "gone" else web.url
    web.status = how if how == 401 else 0
    key = Token.new("0" * 12).text
    observer = pipeline.observer()
    with observing(observer) if how == "another" else nullcontext():
        if how == "another":
            wait_until(lambda: observer.has_led, "another one to observe")
        told = run("consistency", "--for", "2s", "--api", url, "--key", key, "--json")
    figures = orjson.loads(told.stdout)
    assert figures["api"]["url"] == url
    if how in {"gone", 401}:
        why = "refused" if how == "gone" else "answers 401: it wants a key that may read"
        assert (3, "unseen", 0) == (told.exit_code, figures["outcome"], figures["api"]["compared"]), told.stdout
        assert why in figures["why"]
        assert figures["why"] == figures["api"]["failure"]
        assert f"nothing of the API was compared: {figures['why']}" in told.stderr
    else:
        assert {f"Bearer {key}"} == {*web.keys}
        assert (0, None) == (told.exit_code, figures["api"]["failure"]), told.stdout
        assert figures["api"]["compared"] > 1
        assert (how == "right") == figures["observed_here"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--api", "http://127.0.0.1:8000"),
        ("--for", "1s", "--api", "127.0.0.1:8000"),
        ("--for", "1s", "--api", "http://127.0.0.1:80000"),
        ("--for", "1s", "--key", "wb_x"),
        ("--for", "1s", "--api", "http://127.0.0.1:8000", "--key", "wb_x"),
    ],
)
def test_what_is_no_api_is_refused(run, wrong):
    """An address that nobody would ask is a wrong usage, not a success."""
    assert 2 == run("consistency", *wrong).exit_code
