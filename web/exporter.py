"""Show figures: to Prometheus those of this host and of the installation, to the console those of the last hour.

`writebehind run exporter` is a process of its own: a scrape takes time that no request of the API should wait for,
and hosts that only have workers have an address as well.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from web.sockets import end_if_taken
from writebehind import Pipeline, Settings, connect, load_settings
from writebehind.access.gate import Gate
from writebehind.celery.depths import QueueDepths
from writebehind.errors import ConfigurationError
from writebehind.logs.events import FAULT
from writebehind.monitoring.directory import share_counts
from writebehind.monitoring.page import Page
from writebehind.monitoring.reads import reads_by_source
from writebehind.monitoring.watchers import Watch, Watchers
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: How long a client may take to send a request or to take the page, seconds.
PATIENCE_S = 10.0
#: Connections from which the oldest are cut off; threads are twice as many at most.
MOST_CONNECTIONS = 64
_PLAIN = "text/plain; charset=utf-8"

Start = Callable[[str, list[tuple[str, str]]], Any]


class Exporter:
    """The WSGI application: `/metrics`, and `/healthz`."""

    def __init__(self, page: Page, gate: Gate) -> None:
        """Serve a page to whom the gate lets through."""
        self._page = page
        self._gate = gate

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
        ]
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
            return refused.status, _PLAIN, f"{refused.reason}\n".encode()
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, b"only GET\n"
        match environ["PATH_INFO"]:
            case "/metrics":
                body, content_type = self._page.render(environ.get("HTTP_ACCEPT", ""))
                return HTTPStatus.OK, content_type, body
            case "/healthz":
                return HTTPStatus.OK, _PLAIN, b"ok\n"
        return HTTPStatus.NOT_FOUND, _PLAIN, b"the figures are at /metrics\n"


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Scrapes come every few seconds: none is logged."""


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own; where there are too many, the oldest ones are cut off.

    A scrape takes milliseconds, so that whoever is old is slow.
    """

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, application: Exporter) -> None:
        """Listen; `serve_forever` serves."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._open: dict[int, socket.socket] = {}
        super().__init__((host, port), _Handler)
        self.set_app(application)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to serve a connection, and cut the oldest off where there are too many. Called by one thread."""
        if len(self._open) >= 2 * MOST_CONNECTIONS:  # those that were cut off wait for the page
            self.close_request(request)
            return
        self._open[id(request)] = request
        for one in list(self._open.values())[:-MOST_CONNECTIONS]:
            with suppress(OSError):  # it has ended by itself
                one.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

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
        end_if_taken(settings.exporter_port, settings.host, "WRITEBEHIND_EXPORTER_PORT")
        with connect(_apart(settings)) as pipeline:
            if settings.metrics_dir is not None:
                pipeline.last_known.keep_in(settings.metrics_dir)
            gate = Gate(settings.host, settings.allowed_hosts)
            tallies = Tallies(settings.metrics_dir, apart=pipeline.tallies.apart)
            watches = _watches(pipeline, tallies)
            exporter = Exporter(Page(pipeline, tallies), gate)
            with Server(settings.host, settings.exporter_port, exporter) as server, Watchers(watches):
                log.info(
                    "shows figures on %s:%d", settings.host, settings.exporter_port, extra={"event": "started"}
                )
                server.serve_forever()
    except ConfigurationError as error:
        sys.exit(f"writebehind: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


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
