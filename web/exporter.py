"""Show figures: to Prometheus those of this host and of the installation, to the console those of the last hour.

`writebehind run exporter` is a process of its own: a scrape takes time that no request of the API should wait for,
and hosts that only have workers have an address as well. It is served by TLS, and to operators, as the API's is.
"""

from __future__ import annotations

import errno
import io
import logging
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from web.sockets import allow_connections, end_if_taken
from web.tls import STRICT, context
from writebehind import Pipeline, Settings, connect, load_settings
from writebehind.access.gate import Gate
from writebehind.access.operators import Operators
from writebehind.access.refused import Call, target_of
from writebehind.celery.depths import QueueDepths
from writebehind.errors import ConfigurationError
from writebehind.logs.audit import begin_audit
from writebehind.logs.events import FAULT
from writebehind.logs.states import StateLog
from writebehind.monitoring.directory import share_counts
from writebehind.monitoring.page import Page
from writebehind.monitoring.reads import reads_by_source
from writebehind.monitoring.watchers import Watch, Watchers
from writebehind.settings.urls import redacted
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: How long a client may take for the handshake and the head of a request, and how long to take the page, seconds.
PATIENCE_S = 10.0
#: The longest head of a request, bytes.
MOST_HEAD_BYTES = 16 << 10
#: Connections that are served at a time, each in a thread; further ones wait in the system's backlog.
MOST_CONNECTIONS = 64
#: Where others wait, those are cut off that have not sent their request by then, seconds; a handshake takes two
#: ways there and back more.
HURRY_S, HURRY_TLS_S = 0.5, 1.5
#: Until somebody who waits is looked at again, seconds.
_PAUSE_S = 0.01
#: The system has no room for a connection: it would say so at once, again and again.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TOO_LONG = b"HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n"
_PLAIN = "text/plain; charset=utf-8"
#: A part of a page that TLS takes at a time, bytes: a record.
_RECORD = 16 << 10
_REFUSED = {
    HTTPStatus.UNAUTHORIZED: "send the key of an operator: Authorization: Bearer wb_…",
    HTTPStatus.FORBIDDEN: "the key does not grant admin",
    HTTPStatus.SERVICE_UNAVAILABLE: "keys are not known yet: Redis, or the issuer of tokens, does not answer",
}
_STRICT = (STRICT[0].decode(), STRICT[1].decode())
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="writebehind metrics"')

Start = Callable[[str, list[tuple[str, str]]], Any]


class Exporter:
    """The WSGI application: `/metrics`, and `/healthz`."""

    def __init__(self, page: Page, gate: Gate, operators: Operators | None, *, is_secure: bool = False) -> None:
        """Serve a page to whom the gate lets through, and of these to operators; `None` for to all.

        Where that is by TLS (`is_secure`), browsers are told to come by nothing else.
        """
        self._strict = [_STRICT] if is_secure else []
        self._page = page
        self._gate = gate
        self._operators = operators

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer a request."""
        try:
            status, content_type, body = self._answer(environ)
        except Exception:
            log.exception("the figures cannot be shown", extra=FAULT)
            status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b"the log says why\n"
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            *self._strict,
        ]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append(_CHALLENGE)
        start_response(f"{status.value} {status.phrase}", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: dict[str, Any]) -> tuple[HTTPStatus, str, bytes]:
        method = environ["REQUEST_METHOD"]
        refused = self._gate.refusal(
            method,
            environ.get("HTTP_HOST", ""),
            environ.get("HTTP_ORIGIN"),
            environ.get("HTTP_SEC_FETCH_SITE"),
            environ.get("HTTP_REFERER"),
        )
        if refused:
            if self._operators is not None:
                given = environ.get("HTTP_AUTHORIZATION", "")
                self._operators.refused_by_gate(given, _call(environ), refused.reason, refused.status)
            return refused.status, _PLAIN, f"{refused.reason}\n".encode()
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, b"only GET\n"
        match environ["PATH_INFO"]:
            case "/metrics":
                if (status := self._unauthorised(environ)) is not None:
                    return status, _PLAIN, f"{_REFUSED[status]}\n".encode()
                body, content_type = self._page.render(environ.get("HTTP_ACCEPT", ""))
                return HTTPStatus.OK, content_type, body
            case "/healthz":
                return HTTPStatus.OK, _PLAIN, b"ok\n"
        return HTTPStatus.NOT_FOUND, _PLAIN, b"the figures are at /metrics\n"

    def _unauthorised(self, environ: dict[str, Any]) -> HTTPStatus | None:
        if self._operators is None:
            return None
        return self._operators.refusal(environ.get("HTTP_AUTHORIZATION", ""), _call(environ))


def _call(environ: dict[str, Any]) -> Call:
    """A request for the audit log."""
    return Call(environ["REQUEST_METHOD"], target_of(environ["PATH_INFO"]), environ.get("REMOTE_ADDR"))


class _Secure(ssl.SSLSocket):
    """A connection by TLS that has one time limit for all that is sent at once, as one without TLS has."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it.

        Raises:
            TimeoutError: the client has taken too long.
        """
        limit = self.gettimeout()
        ends = None if limit is None else time.monotonic() + limit
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                if ends is not None:
                    if (left := ends - time.monotonic()) <= 0:
                        raise TimeoutError
                    self.settimeout(left)
                sent += self.send(view[sent : sent + _RECORD], flags)
        self.settimeout(limit)


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S
    server: Server

    def handle(self) -> None:
        """Answer one request, once its head is there: `http.server` itself would hold 6 MiB of it, and for ever.

        Raises:
            TimeoutError: the client has taken too long.
            ssl.SSLError: it does not speak TLS where it should, or has no certificate that is asked for.
        """
        ends = time.monotonic() + self.timeout
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(self.timeout)
            self.request.do_handshake()  # within its time limit, however slowly bytes come
        head = self._head(ends)
        self.server.has_asked(self.request)
        if len(head) < MOST_HEAD_BYTES:
            self.rfile = io.BufferedReader(io.BytesIO(head))
            super().handle()
        else:
            self.request.sendall(_TOO_LONG)

    def _head(self, ends: float) -> bytes:
        head = b""
        while len(head) < MOST_HEAD_BYTES and b"\r\n\r\n" not in head:
            self.request.settimeout(max(_PAUSE_S, ends - time.monotonic()))
            part = self.request.recv(MOST_HEAD_BYTES - len(head))
            if not part:
                break
            head += part
            if time.monotonic() > ends:
                raise TimeoutError
        self.request.settimeout(self.timeout)
        return head

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Scrapes come every few seconds: none is logged."""


@dataclass(slots=True, eq=False)
class _Connection:
    """One that is open, and the time by which its client is to have asked, if others wait."""

    socket: socket.socket
    asks_by: float


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own. Where there are too many, others wait until one has ended.

    Nobody is cut off who has asked. A request is one packet, so that whoever has not asked for a while is slow: he
    makes room for others.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, host: str, port: int, application: Exporter, tls: ssl.SSLContext | None = None) -> None:
        """Listen, by TLS where there is a context for it; `serve_forever` serves."""
        self._tls = tls
        if tls is not None:
            tls.sslsocket_class = _Secure
        if ":" in host:
            self.address_family = socket.AF_INET6
        #: By the ids of their sockets, in their order.
        self._open: dict[int, _Connection] = {}
        self._room = StateLog(log, "exporter_no_room", "exporter_room")
        super().__init__((host, port), _Handler)
        self.set_app(application)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, if there is room for it. Called by one thread, again and again while one waits.

        Raises:
            OSError: there is none.
        """
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if len(self._open) >= min(MOST_CONNECTIONS, files // 2):
            self._cut_one_off()
            time.sleep(_PAUSE_S)
            raise BlockingIOError(errno.EAGAIN, "as many as may be are served")
        try:
            accepted, address = super().get_request()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._room.begin(f"there is no room for a connection, which waits: {error}")
                time.sleep(10 * _PAUSE_S)
            raise
        self._room.end("there is room for connections again")
        return self._secured(accepted), address

    def _secured(self, accepted: socket.socket) -> socket.socket:
        """A connection that speaks TLS, where it has to: its handshake is for the thread that serves it.

        Raises:
            OSError: the client has gone away.
        """
        if self._tls is None:
            return accepted
        try:
            return self._tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        except OSError:
            accepted.close()
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to serve a connection."""
        hurry_s = HURRY_S if self._tls is None else HURRY_TLS_S
        self._open[id(request)] = _Connection(request, time.monotonic() + hurry_s)
        super().process_request(request, client_address)

    def has_asked(self, request: Any) -> None:
        """Note that a client has sent its request, and is not to be cut off."""
        self._open[id(request)].asks_by = inf

    def _cut_one_off(self) -> None:
        """End the oldest connection whose client has not asked in time."""
        for one in list(self._open.values()):
            if time.monotonic() > one.asks_by:
                one.asks_by = inf
                with suppress(OSError):  # it has ended by itself
                    # As of one without TLS: its thread still needs what TLS has of it.
                    socket.socket.shutdown(one.socket, socket.SHUT_RDWR)
                return

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave it to a line: clients go away, or are cut off."""
        del request
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.debug("a client has gone away: %s", error)
        else:
            log.error("a request of %s was not answered", client_address[0], exc_info=error)

    def server_bind(self) -> None:
        """Bind, and ask no name server for this host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


def main(arguments: Sequence[str] = ()) -> None:
    """Serve until a signal comes.

    Raises:
        SystemExit: a setting is wrong, the port is taken, or there are arguments, of which it has none.
    """
    if arguments:
        sys.exit(f"writebehind: the exporter takes no arguments, but settings: {' '.join(arguments)}")
    try:
        settings = share_counts(load_settings())
        begin_audit(settings.audit_log, "exporter", redact=redacted)
        tls = context(settings)
        end_if_taken(settings.exporter_port, settings.host, "WRITEBEHIND_EXPORTER_PORT")
        allow_connections(MOST_CONNECTIONS)
        with connect(_apart(settings)) as pipeline:
            if (directory := settings.state_dir or settings.metrics_dir) is not None:
                pipeline.keep_in(directory)
            gate = Gate(settings.host, settings.allowed_hosts)
            tallies = Tallies(settings.metrics_dir, apart=pipeline.tallies.apart)
            watches = _watches(pipeline, tallies)
            exporter = Exporter(Page(pipeline, tallies), gate, operators_of(pipeline), is_secure=tls is not None)
            with (
                Server(settings.host, settings.exporter_port, exporter, tls) as server,
                Watchers(watches),
            ):
                log.info(
                    "shows figures on %s:%d", settings.host, settings.exporter_port, extra={"event": "started"}
                )
                server.serve_forever()
    except ConfigurationError as error:
        sys.exit(f"writebehind: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def operators_of(pipeline: Pipeline) -> Operators | None:
    """Those who may see the figures; `None` for all.

    Raises:
        ConfigurationError: nobody could, or everybody beyond this machine, and the settings do not say so.
    """
    if pipeline.settings.metrics_open:
        return None
    operators = Operators(
        pipeline.keyring,
        is_open=pipeline.settings.is_open,
        page="the exporter",
        instead="set WRITEBEHIND_METRICS_OPEN=true to show its figures to all",
    )
    operators.check()
    return operators


def _apart(settings: Settings) -> Settings:
    """The settings of who watches: its reads count with nobody's, and make no document hot."""
    return settings.model_copy(update={"metrics_dir": None, "hot_samples": 0})


def _watches(pipeline: Pipeline, tallies: Tallies) -> dict[str, Watch]:
    """The watches of an exporter; of several exporters of an installation one does each."""
    depths = QueueDepths(pipeline.settings)
    recorder = pipeline.recorder(
        figures_of_this_host=lambda: reads_by_source(tallies), depths=depths, close_depths=depths.close
    )
    watches: dict[str, Watch] = {"history": recorder.run}
    if pipeline.settings.consistency_cpu_percent:
        watches["consistency"] = pipeline.observer().run
    return watches


if __name__ == "__main__":
    main()
