"""What web processes answer is what Redis has, or the observer says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.integration.conftest import flush_all
from tests.integration.consistency.conftest import figures, found, step_until
from writebehind import Pipeline


class Web(ThreadingHTTPServer):
    """A web process that answers by a cache of its own, where it has one."""

    daemon_threads = True

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pipeline = pipeline
        self.near: dict[str, str] = {}
        self.status = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
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
