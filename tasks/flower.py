"""Flower behind the gate that the API has too, and for the same keys: `writebehind run flower`.

It takes Flower's own options. A browser asks for a password: that is a key of an operator, and the name does not
matter. Where Flower is told to ask for names and passwords of its own, or for a login elsewhere, no key is needed.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flower import command
from flower.app import Flower
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import ErrorHandler, OutputTransform, RequestHandler

from tasks.celery import runtime
from tasks.processes import run
from writebehind import Settings, connect
from writebehind.access.gate import Gate, is_same
from writebehind.access.hosts import is_loopback
from writebehind.access.operators import Operators
from writebehind.access.refused import Call
from writebehind.errors import ConfigurationError
from writebehind.logs.audit import begin_audit
from writebehind.monitoring.directory import directory_of
from writebehind.settings.urls import redacted

log = logging.getLogger(__name__)

#: What is kept of what Flower has seen, and how often it is written, besides at its end: so many tasks take 0.15 s
#: of CPU and 2 MB.
_KEPT_TASKS, _SAVE_MS = 10_000, 60_000

#: The variable without which Flower's JSON API answers nobody where Flower itself asks for no password.
_API = "FLOWER_UNAUTHENTICATED_API"
#: What tells that the process lives, and nothing else.
_PROBED = "/healthcheck"


class GatedFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower that serves this host only, no page of another origin, and operators."""

    def __init__(self, *, gate: Gate, operators: Operators | None, broker: str, **options: Any) -> None:
        """Build it as Flower's command does.

        Args:
            gate: what requests come through.
            operators: who may look; `None` where Flower asks for itself.
            broker: the URL of what it watches.
            options: Flower's own.
        """
        super().__init__(**options)
        self._gate, self._operators, self._broker = gate, operators, broker
        self.add_transform(_Unframed)

    def start(self) -> None:
        """Serve, and say so once it does."""
        self.io_loop.add_callback(log.info, "watches %s", redacted(self._broker), extra={"event": "started"})
        super().start()

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> Any:
        """Whoever answers a request: an error if the gate refuses it."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        method = request.method or ""
        # Flower can be told to let any page read its API: an origin is looked at whatever the method.
        foreign = origin is not None and not is_same(origin, host)
        site, referer = request.headers.get("Sec-Fetch-Site"), request.headers.get("Referer")
        refused = self._gate.refusal(method, host, origin, site, referer)
        status = refused.status if refused else HTTPStatus.FORBIDDEN if foreign else None
        if self._operators is not None:
            given = request.headers.get("Authorization", "")
            call = Call(method, quote(request.path, safe="/:%"), request.remote_ip)
            if status is not None:
                reason = refused.reason if refused else "a page of another origin"
                self._operators.refused_by_gate(given, call, reason, status)
            elif request.path != _PROBED:
                status = self._operators.refusal(given, call)
        if status == HTTPStatus.UNAUTHORIZED:
            return self.get_handler_delegate(request, _Asks)
        if status is None:
            return super().find_handler(request, **options)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": int(status)})


class _Asks(RequestHandler):
    """Has a browser ask for a name and a password."""

    def prepare(self) -> None:
        """Answer, whatever the method."""
        self.set_status(HTTPStatus.UNAUTHORIZED)
        self.set_header("WWW-Authenticate", 'Basic realm="writebehind: the password is a key", charset="UTF-8"')
        self.finish(
            "a key of an operator is needed: as password, with any name, or as Authorization: Bearer wb_…\n"
        )

    def check_xsrf_cookie(self) -> None:
        """Nothing is done that would need one."""


class _Unframed(OutputTransform):
    """Keeps its pages out of other pages, which could have a person click in them, or read them."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers.pop("Access-Control-Allow-Origin", None)  # Flower's own, for an API that asks nobody
        headers["X-Frame-Options"] = "DENY"
        headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


def main(arguments: Sequence[str]) -> None:
    """Run Flower's command with an application that has a gate.

    Raises:
        SystemExit: it has ended, or the port is taken.
    """
    command.Flower = partial(_build, runtime.settings)  # the command has no way to be told another
    arguments = [*_kept_in(runtime.settings.flower_db), *arguments]
    try:
        # Or Tornado, which reads options more than once, would put the root's level back to its own.
        kept = [] if any(one.startswith("--logging") for one in arguments) else ["--logging=none"]
        run(command.flower, [*arguments, *kept])
    except OSError as error:
        sys.exit(
            f"writebehind: Flower cannot listen: {error}: end who has its port, or set WRITEBEHIND_FLOWER_PORT"
        )


def _kept_in(place: Path | None) -> list[str]:
    """The options with which Flower keeps what it has seen in a file of its owner alone; none without a file.

    It holds what tasks were given, and is read by `pickle`.
    """
    if place is None:
        return []
    os.umask(0o077)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.parent).close()
    except OSError as error:  # else it would say so each minute, and as it ends
        sys.exit(f"writebehind: flower_db: nothing can be kept in {place.parent}: {error.strerror}")
    return [
        "--persistent=True",
        f"--db={place}",
        f"--state-save-interval={_SAVE_MS}",
        f"--max-tasks={_KEPT_TASKS}",
    ]


def _build(settings: Settings, *, options: Any, **more: Any) -> GatedFlower:
    begin_audit(settings.audit_log, "flower", redact=redacted)
    gate = Gate(options.address, settings.allowed_hosts)
    operators = None
    if not (options.basic_auth or options.auth):
        is_open = settings.insecure or is_loopback(options.address)
        pipeline = connect(settings)
        with suppress(OSError):  # there is no directory for temporary files
            pipeline.keep_in(settings.state_dir or directory_of(settings))
        operators = Operators(pipeline.keyring, is_open=is_open, page="Flower", instead="give Flower --basic-auth")
        try:
            operators.check()
        except ConfigurationError as error:
            sys.exit(f"writebehind: {error}")
        os.environ.setdefault(_API, "true")  # our gate has asked before
    return GatedFlower(gate=gate, operators=operators, broker=settings.broker, options=options, **more)
