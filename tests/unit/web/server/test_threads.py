"""Threads: slow clients, long requests and an absent MongoDB leave some to everybody else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from werkzeug.exceptions import ServiceUnavailable

from tests.unit.web.server.conftest import MIB, Client, Written, length, part, run
from tests.waiting import wait_until
from web.server import Server
from web.threads import Threads, Turn
from writebehind import load_settings
from writebehind.documents.large import TakesMuchError, is_bounded
from writebehind.errors import MongoBusyError
from writebehind.flask.problems import OutcomeUnknown
from writebehind.mongodb.waiting import waits
from writebehind.tallies.tallies import Tallies


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


#: A request of each kind that has threads of its own.
KINDS = ("/v1/users/x", "/v1/users:bulk", "/admin/status", "/readyz")


@pytest.mark.parametrize(
    "path", [*KINDS, "/metrics", "/console", "/v1/users/queries/all", "/admin/dead-letters:export"]
)
def test_a_kind_of_requests_keeps_no_other_kind_waiting(app, server, path):
    """However many of one kind there are, the others are answered while all its threads are held."""
    kind = {"/metrics": "/readyz", "/console": "/admin/status"}.get(path, path)
    others = [Client(path=one) for one in (*KINDS, "/healthz") if one != kind]
    if path not in {*KINDS, "/metrics", "/console"}:
        others = [one for one in others if one.scope["path"] != "/v1/users:bulk"]
    go_on = threading.Event()
    app.writes = lambda environ: [b"done" if environ["PATH_INFO"] != path or go_on.wait(10) else b""]
    held = [Client(path=path) for _ in range(5)]

    async def all_of_them() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in held]
        await asyncio.sleep(0)
        await asyncio.gather(*(one.ask(server) for one in others))
        assert [0] * 5 == [one.status for one in held]
        go_on.set()
        await asyncio.gather(*waiting)

    asyncio.run(all_of_them())

    assert {200} == {one.status for one in others}


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


def test_a_turn_is_taken_once():
    """Of many threads that try at the same moment one alone gets it."""
    for _ in range(200):
        turn, together, taken = Turn(), threading.Barrier(4), []

        def take(turn=turn, together=together, taken=taken) -> None:
            together.wait()
            taken.append(turn.take())

        threads = [threading.Thread(target=take) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert 1 == sum(taken)


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("PUT", "/v1/users/x", OutcomeUnknown),
        ("GET", "/v1/users/x", ServiceUnavailable),
        ("POST", "/v1/users:get", ServiceUnavailable),
        ("POST", "/v1/users:bulk", OutcomeUnknown),
        ("POST", "/v1/users/x:get", OutcomeUnknown),
    ],
)
def test_what_is_late_says_whether_a_write_may_have_happened(app, server, method, path, told):
    """One that no thread had time for was not written, and never will be; one that was begun may be."""
    go_on = threading.Event()
    app.writes = lambda _: [b"done"] if go_on.wait(10) else [b""]
    begun, waiting = Client(method=method, path=path), Client(method=method, path=path)
    server._one = server._many = Threads(1, "one")  # so that one request holds all

    async def both() -> None:
        first = asyncio.ensure_future(begun.ask(server))
        await asyncio.sleep(0)
        await asyncio.gather(first, waiting.ask(server))
        go_on.set()
        await server._one.run(lambda: None)  # whose turn comes when all others are done

    asyncio.run(both())

    assert [503, 503] == [begun.status, waiting.status]
    assert [told, ServiceUnavailable] == sorted(map(type, app.refused), key=lambda one: one is not told)
    assert 1 == len(app.environs)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *(("PUT", one) for one in ("/v1/users:bulk", "/v1/users:get", "/admin/drift", "/v1/users/queries/q")),
        *(
            ("GET", one)
            for one in (
                *("/v1/users", "/v1/users?limit=5", "/v1/users?after=x", "/v1/users?fields=a&limit=5"),
                *("/v1/users?&limit=5", "/v1/users?%6Cimit=5", "/v1/users?limit", "/v1/users?&"),
            )
        ),
        ("HEAD", "/v1/users?limit=5"),
    ],
)
def test_requests_about_many_leave_threads_to_those_about_one(app, server, method, target):
    """However many of them there are, a document is read and written meanwhile."""
    go_on = threading.Event()
    app.writes = lambda environ: [b"done"] if environ["PATH_INFO"] == "/v1/users/x" or go_on.wait(10) else [b""]
    path, _, query = target.partition("?")
    many = [Client(path=path, method=method) for _ in range(5)]
    for each in many:
        each.scope["query_string"] = query.encode()
    one = Client()

    async def both() -> None:
        waiting = [asyncio.ensure_future(each.ask(server)) for each in many]
        await asyncio.sleep(0)
        await one.ask(server)
        go_on.set()
        await asyncio.gather(*waiting)

    asyncio.run(both())

    assert 200 == one.status


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
    server = Server(app, load_settings(web_threads=2), Tallies())
    app.writes = large = Large()

    run(server, *(Client(path="/v1/users/large", method=method) for _ in range(5)))
    before = large.read
    client = Client(path="/v1/users/large", method=method)
    run(server, client)

    assert (200, 2 * MIB) == (client.status, len(client.answer))
    assert 1 == large.most
    assert (1 if known else 2) == large.read - before


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


@pytest.mark.parametrize(("path", "count"), [("/v1/users/x", 6), ("/v1/users:get", 3)])
def test_who_waits_for_mongodb_leaves_threads_to_others(app, path, count):
    """Of the threads for single documents and of those for many: the others answer, and more are refused."""
    server = Server(app, load_settings(web_threads=8, request_timeout_ms=20_000), Tallies())
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
