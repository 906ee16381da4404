"""The WSGI application behind granian's event loop, so that no client holds a thread, however slow it is.

The loop collects a body before a thread is taken, and hands an answer out after it was let go. What a client does
too slowly, breaks off or sends too much of never reaches the routes: they are asked for a refusal in its place.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from time import monotonic, perf_counter
from traceback import clear_frames
from typing import Any

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
)

from web.access_log import AccessLog
from web.answers import PIECE, Answer, Application, call, encoded, environ_for, nothing
from web.app import ROUTE, create_app
from web.cors import shared
from web.counting import CROWDED, LATE, NO_ROUTE, Requests
from web.crowding import Crowd, peer_of
from web.environ import Headers, Scope, announced
from web.hot_path import HERE, HotPath
from web.large import Known, return_large_blocks
from web.limits import FREE, Door, Entry, refused, told
from web.sockets import allow_connections, bound_untaken
from web.threads import Threads
from web.tls import STRICT
from web.transfers import SMALL, NotBegunError, Transfer, Transfers
from writebehind import Settings, load_settings
from writebehind.access.limits import Clients, Limit
from writebehind.deadline import ends_at
from writebehind.documents.large import LARGE_BYTES, TakesMuchError, bounded
from writebehind.errors import without_frames
from writebehind.flask.extension import EXTENSION
from writebehind.flask.framing import too_large
from writebehind.flask.kinds import CONSOLE, FIGURES, HEALTH, OPERATING, READINESS, is_about_many, reads
from writebehind.flask.problems import OutcomeUnknown, log_fields
from writebehind.launcher import begin_log
from writebehind.logs.audit import begin_audit
from writebehind.logs.fields import add_source
from writebehind.mongodb.waiting import Places, wait_in
from writebehind.monitoring.watchers import Watchers
from writebehind.redis.lanes import Lanes
from writebehind.settings.urls import redacted
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ServerApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

MEBIBYTE = 1 << 20
#: Memory for bodies and answers of a process that are on their way, bytes.
MOST_HELD = 96 * MEBIBYTE
#: Objects that come up before garbage is looked for.
COLLECT_AFTER = 50_000


def create_server() -> ServerApplication:
    """Build the application as the settings say, for granian.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    begin_log("web")
    add_source("request", log_fields)
    settings = load_settings()
    begin_audit(settings.audit_log, "web", redact=redacted)
    app = create_app()
    pipeline = app.extensions[EXTENSION]
    limit = Limit(settings.client_rate, settings.client_window, settings.client_concurrency)
    clients = Clients(limit, pipeline.store.spending)
    door = Door(clients, pipeline.keyring, frozenset(settings.cors_origins))
    hot = app.wsgi_app if isinstance(app.wsgi_app, HotPath) else None
    server = Server(app, settings, pipeline.tallies, door, hot)
    watches = {"admission": pipeline.watch_admission, "limits": clients.watch}
    if pipeline.login is not None:
        watches["login"] = pipeline.login.watch
    atexit.register(Watchers(watches).start().stop)  # before the pipeline is closed
    server.crowd.watch()
    return_large_blocks()
    # What is there by now stays, and a request makes many objects and no cycles. Looking for some again and again
    # would take most of the time that a large body takes.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    return AccessLog(server) if settings.access_log else server


class GivenUpError(Exception):
    """The client's connection was closed to make room for others: there is nobody to answer."""


class Server:
    """An ASGI application that calls a WSGI application."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        tallies: Tallies,
        door: Door | None = None,
        hot: HotPath | None = None,
    ) -> None:
        """Serve this application with the threads and the patience that the settings say, and count in tallies.

        Args:
            application: is called with what comes through.
            settings: its threads, patience and bounds.
            tallies: count requests.
            door: holds clients to their limits; without it there are none.
            hot: answers in the event loop what it can; without it, threads answer all.
        """
        self._requests = Requests(tallies)
        self._application = application
        #: Answers in the loop what takes no thread.
        self._hot = hot
        self._lanes = Lanes(settings.redis_timeout_ms)
        self._door = door
        self._most_bytes = max(settings.max_bulk_bytes, settings.max_document_bytes)
        self._patience_ms = settings.request_timeout_ms
        self._origins = frozenset(settings.cors_origins)
        self._strict = [STRICT] if settings.tls_cert is not None else []
        self._transfers = Transfers(self._patience_ms / 1000, max(MOST_HELD, 4 * self._most_bytes))
        self._one = _some_threads(settings.web_threads, "web")
        self._many = _some_threads(max(1, settings.web_threads // 2), "web-many")
        # Nothing that others do may keep these waiting: is the process alive, and what cannot be served; may
        # traffic come, and the figures; what operators ask for, of which nothing is about many documents.
        self._apart = Threads(1, "web-apart")
        self._watching = {
            HEALTH: self._apart,
            READINESS: Threads(1, "web-ready"),
            FIGURES: Threads(1, "web-figures"),  # a page takes longer than many answers to a load balancer
        }
        self._operating = _some_threads(max(2, settings.web_threads // 4), "web-operating")
        self._large = Threads(1, "web-large")
        self._known_large = Known()
        self.crowd = Crowd(settings.port, allow_connections(settings.max_connections))
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not self._begun:
            self._begun = True
            bound_untaken(int(scope["server"][1]), self._patience_ms)
            self._requests.tell(self.crowd.in_progress)
        entry = FREE if self._door is None else self._door.enter(scope)
        transfer = self._transfers.begin()
        peer = peer_of(scope["client"])
        self.crowd.begin(peer, transfer)
        try:
            body, refusal, is_unread = b"", None, False
            try:
                if entry.refusal is None:
                    body = await self._body(transfer, scope["headers"], receive)
                else:
                    is_unread = announced(scope["headers"]) != 0
            except HTTPException as error:
                refusal = without_frames(error)
                self._requests.refused(error)
            began = perf_counter()
            answer = await self._answer(transfer, scope, body, refusal, entry)
            del body
            answer.headers += told(entry)
            answer.headers += self._strict
            self._requests.answered(scope["method"], answer.route, answer.status, began)
            if refusal is not None or is_unread or scope["method"] == "CONNECT":
                # What else comes may be a part of this request, or be meant for somebody behind a tunnel.
                answer.headers.append((b"connection", b"close"))
            await self._hand_out(transfer, scope, answer, receive, send)
        except GivenUpError:
            log.debug("a client has made way for others")
            self._requests.refused(CROWDED)
        finally:
            if self._door is not None:
                self._door.leave(entry)
            self.crowd.end(peer)
            self._transfers.end(transfer)

    async def _body(self, transfer: Transfer, headers: Headers, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            HTTPException: it is too large, does not come as a whole and in time, or there is no room for it.
        """
        length = announced(headers)
        if length == 0:
            return b""
        if length is not None and length > self._most_bytes:
            raise RequestEntityTooLarge(too_large(self._most_bytes))
        message = await self._piece(transfer, receive)
        if not message["more_body"] or len(message["body"]) == length:
            return bytes(message["body"])
        body = bytearray(message["body"])
        while message["more_body"] and len(body) != length:
            message = await self._piece(transfer, receive)
            body += message["body"]
            if len(body) > self._most_bytes:
                raise RequestEntityTooLarge(too_large(self._most_bytes))
            self._transfers.hold(transfer, len(body))
        return bytes(body)

    async def _piece(self, transfer: Transfer, receive: Receive) -> dict[str, Any]:
        """The next piece of a body.

        Raises:
            HTTPException: there is none, or not in time.
            GivenUpError: its connection was closed, as others needed it.
        """
        try:
            message = await self._transfers.wait(transfer, receive())
        except TimeoutError:
            raise RequestTimeout("the body did not come in time") from None
        if message["type"] != "http.request":
            if transfer.given_up:
                raise GivenUpError
            raise BadRequest("the body ended before its end: its length or its last chunk says that more comes")
        transfer.moved(len(message["body"]))
        return message

    async def _answer(  # noqa: PLR0911 - each of them ends it
        self, transfer: Transfer, scope: Scope, body: bytes, refusal: HTTPException | None, entry: Entry
    ) -> Answer:
        """The application's answer, or a 503 when it is late; or a 429."""
        if refusal is not None:
            return await self._refusal(scope, refusal)
        if entry.client is not None and entry.refusal is not None:
            self._requests.refused(entry.refusal.limit)
            headers, text = refused(scope, entry.client, entry.refusal)
            headers += shared(scope["headers"], self._origins)
            return Answer(429, headers, text, None, nothing, NO_ROUTE)
        self._transfers.renew(transfer)
        # POST is left out: what it asks for is in its body.
        target = scope["raw_path"] + b"?" + scope["query_string"] if scope["method"] != "POST" else b""
        try:
            if target not in self._known_large:
                environ = environ_for(scope, body)
                if (done := await self._answer_here(transfer, environ)) is not None:
                    return done
                threads = self._threads(scope, len(body))
                work = partial(self._call, environ, until=transfer.deadline)
                if (answer := await self._transfers.carry_out(transfer, threads, work)) is not None:
                    return answer
            return await self._alone(transfer, scope, body, target)
        except TimeoutError as error:
            self._requests.refused(LATE)
            is_untouched = isinstance(error, NotBegunError) or reads(scope["method"], scope["path"])
            return await self._refusal(scope, _late() if is_untouched else OutcomeUnknown(retry_after=1))
        except ServiceUnavailable as error:
            self._requests.refused(error)
            return await self._refusal(scope, error)

    async def _answer_here(self, transfer: Transfer, environ: dict[str, Any]) -> Answer | None:
        """The answer to a request that takes no thread, if it is one."""
        if self._hot is None or environ["REQUEST_METHOD"] not in HERE:
            return None
        found = await self._hot.answer_here(environ, self._lanes, partial(self._transfers.work, transfer))
        if found is None:
            return None
        status, headers, data = found
        return Answer(status, encoded(headers), data, None, nothing, environ[ROUTE])

    async def _alone(self, transfer: Transfer, scope: Scope, body: bytes, target: bytes) -> Answer:
        """The application's answer, made in the thread for large documents.

        Raises:
            ServiceUnavailable: there is no room for the body until then.
            TimeoutError: it does not say so in time, as there are others before.
        """
        if target:
            self._known_large.add(target)
        self._transfers.hold(transfer, len(body))
        work = partial(self._call_alone, environ_for(scope, body), until=transfer.deadline)
        answer = await self._transfers.carry_out(transfer, self._large, work)
        if len(answer.data) <= MEBIBYTE and scope["method"] == "GET":
            self._known_large.forget(target)
        return answer

    async def _refusal(self, scope: Scope, error: HTTPException) -> Answer:
        return await self._apart.run(partial(self._call_alone, environ_for(scope, b""), error))

    def _threads(self, scope: Scope, size: int) -> Threads:
        method, path = scope["method"], scope["path"]
        if size > MEBIBYTE or is_about_many(method, path, scope["query_string"]):
            return self._many
        if path.startswith((OPERATING, CONSOLE)):
            return self._operating
        return self._watching.get(path, self._one)

    def _call(self, environ: dict[str, Any], *, until: float) -> Answer | None:
        """Call the application, in a thread; `None` where that has to be the one for large documents."""
        try:
            with bounded(LARGE_BYTES):
                return self._call_alone(environ, until=until)
        except TakesMuchError as error:
            clear_frames(error.__traceback__)  # which hold what was read, and each other
            return None

    def _call_alone(
        self, environ: dict[str, Any], refusal: HTTPException | None = None, *, until: float = inf
    ) -> Answer:
        """Call the application, in a thread that may read any document; what that waits for ends then."""
        with ends_at(until):
            return call(self._application, environ, refusal)

    async def _hand_out(
        self, transfer: Transfer, scope: Scope, answer: Answer, receive: Receive, send: Send
    ) -> None:
        """Let the client take the answer; close the connection if it does not."""
        small = answer.rest is None and len(answer.data) <= SMALL
        try:
            try:
                self._transfers.hold(transfer, len(answer.data))
            except (RequestEntityTooLarge, ServiceUnavailable) as error:
                self._requests.refused(error)
                answer.close()
                answer, small = await self._refusal(scope, error), True
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            if small:
                await send({"type": "http.response.body", "body": answer.data, "more_body": False})
            else:
                await self._hand_out_pieces(transfer, answer, receive, send)
        finally:
            answer.close()

    async def _hand_out_pieces(self, transfer: Transfer, answer: Answer, receive: Receive, send: Send) -> None:
        self._transfers.renew(transfer)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            while not gone.done() and await self._hand_out_data(transfer, answer, send):
                if answer.rest is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                began = monotonic()
                transfer.at_work = True
                await self._many.run(answer.pull)
                transfer.at_work = False
                waited = monotonic() - began  # the client is not to blame
                transfer.deadline += waited
                transfer.moved_at += waited
        finally:
            gone.cancel()

    async def _hand_out_data(self, transfer: Transfer, answer: Answer, send: Send) -> bool:
        """Let the client take what is written; whether it does. If not, granian closes the incomplete answer."""
        data = memoryview(answer.data)
        for at in range(0, len(data), PIECE):
            piece = bytes(data[at : at + PIECE])
            message = {"type": "http.response.body", "body": piece, "more_body": True}
            try:
                await self._transfers.wait(transfer, send(message))
            except TimeoutError:
                log.debug("an answer was not taken in time: the connection is closed")
                return False
            transfer.moved(len(piece))
        return True


def _some_threads(count: int, name: str) -> Threads:
    """Threads of which some are left for what Redis has, however long MongoDB takes."""
    return Threads(count, name, partial(wait_in, Places.among(count)))


async def _disconnected(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _late() -> ServiceUnavailable:
    return ServiceUnavailable("the request was not carried out in time; nothing was written", retry_after=1)
