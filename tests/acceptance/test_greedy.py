"""Slow and greedy clients: while they hold on, everybody else is served, in bounded memory."""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from bson import Regex

from tests.acceptance.conftest import NO_TLS, System
from tests.acceptance.servers import WebServer, web_server
from tests.proxy import Proxy, rerouted
from tests.tiers import cases
from tests.waiting import slowness, wait_until

pytestmark = pytest.mark.acceptance

#: What a machine with other work may take for requests that one without it answers in milliseconds, seconds. It is
#: far below the patience of the server, for which slow clients would hold others up if they could.
SOON_S = 5.0
PATIENCE_S = 30
MOST_MEBIBYTES = 512
#: Each is asked for as often as a web process has threads.
THREADS = 8
#: How clients are made of which there are many.
OF_MANY: dict[str, Any] = {"trust_env": False, "verify": NO_TLS}
#: Requests of others while attackers hold on.
INNOCENT = 6

#: Dead letters of 100 kB each, and of 1 MB.
LETTERS, LARGE_LETTERS = 60, 20

MANY = json.dumps({"ids": [f"large{n}" for n in range(15)]})
HEAD = "Host: localhost\r\nContent-Type: application/json\r\n"


def connect(port: int, *, window: int = 0) -> socket.socket:
    """A connection; its client takes in no more than the window."""
    connection = socket.socket()
    if window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(SOON_S)
    connection.connect(("127.0.0.1", port))
    return connection


def hold(number: int, sent: str, *, window: int = 0) -> Callable[[int], Iterator[socket.socket]]:
    """Connections that send this and then nothing, and read nothing."""

    def held(port: int) -> Iterator[socket.socket]:
        for _ in range(number):
            connection = connect(port, window=window)
            connection.settimeout(0.5)
            with suppress(TimeoutError):  # it takes no more than a part
                connection.sendall(sent.encode())
            yield connection

    return held


#: Clients that keep connections and send and take nothing more, by what they do.
SLOW = {
    "announce a body, send none": hold(64, f"PUT /v1/users/x HTTP/1.1\r\n{HEAD}Content-Length: 9\r\n\r\n"),
    "announce a large body, send a part": hold(
        THREADS, f"POST /v1/users:bulk HTTP/1.1\r\n{HEAD}Content-Length: 16777216\r\n\r\n" + "[" + " " * 8_000_000
    ),
    "begin a chunk": hold(64, f"PUT /v1/users/x HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n9\r\n{{"),
    "delete with a body that does not come": hold(
        64, f"DELETE /v1/users/x HTTP/1.1\r\n{HEAD}Content-Length: 9\r\n\r\n"
    ),
    "send nothing": hold(1_024, ""),
    "send half a head": hold(1_024, "GET /v1/users/x HTTP/1.1\r\nHost: lo"),
    "send a long head": hold(256, "GET /v1/users/x HTTP/1.1\r\nX: " + "x" * 60_000),
    "read no document": hold(64, f"GET /v1/users/large HTTP/1.1\r\n{HEAD}\r\n" * 20, window=4_096),
    "read no export": hold(THREADS, f"GET /admin/dead-letters:export HTTP/1.1\r\n{HEAD}\r\n" * 20, window=4_096),
    "read no large answer": hold(
        THREADS,
        f"POST /v1/users:get HTTP/1.1\r\n{HEAD}Content-Length: {len(MANY)}\r\n\r\n{MANY}" * 20,
        window=4_096,
    ),
    "read no description": hold(64, f"GET /openapi.json HTTP/1.1\r\n{HEAD}\r\n" * 200, window=4_096),
}

#: What stands in the place of a body where an answer is wanted in canonical form.
CANONICAL = "canonical"
#: Documents of others with 15 MB of text each.
STRINGS = [f"string{n}" for n in range(3)]
#: The same, in a collection of which nothing is cached for long.
COLD = [f"cold{n}" for n in range(8)]
NOWHERE = b64encode(b'[-1000000000000,"0",""]').decode()
#: Requests that a client sends again and again, by what is wanted of the server: method, path, body.
GREEDY = {
    "many large documents": ("POST", "/v1/users:get", MANY),
    "a bulk of tiny lines": ("POST", "/v1/users:bulk", "x\n" * 100_000),
    "a long increment path": ("POST", "/v1/pages/x:increment", json.dumps({"a." * 100_000 + "a": 1})),
    "a large bulk": (
        "POST",
        "/v1/users:bulk",
        json.dumps([{"op": "put", "id": f"bulk{n}", "doc": {"n": n}} for n in range(5_000)]),
    ),
    "patches of a large document": (
        "POST",
        "/v1/users:bulk",
        json.dumps([{"op": "patch", "id": "large0", "doc": {"n": n}} for n in range(100)]),
    ),
    "a document of empty arrays": ("PUT", "/v1/users/x", '{"a":[' + "[]," * 300_000 + "0]}"),
    "an item of empty arrays": (
        "POST",
        "/v1/users:bulk",
        '[{"op":"put","id":"x","doc":{"a":[' + "[]," * 2_000_000 + "0]}}]",
    ),
    "a large document of others": ("GET", "/v1/users/foreign", CANONICAL),
    "a patch of a large document of others": ("PATCH", "/v1/users/foreign", '{"n": 1}'),
    "increments of a large document of others": ("POST", "/v1/users/foreign:increment", '{"n": 1}'),
    "a bulk of patches of large documents of others": (
        "POST",
        "/v1/users:bulk",
        json.dumps([{"op": "patch", "id": one, "doc": {"n": 1}} for one in ("foreign", "nested", *STRINGS)]),
    ),
    "large strings of others": ("POST", "/v1/users:get", json.dumps({"ids": STRINGS})),
    "a string of others that is six times as large as JSON": ("GET", "/v1/users/control", ""),
    "an expression of others that is six times as large as JSON": ("GET", "/v1/users/regex", ""),
    "names of others that JSON cannot have in parts": ("GET", "/v1/users/nested", ""),
    "increments of many fields": (
        "POST",
        "/v1/pages/x:increment",
        json.dumps({f"n{n}": 1 for n in range(60_000)}),
    ),
    "large documents of others that are not cached": ("POST", "/v1/cold:get", json.dumps({"ids": COLD * 4})),
    "exports of large dead letters": ("GET", "/admin/dead-letters:export", ""),
    "a cursor that leads nowhere": ("GET", f"/admin/dead-letters?cursor={NOWHERE}", ""),
}

#: Of these, those that take seconds of CPU, and whose like is tried too.
DEAR = {
    "a large bulk",
    "patches of a large document",
    "a large document of others",
    "a bulk of patches of large documents of others",
    "a string of others that is six times as large as JSON",
    "names of others that JSON cannot have in parts",
    "large documents of others that are not cached",
    "a patch of a large document of others",
    "large strings of others",
    "exports of large dead letters",
}


@pytest.fixture(scope="module")
def server(system: System) -> Iterator[WebServer]:
    """One web process with large documents behind it."""
    patience = {"WRITEBEHIND_REQUEST_TIMEOUT_MS": str(PATIENCE_S * 1_000)}
    more = {"WRITEBEHIND_COLLECTIONS__unwanted__ttl": "3600", "WRITEBEHIND_WEB_THREADS": str(THREADS)}
    more |= {"WRITEBEHIND_COLLECTIONS__cold__ttl": "0.1"}
    with web_server(system, **more, **patience) as served:
        text = {"text": "x" * 1_000_000}
        for name in ("large", *(f"large{n}" for n in range(20))):
            served.http.put(f"/v1/users/{name}", json=text).raise_for_status()
        served.http.put("/v1/users/innocent", json={}).raise_for_status()
        # What other programs write, who are bound by nothing but MongoDB's 16 MB.
        system.database.users.insert_one({"_id": "foreign", "a": [1] * 1_200_000})
        system.database.users.insert_one({"_id": "regex", "a": Regex("\x01" * 15_000_000)})
        with dead_letters(system, served):
            yield served


@pytest.fixture(scope="module")
def more_of_others(system: System, server: WebServer) -> None:
    """Documents as large, for cases of `make long`: each takes the server half a second."""
    documents = system.database.users
    documents.insert_one({"_id": "nested", "a": {"$a": [[]] * 1_200_000}})
    documents.insert_one({"_id": "ten", "a": "x" * 10_000_000})
    documents.insert_one({"_id": "control", "a": "\x01" * 15_000_000})
    for collection, names in (("users", STRINGS), ("cold", COLD)):
        for one in names:
            system.database[collection].insert_one({"_id": one, "a": "x" * 15_000_000})


@contextmanager
def dead_letters(system: System, server: WebServer) -> Iterator[None]:
    """Some tens of megabytes of dead letters: what MongoDB refuses."""
    system.database.create_collection("unwanted", validator={"$jsonSchema": {"required": ["never"]}})
    text = {"text": "x" * 100_000}
    items = [{"op": "put", "id": f"unwanted{n}", "doc": text} for n in range(LETTERS)]
    server.http.post("/v1/unwanted:bulk", json=items).raise_for_status()
    for n in range(LARGE_LETTERS):
        server.http.put(f"/v1/unwanted/large{n}", json={"text": "x" * 1_000_000}).raise_for_status()
    listed = "/admin/dead-letters?collection=unwanted&limit=1"
    wait_until(lambda: server.http.get(listed).json()["total"] >= LETTERS + LARGE_LETTERS, "the letters", 60)
    yield
    server.http.delete("/admin/dead-letters?collection=unwanted").raise_for_status()


def innocent(server: WebServer) -> list[float]:
    """How long requests of others take, seconds: each on a connection of its own, as of a new client."""
    took = []
    for number in range(INNOCENT):
        began = time.monotonic()
        with httpx.Client(base_url=server.http.base_url, timeout=PATIENCE_S, **OF_MANY) as http:
            http.get("/healthz").raise_for_status()
            http.get("/v1/users/innocent").raise_for_status()
            http.put("/v1/users/other", json={"n": number}).raise_for_status()
        took.append(time.monotonic() - began)
    return sorted(took)


@pytest.mark.parametrize("attack", SLOW.values(), ids=SLOW)
def test_slow_clients_stop_nobody(server, attack):
    """Health, reads and writes are answered soon while they hold on, and memory stays bounded."""
    with ExitStack() as stack:
        held = [stack.enter_context(connection) for connection in attack(server.port)]
        assert held

        slow = slowness()
        took = innocent(server)

        assert took[-1] < SOON_S * max(slow, slowness()), took
        assert server.mebibytes() < MOST_MEBIBYTES


#: Another client's rounds, and what of them are the slowest, seconds: on a machine without other work.
ROUNDS, P99_S, HEALTH_S = 200, 1.0, 0.2


def trickle(held: list[socket.socket], enough: threading.Event) -> None:
    """Send a byte over each connection again and again."""
    while not enough.wait(0.2):
        for one in held:
            with suppress(OSError):
                one.sendall(b" ")


@pytest.mark.long
@pytest.mark.usefixtures("more_of_others")
def test_all_slow_clients_at_once(server):
    """64 send bodies byte by byte, 64 take no answer of 10 MB, and 2,000 connections say nothing."""
    body = f"PUT /v1/users/x HTTP/1.1\r\n{HEAD}Content-Length: 900000\r\n\r\n"
    unread = f"GET /v1/users/ten HTTP/1.1\r\n{HEAD}\r\n"
    took: dict[str, list[float]] = {"health": [], "get": [], "put": []}
    enough = threading.Event()
    server.forget_peaks()
    with ExitStack() as stack:
        idle = [stack.enter_context(one) for one in hold(2_000, "")(server.port)]
        bodies = [stack.enter_context(one) for one in hold(64, body)(server.port)]
        readers = [stack.enter_context(one) for one in hold(64, unread, window=4_096)(server.port)]
        assert len(idle) + len(readers) == 2_064
        going_on = threading.Thread(target=trickle, args=(bodies, enough))
        going_on.start()
        try:
            slow = slowness()
            for number in range(ROUNDS):
                with httpx.Client(base_url=server.http.base_url, timeout=PATIENCE_S, **OF_MANY) as http:
                    for name, method, path, given in (
                        ("health", "GET", "/healthz", {}),
                        ("get", "GET", "/v1/users/innocent", {}),
                        ("put", "PUT", "/v1/users/other", {"json": {"n": number}}),
                    ):
                        began = time.monotonic()
                        http.request(method, path, **given).raise_for_status()
                        took[name].append(time.monotonic() - began)
            slow = max(slow, slowness())
        finally:
            enough.set()
            going_on.join()

    p99 = {name: sorted(some)[int(0.99 * len(some))] for name, some in took.items()}
    assert max(p99["get"], p99["put"]) < P99_S * slow, p99
    assert p99["health"] < HEALTH_S * slow, p99
    assert server.peak_mebibytes() < MOST_MEBIBYTES


#: Connections that a process may have, and those that clients of one kind open.
FEW, MORE = 256, 700
PUT = f"PUT /v1/users/x HTTP/1.1\r\n{HEAD}"
LINES = "POST /v1/users:bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
#: What they have sent, and what they go on sending.
CROWDS = {
    "nothing": ("", ""),
    "half a head": ("GET /v1/users/x HTTP/1.1\r\nHost: lo", ""),
    "half a head, byte by byte": ("GET /v1/users/x HTTP/1.1\r\nHost: lo", "c"),
    "half a body": (f"{PUT}Content-Length: 9\r\n\r\n{{", ""),
    "a body, byte by byte": (f"{PUT}Content-Length: 9000\r\n\r\n", " "),
    "chunks, one by one": (f"{LINES}Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
    "a line of many": (f'{LINES}Content-Length: 9000\r\n\r\n{{"op":"put","id":"x","doc":{{}}}}\n', ""),
    "what waits to be asked for": (f"{PUT}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", ""),
}
SHORT = {"half a head, byte by byte", "chunks, one by one"}


@pytest.fixture(scope="module")
def small(system: System) -> Iterator[WebServer]:
    """One web process for few connections."""
    with web_server(system, WRITEBEHIND_MAX_CONNECTIONS=str(FEW)) as served:
        served.http.put("/v1/users/innocent", json={}).raise_for_status()
        yield served


@pytest.mark.parametrize(("sent", "more"), cases(CROWDS, SHORT))
def test_more_slow_clients_than_there_may_be_connections(small, sent, more):
    """A new client is served soon all the same, and not when the time of those before is over."""
    enough = threading.Event()

    def go_on(held: list[socket.socket]) -> None:
        while more and not enough.wait(0.2):
            for one in held:
                with suppress(OSError):
                    one.sendall(more.encode())

    with ExitStack() as stack:
        held = [stack.enter_context(one) for one in hold(MORE, sent)(small.port)]
        going_on = threading.Thread(target=go_on, args=(held,))
        going_on.start()
        try:
            slow = slowness()
            took = innocent(small)
        finally:
            enough.set()
            going_on.join()

    assert took[-1] < SOON_S * max(slow, slowness()), took


@pytest.mark.parametrize(("method", "path", "body"), cases(GREEDY, GREEDY.keys() - DEAR))
def test_greedy_requests_stop_nobody(request, server, method, path, body):
    """Health, reads and writes are answered soon while as many of them run as there are threads."""
    if request.node.get_closest_marker("long"):
        request.getfixturevalue("more_of_others")
    enough = False
    headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
    if body == CANONICAL:
        body, headers["Accept"] = "", "application/json;profile=canonical"

    def ask(_: int) -> None:
        with httpx.Client(base_url=server.http.base_url, timeout=2 * PATIENCE_S, **OF_MANY) as http:
            while not enough:
                answer = http.request(method, path, content=body, headers=headers)
                assert answer.status_code not in {404, 405, 500}, answer.text  # else it attacks nothing

    server.forget_peaks()
    slow = slowness()
    with ThreadPoolExecutor(THREADS) as threads:
        asked = [threads.submit(ask, number) for number in range(THREADS)]
        try:
            took = innocent(server)
        finally:
            enough = True
        for one in asked:
            one.result()

    assert took[-1] < SOON_S * max(slow, slowness()), took
    assert server.peak_mebibytes() < MOST_MEBIBYTES


#: How long MongoDB takes to deliver a document, seconds.
SLOW_S = 5.0
#: What clients ask for that Redis does not have: method, path,
#: which a number makes another one each time, and what is answered to those who may wait.
SLOW_MONGODB = {
    "changes of one document": ("PATCH", "/v1/users/cold", {404}),
    "changes": ("PATCH", "/v1/users/cold{}", {404}),
    "reads": ("GET", "/v1/users/cold{}", {404}),
    "reads of several": ("POST", "/v1/users:get", {200}),
    "reads by a unique field": ("GET", "/v1/people?name=cold{}", {200, 404}),
    "writes that wait for MongoDB": ("PUT", "/v1/users/cold{}?durability=persisted", {200, 202}),
}


#: No case asks for what another one has brought to Redis already.
_numbers = count()


@pytest.fixture(scope="module")
def far_from_mongodb(system: System) -> Iterator[tuple[WebServer, Proxy]]:
    """One web process, and its way to MongoDB."""
    url = urlsplit(system.stack.mongodb_url)
    lookup = {"WRITEBEHIND_COLLECTIONS__people__lookup__name": "string"}
    with Proxy(url.port or 0) as way:
        by_proxy = rerouted(system.stack.mongodb_url, way.port)
        patience = {"WRITEBEHIND_MONGODB_TIMEOUT_MS": "9000", "WRITEBEHIND_LOAD_TIMEOUT_MS": "9000"}
        more = {"MONGODB_URL": by_proxy, **patience, **lookup}
        with web_server(system, WRITEBEHIND_WEB_THREADS=str(THREADS), **more) as served:
            served.http.put("/v1/users/innocent", json={}).raise_for_status()
            yield served, way


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    cases(SLOW_MONGODB, {"changes of one document", "reads of several", "writes that wait for MongoDB"}),
)
def test_a_slow_mongodb_keeps_nobody_from_what_redis_has(far_from_mongodb, method, path, expected):
    """However many wait for MongoDB, others are answered within a second, and too many are told to come again."""
    server, way = far_from_mongodb
    enough = threading.Event()
    answers: list[httpx.Response] = []
    headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}

    def ask(_: int) -> None:
        with httpx.Client(base_url=server.http.base_url, timeout=2 * PATIENCE_S, **OF_MANY) as http:
            while not enough.is_set():
                name = f"{next(_numbers)}"
                body = "" if method == "GET" else json.dumps({"ids": [name]} if method == "POST" else {"n": 1})
                answers.append(http.request(method, path.format(name), content=body, headers=headers))
                if answers[-1].status_code == 503:
                    enough.wait(0.02)  # far less than Retry-After

    way.slow(SLOW_S / 2)
    slow = slowness()
    with ThreadPoolExecutor(2 * THREADS) as threads:
        asked = [threads.submit(ask, number) for number in range(2 * THREADS)]
        try:
            enough.wait(0.5)
            took = innocent(server)
        finally:
            enough.set()
            way.slow(0)
        for one in asked:
            one.result()

    assert took[-1] < 1.0 * max(slow, slowness()), took
    refused = [one for one in answers if one.status_code == 503]
    assert all("Retry-After" in one.headers for one in refused)
    waited = [one for one in answers if one.status_code != 503]
    assert expected >= {one.status_code for one in waited}
    assert any(one.elapsed.total_seconds() >= SLOW_S / 2 for one in waited), "nobody has waited for MongoDB"


@pytest.fixture(scope="module")
def impatient(system: System) -> Iterator[WebServer]:
    """One web process that waits a second for its clients."""
    with web_server(system, WRITEBEHIND_REQUEST_TIMEOUT_MS="1000") as served:
        served.http.put("/v1/users/large", json={"text": "x" * 1_000_000}).raise_for_status()
        yield served


@pytest.mark.parametrize(
    "sent",
    ["Content-Length: 9\r\n\r\n", 'Content-Length: 9\r\n\r\n{"n"', "Transfer-Encoding: chunked\r\n\r\n9\r\n{"],
    ids=["nothing", "a part", "a part of a chunk"],
)
def test_a_body_that_does_not_come_is_refused(impatient, sent):
    """The client learns why, and the connection is closed."""
    with connect(impatient.port) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(f"PUT /v1/users/late HTTP/1.1\r\n{HEAD}{sent}".encode())
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:problem-type:writebehind:request-timeout" in answer
    assert 404 == impatient.http.get("/v1/users/late").status_code


@pytest.mark.parametrize("path", [pytest.param("/v1/users/large", marks=pytest.mark.long), "/openapi.json"])
def test_an_answer_that_is_not_taken_is_given_up(impatient, path):
    """The connection is closed, so that it costs neither memory nor one of the connections that there may be."""

    def connections() -> int:
        [worker] = impatient.process.children()
        return sum(one.laddr[1] == impatient.port and bool(one.raddr) for one in worker.net_connections("tcp"))

    with ExitStack() as stack:
        held = hold(20, f"GET {path} HTTP/1.1\r\n{HEAD}\r\n" * 100, window=4_096)
        for connection in held(impatient.port):
            stack.enter_context(connection)

        wait_until(lambda: connections() <= 1, "their end", PATIENCE_S)  # one is the client's of this test
