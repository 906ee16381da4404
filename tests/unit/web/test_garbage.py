"""Requests leave nothing for the garbage collector, which comes seldom: cycles would keep bodies and documents."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import web
import writebehind
from tests.unit.web.server.conftest import CHUNKED, GONE, Client, length, part
from web.server import Server
from writebehind import load_settings

JSON = ((b"content-type", b"application/json"),)
LIMIT = 1 << 20
OURS = {Path(package.__path__[0]) for package in (web, writebehind)}


@pytest.fixture(scope="module")
def server(application) -> Server:
    settings = load_settings(
        web_threads=1, request_timeout_ms=1_000, max_bulk_bytes=LIMIT, max_document_bytes=LIMIT
    )
    return Server(application.app, settings, application.pipeline.tallies)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def nothing_is_collected(server) -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def whole(method: str, path: str, content: object, *headers: tuple[bytes, bytes]) -> Callable[[], Client]:
    """A request; headers that are given come before the usual ones."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda: Client(part(body), method=method, path=path, headers=(*headers, *JSON, *length(len(body))))


BULK = [
    {"op": "put", "id": "a b", "doc": {}},
    {"op": "put", "id": "a", "doc": {"$x": 1}},
    {"op": "nope", "id": "a"},
    {"op": "put", "id": "a", "doc": {"d": {"$date": "2020-02-31T00:00:00Z"}}},
    {"op": "patch", "id": "nothing", "doc": {}},
    {"op": "put", "id": "a", "doc": {}, "if_match": "nothing"},
]
#: Requests by what they are, and how they are answered where MongoDB answers.
REQUESTS = {
    ("no route", 404): whole("POST", "/nothing", {}),
    ("no method", 405): whole("PUT", "/v1/users:bulk", {}),
    ("a method in small letters", 501): whole("put", "/v1/users/a", {}),
    ("two hosts", 400): whole("PUT", "/v1/users/a", {}, (b"host", b"localhost")),
    ("another origin", 403): whole("PUT", "/v1/users/a", {}, (b"origin", b"null")),
    ("another type", 415): whole("PATCH", "/v1/users/a", {}),
    ("no JSON", 400): whole("PUT", "/v1/users/a", b"{"),
    ("no document", 422): whole("PUT", "/v1/users/a", []),
    ("a wrong value", 400): whole("PUT", "/v1/users/a", {"a": {"$numberInt": "x"}}),
    ("a wrong name", 422): whole("PUT", "/v1/users/a", {"$a": 1}),
    ("a wrong id", 400): whole("PUT", "/v1/users/a b", {}),
    ("a list with a document of others", 200): whole("GET", "/v1/users", b""),
    ("nothing there", 404): whole("GET", "/v1/users/nothing", b""),
    ("a condition that does not hold", 412): whole("PUT", "/v1/users/a", {}, (b"if-match", b'"x"')),
    ("a bulk of errors", 207): whole("POST", "/v1/users:bulk", BULK),
    ("a bulk that is no JSON", 400): whole("POST", "/v1/users:bulk", b"[{]"),
    ("lines of errors", 207): whole("POST", "/v1/users:bulk", b"x\n{}\n"),
    ("several of which one is none", 400): whole("POST", "/v1/users:get", {"ids": ["a", "a b"]}),
    ("a write", 200): whole("PUT", "/v1/users/a", {"a": 1}),
    ("a bulk", 207): whole("POST", "/v1/users:bulk", [{"op": "put", "id": "a", "doc": {}}]),
    ("an increment", 200): whole("POST", "/v1/users/texts:increment", {"n": 1}),
    ("an increment of text", 409): whole("POST", "/v1/users/texts:increment", {"a": 1}),
    ("options", 200): whole("OPTIONS", "/v1/users/a", b""),
    ("a document of others", 200): whole("GET", "/v1/users/large", b""),
    ("several documents of others", 200): whole("POST", "/v1/users:get", {"ids": ["large"]}),
    ("a body that ends early", 400): lambda: Client(part(b"[", more=True), GONE, headers=CHUNKED),
    ("a body that does not come", 408): lambda: Client(part(b"[", more=True), headers=CHUNKED),
    ("a body that is too long", 413): lambda: Client(
        part(b" " * LIMIT, more=True), part(b" " * LIMIT), headers=CHUNKED, path="/v1/users:bulk", method="POST"
    ),
    ("a body that says so", 413): lambda: Client(headers=length(2 * LIMIT)),
    ("a coding", 501): lambda: Client(part(b""), headers=((b"transfer-encoding", b"gzip"),)),
}


def frames_left() -> set[str]:
    """The functions of ours whose frames are garbage."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    frames = [one.f_code for one in gc.garbage if isinstance(one, FrameType)]
    gc.garbage.clear()
    gc.collect()
    return {one.co_qualname for one in frames if Path(one.co_filename).parent in OURS}


@pytest.mark.parametrize(("named", "request_"), REQUESTS.items(), ids=[name for name, _ in REQUESTS])
@pytest.mark.parametrize("mongodb", ["there", "away"])
@pytest.mark.usefixtures("nothing_is_collected")
def test_a_request_leaves_no_frames(server, loop, installation, named, request_, mongodb):
    """An error that is kept refers to the frames that it came through, and they refer to all the rest."""
    installation.sink.has("users", "large", {"text": "x" * (3 << 20)})
    installation.sink.has("users", "texts", {"a": "text"})
    installation.sink.down = mongodb == "away"
    client = request_()
    client.scope["query_string"] = b""
    loop.run(client.ask(server))
    loop.run(Client(path="/healthz", method="GET").ask(server))  # what is held until the next one comes

    assert client.status == named[1] or (mongodb == "away" and client.status == 503)
    assert set() == frames_left()
