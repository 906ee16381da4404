"""Bodies and answers share a bounded memory: who stands still makes way, and what is done is let go of."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from typing import Any
from weakref import ReferenceType, ref

import pytest
from werkzeug.exceptions import ServiceUnavailable

from tests.unit.web.server.conftest import App, Client, large, run
from web import server as server_module
from web.server import Server
from web.transfers import SMALL, Transfers
from writebehind import load_settings
from writebehind.documents.large import TakesMuchError, is_bounded
from writebehind.tallies.tallies import Tallies


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
    server = Server(app, load_settings(max_bulk_bytes=SMALL, max_document_bytes=SMALL), Tallies())
    app.writes = lambda _: [b"x" * (3 * SMALL)]
    other, client = server._transfers.begin(), Client()
    server._transfers.hold(other, 3 * SMALL)

    run(server, client)

    assert (503, b"refused") == (client.status, client.answer)


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


def test_an_answer_that_there_is_never_room_for_is_refused_for_good(app, monkeypatch):
    """No client is told to try again what cannot succeed."""
    monkeypatch.setattr(server_module, "MOST_HELD", 0)
    server = Server(app, load_settings(max_bulk_bytes=SMALL, max_document_bytes=SMALL), Tallies())
    app.writes = lambda _: [b"x" * (4 * SMALL + 1)]
    client = Client()

    run(server, client)

    assert 413 == client.status
    assert f"{4 * SMALL + 1} bytes" in str(app.refused[0])
