"""Plain reads and writes of single documents, answered before Flask is asked.

Flask takes longer for a request than what it is about. So what is asked and answered as a matter of course is
answered here, by the functions that the routes call. All else goes on to Flask, which is the whole API: what has a
query, a condition or any header that is not listed here, what nobody lets in, and what fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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
from writebehind.errors import UnavailableError, UnreadableDocumentError
from writebehind.flask.access import Access
from writebehind.flask.addresses import DOCUMENT
from writebehind.flask.answers import read_headers
from writebehind.flask.bodies import check_holders
from writebehind.flask.framing import WHOLE
from writebehind.flask.idempotency import idempotency_key
from writebehind.flask.plain import Plain, carry_out, hand_on
from writebehind.flask.problems import NOTED, REQUEST_ID, SPEND, id_of, note_version
from writebehind.flask.representations import JSON, RELAXED, quoted
from writebehind.flask.routes.written import document_of, parts_of
from writebehind.hooks import NO_HOOKS
from writebehind.reading.read import Read
from writebehind.tracing.span import is_on

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Environ = dict[str, Any]
#: An answer: its status, its headers and its body.
Answer = tuple[int, list[tuple[str, str]], bytes]

#: What stands in the environment of a plain request: what the server puts there, and headers that change nothing,
#: or are looked at here.
_PLAIN: Final = frozenset(
    {
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT"),
        *("SERVER_PROTOCOL", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_PORT", "CONTENT_TYPE", "CONTENT_LENGTH"),
        *("wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors", "wsgi.input_terminated"),
        *("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", WHOLE, NOTED, SPEND),
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
        headers += (("Content-Length", str(len(body))), (REQUEST_ID, id_of(environ)), *self._more)
        environ[self._route] = DOCUMENT
        start_response(_STATUSES[status], headers)
        return [body]

    def _answer(self, environ: Environ) -> Answer | None:
        """The answer to a plain request, if it is one, and ends as most do."""
        if not environ.keys() <= _PLAIN or environ["QUERY_STRING"] or environ["SCRIPT_NAME"] or is_on():
            return None
        if WHOLE not in environ:  # of another server, which may leave reading and framing to the application
            return None
        method = environ["REQUEST_METHOD"]
        if method == "GET":
            return self._get(environ)
        return self._put(environ) if method == "PUT" else None

    def _get(self, environ: Environ) -> Answer | None:
        asked = self._asked(environ, Right.READ, self._read)
        if (
            asked is None
            or environ["CONTENT_LENGTH"] != "0"
            or "profile" in environ.get("HTTP_ACCEPT", "").lower()
        ):
            return None
        outcome = carry_out(asked, self._read_it)
        found: Read | None = outcome.result
        if found is None or not found.entry.exists:
            hand_on(environ, outcome)
            return None
        headers = read_headers(found)
        try:
            body = RELAXED.text(found.entry.body)
        except UnreadableDocumentError:
            hand_on(environ, outcome)
            return None
        headers |= {"ETag": quoted(found.entry.etag), "Content-Type": RELAXED.content_type}
        return HTTPStatus.OK, list(headers.items()), body

    def _put(self, environ: Environ) -> Answer | None:
        asked = self._asked(environ, Right.WRITE, self._written)
        if (
            asked is None
            or environ.get("CONTENT_TYPE") != JSON
            or int(environ["CONTENT_LENGTH"]) > self._most_bytes
        ):
            return None
        outcome = carry_out(asked, self._write_it)
        written: Written | None = outcome.result
        if written is None:
            hand_on(environ, outcome)
            return None
        note_version(environ, written.version)
        status, headers, body = parts_of(written, None, self._written[asked.collection].settings)
        return status, [*headers.items(), ("Content-Type", JSON)], body

    def _asked(self, environ: Environ, right: Right, collections: Mapping[str, Collection]) -> Plain | None:
        """The document that a request is about, if the request may be answered here."""
        found = _DOCUMENT.fullmatch(environ["PATH_INFO"])
        if found is None or found[1] not in collections or _is_watched():
            return None
        try:
            self._check(environ)
            if not self._access.grants(right, found[1], environ):
                return None
        except (HTTPException, UnavailableError):
            return None
        return Plain(environ, found[0], found[1], found[2])

    def _read_it(self, asked: Plain) -> Read:
        return self._read[asked.collection].read(asked.id)

    def _write_it(self, asked: Plain) -> Written:
        data = asked.environ["wsgi.input"].read()
        check_holders(data, self._most_bytes)
        key = idempotency_key(asked.environ, data)
        return self._written[asked.collection].put(asked.id, document_of(data), key=key)


def _is_routed(app: Flask, collection: str) -> bool:
    """Whether the paths below a collection are those of its documents: `receipts` has others there."""
    rule, _ = app.url_map.bind("").match(f"/v1/{collection}/x", "GET", return_rule=True)
    return rule.rule == DOCUMENT


def _is_watched() -> bool:
    """Whether anybody listens to Flask's signals."""
    return any(one.receivers for one in _SIGNALS)
