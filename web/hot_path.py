"""Plain reads and writes of single documents, answered before Flask is asked.

Flask takes longer for a request than what it is about. So what is asked and answered as a matter of course is
answered here, by the functions that the routes call. All else goes on to Flask, which is the whole API: what has a
query, a condition or any header that is not listed here, what nobody lets in, and what fails.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flask import (
    Flask,
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)
from werkzeug.exceptions import HTTPException

from writebehind import Collection, Pipeline, Written
from writebehind.access.rights import Right
from writebehind.deadline import NEVER_WAITS, WouldWaitError
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.patches import Document
from writebehind.errors import (
    RedisUnavailableError,
    UnavailableError,
    UnreadableDocumentError,
    without_frames,
)
from writebehind.flask.access import KEY, Access
from writebehind.flask.addresses import DOCUMENT
from writebehind.flask.answers import read_headers
from writebehind.flask.bodies import check_holders
from writebehind.flask.framing import WHOLE
from writebehind.flask.idempotency import idempotency_key
from writebehind.flask.plain import NOTHING_DONE, Outcome, Plain, carry_out, hand_on
from writebehind.flask.problems import NOTED, REQUEST_ID, SPEND, id_of, note_version
from writebehind.flask.representations import JSON, RELAXED, quoted
from writebehind.flask.routes.written import document_of, parts_of
from writebehind.hooks import NO_HOOKS
from writebehind.reading.read import Read
from writebehind.redis.lanes import Lanes
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.tracing.span import is_on

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Environ = dict[str, Any]
#: An answer: its status, its headers and its body.
Answer = tuple[int, list[tuple[str, str]], bytes]
#: Waits for a step of a request.
Wait = Callable[[Awaitable[Any]], Awaitable[Any]]

#: Methods of plain requests.
HERE: Final = frozenset({"GET", "PUT"})
#: Bytes of bodies that an event loop sees to: what is larger takes it so long that others would notice.
MOST_HERE: Final = 16 << 10

#: What stands in the environment of a plain request: what the server puts there, and headers that change nothing,
#: or are looked at here.
_PLAIN: Final = frozenset(
    {
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT"),
        *("SERVER_PROTOCOL", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_PORT", "CONTENT_TYPE", "CONTENT_LENGTH"),
        *("wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors", "wsgi.input_terminated"),
        *("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", WHOLE, NOTED, SPEND, KEY),
        *("HTTP_HOST", "HTTP_ACCEPT", "HTTP_AUTHORIZATION", "HTTP_X_REQUEST_ID", "HTTP_USER_AGENT"),
        *("HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE", "HTTP_CONNECTION", "HTTP_CACHE_CONTROL"),
        "HTTP_IDEMPOTENCY_KEY",
        *("HTTP_TRACEPARENT", "HTTP_TRACESTATE"),  # nobody looks at them where there are no traces
        *("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT"),
        *("HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP"),
    }
)
#: The path of a document whose id is printable ASCII, as nearly all are.
_DOCUMENT: Final = re.compile(r"/v1/([^/:]+)/([!-.0-~]+)")
_STATUSES: Final[dict[int, str]] = {status: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}
#: The signals that Flask sends about each request: whoever listens is to hear of all.
_SIGNALS: Final = (
    *(request_started, request_finished, request_tearing_down),
    *(appcontext_pushed, appcontext_popped, appcontext_tearing_down),
)


class HotPath:
    """A WSGI application before another one."""

    def __init__(
        self,
        app: Flask,
        pipeline: Pipeline,
        access: Access,
        *,
        check: Callable[[Mapping[str, Any]], None],
        more: Iterable[tuple[str, str]],
        route: str,
    ) -> None:
        """Stand before an application, to which all goes on that is not plain.

        Args:
            app: has all routes by now.
            pipeline: what they read from and write to.
            access: says whose requests may do that.
            check: sees that a request is for this host, or raises an HTTPException.
            more: headers of every answer.
            route: where the server is told which route answered, in the environment.
        """
        self.beneath: WSGIApplication = app.wsgi_app
        self._access = access
        self._check = check
        self._more = list(more)
        self._route = route
        self._most_bytes = pipeline.settings.max_document_bytes
        names = [one for one in pipeline.settings.collections if _is_routed(app, one)]
        self._read = {one: pipeline.collection(one) for one in names}
        # A hook is somebody else's function, which may ask Flask what the request is.
        self._written = {one: target for one, target in self._read.items() if pipeline.hooks.of(one) == NO_HOOKS}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or let it be answered."""
        answer = self._answer(environ)
        if answer is None:
            return self.beneath(environ, start_response)
        status, headers, body = answer
        start_response(_STATUSES[status], headers)
        return [body]

    async def answer_here(self, environ: Environ, lanes: Lanes, wait: Wait) -> Answer | None:
        """Answer a plain request that one round trip to Redis decides, in an event loop.

        `None` where it takes a thread, in which the application is called with the same environment.

        Args:
            environ: of the request, whose body can be read again.
            lanes: of the loop.
            wait: waits for Redis, as long as somebody waits for the answer.

        Raises:
            TimeoutError: nobody does any longer. A write may have happened.
        """
        try:
            with NEVER_WAITS:
                # First: to find whose a key is would have them read, where they are not known well enough.
                asked = self._asked(environ, MOST_HERE) if self._access.is_known(environ) else None
                if asked is None:
                    return None
                if not asked.is_read and not self._written[asked.collection].puts_by_trips():
                    return None
                outcome = carry_out(asked, self._trip_to_read if asked.is_read else self._trip_to_write)
        except WouldWaitError:
            _begin_anew(environ)
            return None
        if outcome.error is None:
            trip: RoundTrip[Any] | None = outcome.result
            under_way = None if trip is None else lanes.begin(trip)
            if trip is None or under_way is None:
                _begin_anew(environ)
                return None
            outcome = await _outcome(trip, wait(under_way))
            if outcome == NOTHING_DONE:
                _begin_anew(environ)
                return None
        return self._told(asked, outcome)

    def _answer(self, environ: Environ) -> Answer | None:
        """The answer to a plain request, if it is one, and ends as most do."""
        asked = self._asked(environ, self._most_bytes)
        if asked is None:
            return None
        return self._told(asked, carry_out(asked, self._read_it if asked.is_read else self._write_it))

    def _asked(self, environ: Environ, most_bytes: int) -> Plain | None:
        """The document that a request is about, if it is plain, and its body has so many bytes at most."""
        if not environ.keys() <= _PLAIN or environ["QUERY_STRING"] or environ["SCRIPT_NAME"] or is_on():
            return None
        if WHOLE not in environ:  # of another server, which may leave reading and framing to the application
            return None
        method, size = environ["REQUEST_METHOD"], environ["CONTENT_LENGTH"]
        if method == "GET":
            if size != "0" or "profile" in environ.get("HTTP_ACCEPT", "").lower():
                return None
            return self._permitted(environ, Right.READ, self._read)
        if method != "PUT" or environ.get("CONTENT_TYPE") != JSON or int(size) > most_bytes:
            return None
        return self._permitted(environ, Right.WRITE, self._written)

    def _permitted(self, environ: Environ, right: Right, collections: Mapping[str, Collection]) -> Plain | None:
        found = _DOCUMENT.fullmatch(environ["PATH_INFO"])
        if found is None or found[1] not in collections or _is_watched():
            return None
        try:
            self._check(environ)
            if not self._access.grants(right, found[1], environ):
                return None
        except (HTTPException, UnavailableError):
            return None
        return Plain(environ, found[0], found[1], found[2], right is Right.READ)

    def _told(self, asked: Plain, outcome: Outcome) -> Answer | None:
        """The answer that tells of an outcome; `None` where Flask has to, which takes the outcome over."""
        found = outcome.result
        answer = None
        if found is not None:
            answer = self._shown(found) if asked.is_read else self._noted(asked, found)
        if answer is None:
            hand_on(asked.environ, outcome)
            return None
        status, headers, body = answer
        headers += (("Content-Length", str(len(body))), (REQUEST_ID, id_of(asked.environ)), *self._more)
        asked.environ[self._route] = DOCUMENT
        return status, headers, body

    def _shown(self, found: Read) -> Answer | None:
        if not found.entry.exists:
            return None
        headers = read_headers(found)
        try:
            body = RELAXED.text(found.entry.body)
        except UnreadableDocumentError:
            return None
        headers |= {"ETag": quoted(found.entry.etag), "Content-Type": RELAXED.content_type}
        return HTTPStatus.OK, list(headers.items()), body

    def _noted(self, asked: Plain, written: Written) -> Answer:
        note_version(asked.environ, written.version)
        status, headers, body = parts_of(written, None, self._written[asked.collection].settings)
        return status, [*headers.items(), ("Content-Type", JSON)], body

    def _read_it(self, asked: Plain) -> Read:
        return self._read[asked.collection].read(asked.id)

    def _trip_to_read(self, asked: Plain) -> RoundTrip[Read] | None:
        return self._read[asked.collection].read_trip(asked.id, most_bytes=MOST_HERE)

    def _write_it(self, asked: Plain) -> Written:
        document, key = self._sent(asked)
        return self._written[asked.collection].put(asked.id, document, key=key)

    def _trip_to_write(self, asked: Plain) -> RoundTrip[Written] | None:
        document, key = self._sent(asked)
        return self._written[asked.collection].put_trip(asked.id, document, key=key)

    def _sent(self, asked: Plain) -> tuple[Document, IdempotencyKey | None]:
        data = asked.environ["wsgi.input"].read()
        check_holders(data, self._most_bytes)
        key = idempotency_key(asked.environ, data)
        return document_of(data), key


def _begin_anew(environ: Environ) -> None:
    """Let a thread answer a request, which reads its body again."""
    environ["wsgi.input"].seek(0)


async def _outcome(trip: RoundTrip[Any], answer: Awaitable[Any]) -> Outcome:
    """The outcome of a round trip; none where all of it is to be done anew, in a thread."""
    try:
        return Outcome(await answer)
    except UndecidedError as error:
        return Outcome(rest=error.rest)
    except RedisUnavailableError as error:
        return Outcome(rest=trip.lost and partial(trip.lost, without_frames(error)))
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001 - for the route
        return Outcome(error=error)


def _is_routed(app: Flask, collection: str) -> bool:
    """Whether the paths below a collection are those of its documents: `receipts` has others there."""
    rule, _ = app.url_map.bind("").match(f"/v1/{collection}/x", "GET", return_rule=True)
    return rule.rule == DOCUMENT


def _is_watched() -> bool:
    """Whether anybody listens to Flask's signals."""
    for one in _SIGNALS:  # `any` takes twice as long, of each request  # noqa: SIM110
        if one.receivers:
            return True
    return False
