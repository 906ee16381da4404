"""What comes between granian's event loop and the application: bodies, deadlines, memory, threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from weakref import ReferenceType, ref

import pytest
from werkzeug.exceptions import ServiceUnavailable

from tests.waiting import wait_until
from web import server as server_module
from web.app import REFUSAL
from web.server import PIECE, Server
from web.transfers import SMALL, Transfers
from writebehind import load_settings
from writebehind.documents.large import TakesMuchError, is_bounded
from writebehind.errors import MongoBusyError
from writebehind.mongodb.waiting import waits

MIB = 1 << 20


class Client:
    """One request, as granian would bring it: messages that come, and the answer that is sent."""

    def __init__(
        self, *messages: dict[str, Any], path: str = "/v1/users/x", headers: tuple = (), method: str = "PUT"
    ) -> None:
        self.coming = list(messages)
        self.answer = b""
        self.status = 0
        self.complete = False
        #: Cleared while the client takes nothing.
        self.takes = True
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"a=%20",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", "0"),
            "client": ("127.0.0.1", "4711"),
            "headers": [(b"host", b"localhost"), *headers],
        }

    async def receive(self) -> dict[str, Any]:
        if not self.coming:
            await asyncio.Event().wait()
        return self.coming.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if not self.takes:
            await asyncio.Event().wait()
        self.status = message.get("status", self.status)
        self.answer += message.get("body", b"")
        self.complete = message.get("more_body") is False

    async def ask(self, server: Server) -> None:
        await server(self.scope, self.receive, self.send)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}
CHUNKED = ((b"transfer-encoding", b"chunked"),)


def length(size: int) -> tuple:
    return ((b"content-length", str(size).encode()),)


class App:
    """A WSGI application that repeats the body, or says what it was told to refuse."""

    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []
        self.refused: list[Exception] = []
        self.writes: Callable[[dict[str, Any]], Any] = lambda environ: [environ["wsgi.input"].read()]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        refusal = environ.get(REFUSAL)
        if refusal is not None:
            self.refused.append(refusal)
            start_response(f"{refusal.code} Refused", [])
            return [b"refused"]
        self.environs.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self.writes(environ)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app) -> Server:
    return Server(app, load_settings(web_threads=2, request_timeout_ms=300, max_bulk_bytes=MIB))


def run(server: Server, *clients: Client) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(one.ask(server) for one in clients))

    asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "client",
    [
        Client(part(b"abcdef"), headers=length(6)),
        Client(part(b"abc", more=True), part(b"def"), headers=length(6)),
        Client(part(b"abc", more=True), part(b"def", more=True), part(b""), headers=CHUNKED),
    ],
    ids=["one piece", "two pieces", "chunks"],
)
def test_a_whole_body_reaches_the_application(app, server, client):
    """It is read before a thread is taken, whatever pieces it comes in."""
    run(server, client)

    assert (200, b"abcdef", True) == (client.status, client.answer, client.complete)


@pytest.mark.parametrize(
    "client",
    [
        Client(GONE, headers=CHUNKED),
        Client(part(b"abc", more=True), GONE, headers=CHUNKED),
        Client(part(b"abc", more=True), GONE, headers=length(6)),
    ],
    ids=["nothing", "no last chunk", "less than its length"],
)
def test_a_body_that_breaks_off_never_reaches_the_application(app, server, client):
    """The application is asked for a refusal in its place."""
    run(server, client)

    assert ([], [400]) == (app.environs, [one.code for one in app.refused])


def test_a_body_that_does_not_come_is_refused_in_time(app, server):
    """Nobody waits longer than the settings say, nor for a body of which a part has come."""
    clients = [Client(headers=length(6)), Client(part(b"abc", more=True), headers=CHUNKED)]

    run(server, *clients)

    assert [408, 408] == [one.status for one in clients]
    assert [] == app.environs


def test_a_body_that_is_too_large_is_not_read(app, server):
    """What says so is not read at all, what does not say so only up to the limit."""
    says_so = Client(part(b"x"), headers=length(MIB + 1))
    does_not = Client(*[part(b"x" * (MIB // 4), more=True)] * 10, headers=CHUNKED)

    run(server, says_so, does_not)

    assert [413, 413] == [says_so.status, does_not.status]
    assert (1, 5) == (len(says_so.coming), len(does_not.coming))
    assert [] == app.environs


@pytest.mark.parametrize(
    ("digits", "length"), [(b"0" * 5000 + b"2", 2), (b"0" * 5000, 0), (b"9" * 5000, int("9" * 18)), (b"17", 17)]
)
def test_a_length_of_any_number_of_digits_is_read(digits, length):
    """What is more than any limit has no need to be exact."""
    assert length == server_module._announced([(b"content-length", digits)])


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity"])
def test_other_transfer_codings_are_refused(app, server, coding):
    """Nobody decodes them here."""
    client = Client(part(b"x"), headers=((b"transfer-encoding", coding),))

    run(server, client)

    assert (501, []) == (client.status, app.environs)


def test_the_environment_is_as_wsgi_has_it(app, server):
    """The path comes as the bytes that were sent; a header that comes twice is joined."""
    twice = ((b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-type", b"text/plain"))
    client = Client(path="/v1/users/%FF%2F", headers=twice)

    run(server, client)

    said = app.environs[0]
    assert ("/v1/users/\xff/", "a=%20") == (said["PATH_INFO"], said["QUERY_STRING"])
    assert ("1,2", "text/plain") == (said["HTTP_X_TWICE"], said["CONTENT_TYPE"])
    assert ("PUT", "HTTP/1.1", "127.0.0.1") == (
        said["REQUEST_METHOD"],
        said["SERVER_PROTOCOL"],
        said["REMOTE_ADDR"],
    )


def test_a_name_with_an_underscore_passes_for_no_other(app, server):
    """WSGI has one name for `If-Match` and `If_Match`; HTTP, and what lies before, know the first only."""
    odd = ((b"if_match", b"*"), (b"content_type", b"text/html"), (b"x-a_b", b"1"), (b"content_length", b"9"))
    client = Client(part(b"{}"), headers=(*odd, *length(2)))

    run(server, client)

    said = app.environs[0]
    assert ["HTTP_HOST"] == [name for name in said if name.startswith("HTTP_")]
    assert ("2", False) == (said["CONTENT_LENGTH"], "CONTENT_TYPE" in said)


class Written:
    """An answer that is written piece by piece; notes whether it was closed."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            self.left -= 1
            yield b"x" * PIECE

    def close(self) -> None:
        self.closed = True


def test_a_long_answer_is_written_as_it_is_taken(app, server):
    """All of it arrives, and it is closed."""
    written = Written(20)
    app.writes = lambda _: written
    client = Client()

    run(server, client)

    assert (20 * PIECE, True) == (len(client.answer), client.complete)
    assert written.closed


@pytest.mark.parametrize("pieces", [1, 20])
def test_an_answer_that_is_not_taken_is_given_up(app, server, pieces):
    """It is not written further, closed, and left incomplete, at which granian closes the connection."""
    written = Written(pieces)
    app.writes = lambda _: written
    client = Client()
    sent = client.send

    async def start_only(message: dict[str, Any]) -> None:
        await sent(message)
        client.takes = False

    client.send = start_only
    run(server, client)

    assert (b"", False) == (client.answer, client.complete)
    assert pieces - 1 == written.left
    assert written.closed


def test_an_answer_is_not_written_for_a_client_that_is_gone(app, server):
    """What nobody takes is not even read from Redis."""
    written = Written(20)
    app.writes = lambda _: written
    client = Client(part(b""), GONE)

    run(server, client)

    assert written.left > 0
    assert written.closed
    assert not client.complete


def test_a_client_that_is_slow_holds_no_thread(app, server):
    """With more of them than there are threads, others are answered at once."""
    slow = [Client(headers=length(6)) for _ in range(20)]
    quick = Client(part(b"abc"), headers=length(3))
    answered: list[int] = []

    async def both() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in slow]
        await quick.ask(server)
        answered.extend(one.status for one in slow)
        await asyncio.gather(*waiting)

    asyncio.run(both())

    assert 200 == quick.status
    assert [0] * 20 == answered  # they were all still waited for


@pytest.mark.parametrize("path", ["/v1/users/x", "/v1/users:bulk", "/admin/status"])
def test_requests_that_take_long_do_not_keep_the_rest_waiting(app, server, path):
    """Liveness is told while all threads are held, and what is too late is answered with 503."""
    go_on = threading.Event()
    app.writes = lambda environ: [b"done"] if environ["PATH_INFO"] == "/healthz" or go_on.wait(10) else [b""]
    held = [Client(path=path) for _ in range(5)]
    alive = Client(path="/healthz")

    async def both() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in held]
        await asyncio.sleep(0)
        await alive.ask(server)
        assert [0] * 5 == [one.status for one in held]
        await asyncio.gather(*waiting)
        go_on.set()

    asyncio.run(both())

    assert 200 == alive.status
    assert [503] * 5 == [one.status for one in held]


@pytest.mark.parametrize("path", ["/v1/users:bulk", "/v1/users:get", "/admin/drift", "/v1/users/queries/q"])
def test_requests_about_many_leave_threads_to_those_about_one(app, server, path):
    """However many of them there are, a document is read and written meanwhile."""
    go_on = threading.Event()
    app.writes = lambda environ: [b"done"] if environ["PATH_INFO"] == "/v1/users/x" or go_on.wait(10) else [b""]
    many = [Client(path=path) for _ in range(5)]
    one = Client()

    async def both() -> None:
        waiting = [asyncio.ensure_future(each.ask(server)) for each in many]
        await asyncio.sleep(0)
        await one.ask(server)
        go_on.set()
        await asyncio.gather(*waiting)

    asyncio.run(both())

    assert 200 == one.status


def test_bodies_and_answers_share_a_bounded_memory():
    """Who finds no room is refused, and small ones always find it."""

    async def hold() -> None:
        transfers = Transfers(60, 10 * SMALL)
        first, second = transfers.begin(), transfers.begin()
        transfers.hold(first, 9 * SMALL)
        transfers.hold(second, SMALL)
        with pytest.raises(ServiceUnavailable):
            transfers.hold(second, 2 * SMALL)
        transfers.end(first)
        transfers.hold(second, 10 * SMALL)

    asyncio.run(hold())


def test_who_stands_still_makes_way(monkeypatch):
    """A client that does not move is given up when others need its memory, before its time is over."""
    monkeypatch.setattr("web.transfers.STALLED_S", 0.01)

    async def hold() -> None:
        transfers = Transfers(60, 10 * SMALL)
        first, second = transfers.begin(), transfers.begin()
        transfers.hold(first, 9 * SMALL)
        still = asyncio.ensure_future(transfers.wait(first, asyncio.Event().wait()))
        deadline = asyncio.get_running_loop().time() + 10
        while second.held == 0:
            assert asyncio.get_running_loop().time() < deadline
            with suppress(ServiceUnavailable):
                transfers.hold(second, 9 * SMALL)
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await still

    asyncio.run(hold())


class Cramped:
    """A server with room for one body only, and a client with such a body whose work lasts until it may go on."""

    def __init__(self, app: App, server: Server, monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
        monkeypatch.setattr("web.transfers.STALLED_S", 0.0)
        self.server = server
        server._transfers = Transfers(patience_s, 10 * SMALL)
        self.go_on, self._working = threading.Event(), threading.Event()
        app.writes = self._work
        self.first = large()

    def _work(self, environ: dict[str, Any]) -> list[bytes]:
        if not self._working.is_set():
            self._working.set()
            self.go_on.wait(10)
        return [environ["wsgi.input"].read()[:10]]

    async def begin(self) -> asyncio.Future[None]:
        """Let the first client's work begin."""
        asked = asyncio.ensure_future(self.first.ask(self.server))
        await asyncio.to_thread(self._working.wait, 10)
        return asked

    async def status_of_another(self) -> int:
        other = large()
        await other.ask(self.server)
        return other.status


def large() -> Client:
    return Client(part(b"x" * 8 * SMALL, more=True), part(b"x" * SMALL), headers=length(9 * SMALL))


def test_work_makes_no_way(app, server, monkeypatch):
    """A request that is being carried out waits for no client: it is never given up for another's memory."""
    cramped = Cramped(app, server, monkeypatch, 60)

    async def both() -> None:
        asked = await cramped.begin()
        assert 503 == await cramped.status_of_another()
        cramped.go_on.set()
        await asked
        assert 200 == await cramped.status_of_another()

    asyncio.run(both())

    assert (200, b"x" * 10) == (cramped.first.status, cramped.first.answer)


@pytest.mark.parametrize("ends", ["late", "given up"])
def test_work_has_its_memory_until_it_is_done(app, server, monkeypatch, ends):
    """Nobody else gets the memory of a body that a thread still holds, though its client has its answer."""
    cramped = Cramped(app, server, monkeypatch, 0.3 if ends == "late" else 60)

    async def both() -> None:
        asked = await cramped.begin()
        if ends == "given up":
            asked.cancel()
        await asyncio.wait([asked])
        assert 503 == await cramped.status_of_another()
        cramped.go_on.set()
        deadline = asyncio.get_running_loop().time() + 10
        while await cramped.status_of_another() != 200:
            assert asyncio.get_running_loop().time() < deadline

    asyncio.run(both())

    assert (503 if ends == "late" else 0) == cramped.first.status


def test_what_is_cancelled_from_outside_stays_so():
    """Only what has used up its time is a timeout."""

    async def hold() -> None:
        transfers = Transfers(60, SMALL)
        waiting = asyncio.ensure_future(transfers.wait(transfers.begin(), asyncio.Event().wait()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(hold())


def test_an_answer_without_room_is_refused(app, monkeypatch):
    """Its memory is let go of, and the client told to come again."""
    monkeypatch.setattr(server_module, "MOST_HELD", 0)
    server = Server(app, load_settings(max_bulk_bytes=SMALL, max_document_bytes=SMALL))
    app.writes = lambda _: [b"x" * (3 * SMALL)]
    other, client = server._transfers.begin(), Client()
    server._transfers.hold(other, 3 * SMALL)

    run(server, client)

    assert (503, b"refused") == (client.status, client.answer)


def test_threads_are_let_go_of_before_the_answer_is_taken(app, server):
    """An answer that waits for its client needs none."""
    app.writes = lambda _: Written(20)
    stuck = [Client() for _ in range(5)]
    for one in stuck:
        one.takes = False
    quick = Client()

    async def both() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in stuck]
        await quick.ask(server)
        assert [0] * 5 == [one.status for one in stuck]
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)

    asyncio.run(both())
    wait_until(lambda: quick.complete, "the answer")


class Large:
    """What reads large documents: it counts how many are read, and made text of, at once."""

    def __init__(self) -> None:
        self.read = self.most = 0
        self._now = 0

    def __call__(self, environ: dict[str, Any]) -> list[bytes]:
        if environ["PATH_INFO"] != "/v1/users/large":
            return [b"small"]
        self.read += 1
        if is_bounded():
            raise TakesMuchError
        self._now += 1
        self.most = max(self.most, self._now)
        threading.Event().wait(0.01)  # others could come in between
        self._now -= 1
        return [b"x" * 2 * MIB]


@pytest.mark.parametrize(("method", "known"), [("GET", True), ("POST", False)])
def test_large_documents_are_taken_one_after_the_other(app, method, known):
    """All are answered, a document that is known to be large is read in the thread that is there for it."""
    server = Server(app, load_settings(web_threads=2))
    app.writes = large = Large()

    run(server, *(Client(path="/v1/users/large", method=method) for _ in range(5)))
    before = large.read
    client = Client(path="/v1/users/large", method=method)
    run(server, client)

    assert (200, 2 * MIB) == (client.status, len(client.answer))
    assert 1 == large.most
    assert (1 if known else 2) == large.read - before


class Read:
    """What a request has read."""


def test_what_was_read_in_vain_is_let_go_of(app, server):
    """At once: the collector would come after many more requests, each of which may leave a large document."""
    read: list[ReferenceType[Read]] = []

    def open_read() -> None:
        if is_bounded():
            raise TakesMuchError

    def writes(environ: dict[str, Any]) -> list[bytes]:
        document, failed = Read(), None
        read.append(ref(document))
        try:
            open_read()
        except BaseException as error:
            failed = error  # as in Flask: a circle through the traceback
            raise
        return [repr((document, failed)).encode()]

    app.writes = writes
    gc.disable()
    try:
        run(server, Client(path="/v1/users/large"))

        assert [None, None] == [one() for one in read]
    finally:
        gc.enable()


def test_large_documents_keep_nobody_else_waiting(app, server):
    """Who waits for them holds no thread, and not for longer than the server has patience."""
    go_on = threading.Event()

    def writes(environ: dict[str, Any]) -> list[bytes]:
        if environ["PATH_INFO"] != "/v1/users/large":
            return [b"small"]
        if is_bounded():
            raise TakesMuchError
        return [b"x" if go_on.wait(10) else b""]

    app.writes = writes
    held = [Client(path="/v1/users/large") for _ in range(5)]
    other = Client()

    async def both() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in held]
        await asyncio.sleep(0)
        await other.ask(server)
        assert [0] * 5 == [one.status for one in held]
        await asyncio.gather(*waiting)
        go_on.set()

    asyncio.run(both())

    assert 200 == other.status
    assert [503] * 5 == [one.status for one in held]


def test_an_answer_that_there_is_never_room_for_is_refused_for_good(app, monkeypatch):
    """No client is told to try again what cannot succeed."""
    monkeypatch.setattr(server_module, "MOST_HELD", 0)
    server = Server(app, load_settings(max_bulk_bytes=SMALL, max_document_bytes=SMALL))
    app.writes = lambda _: [b"x" * (4 * SMALL + 1)]
    client = Client()

    run(server, client)

    assert 413 == client.status
    assert f"{4 * SMALL + 1} bytes" in str(app.refused[0])


@pytest.mark.parametrize(("path", "count"), [("/v1/users/x", 6), ("/v1/users:get", 3)])
def test_who_waits_for_mongodb_leaves_threads_to_others(app, path, count):
    """Of the threads for single documents and of those for many: the others answer, and more are refused."""
    server = Server(app, load_settings(web_threads=8, request_timeout_ms=20_000))
    over, inside = threading.Event(), threading.Semaphore(0)

    def wait(environ: dict[str, Any]) -> list[bytes]:
        if b"wait" not in environ["wsgi.input"].read():
            return [b"at once"]
        try:
            with waits():
                inside.release()
                assert over.wait(20)
        except MongoBusyError:
            return [b"refused"]
        return [b"late"]

    app.writes = wait

    async def ask() -> list[bytes]:
        def client(body: bytes) -> Client:
            return Client(part(body), path=path, headers=length(len(body)), method="POST")

        clients = [client(b"wait") for _ in range(2 * count)]
        asked = [asyncio.ensure_future(one.ask(server)) for one in clients]
        for _ in range(count):
            await asyncio.to_thread(inside.acquire, timeout=10)
        innocent = client(b"")
        await asyncio.wait_for(innocent.ask(server), 10)
        over.set()
        await asyncio.gather(*asked)
        return [innocent.answer, *(one.answer for one in clients)]

    first, *others = asyncio.run(ask())

    assert first == b"at once"
    assert {b"late", b"refused"} == set(others)
    assert others.count(b"refused") >= count - 2  # the last ones may come when the first ones leave
