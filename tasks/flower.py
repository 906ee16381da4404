"""Flower behind the gate that the API has too: `writebehind run flower`, with Flower's own options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from flower import command
from flower.app import Flower
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import ErrorHandler, OutputTransform

from tasks.celery import runtime
from tasks.processes import run
from writebehind import Settings
from writebehind.access.gate import Gate, is_same
from writebehind.settings.urls import redacted

log = logging.getLogger(__name__)


class GatedFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower that serves this host only, and no page of another origin."""

    def __init__(self, *, gate: Gate, broker: str, **options: Any) -> None:
        """Build it as Flower's command does, behind a gate; `broker` is the URL of what it watches."""
        super().__init__(**options)
        self._gate, self._broker = gate, broker
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
        status = refused.status if refused else 403 if foreign else None
        if status is None:
            return super().find_handler(request, **options)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": int(status)})


class _Unframed(OutputTransform):
    """Keeps its pages out of other pages, which could have a person click in them without knowing."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers["X-Frame-Options"] = "DENY"
        headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


def main(arguments: Sequence[str]) -> None:
    """Run Flower's command with an application that has a gate.

    Raises:
        SystemExit: it has ended, or the port is taken.
    """
    command.Flower = partial(_build, runtime.settings)  # the command has no way to be told another
    try:
        # Or Tornado, which reads options more than once, would put the root's level back to its own.
        kept = [] if any(one.startswith("--logging") for one in arguments) else ["--logging=none"]
        run(command.flower, [*arguments, *kept])
    except OSError as error:
        sys.exit(
            f"writebehind: Flower cannot listen: {error}: end who has its port, or set WRITEBEHIND_FLOWER_PORT"
        )


def _build(settings: Settings, *, options: Any, **more: Any) -> GatedFlower:
    gate = Gate(options.address, settings.allowed_hosts)
    return GatedFlower(gate=gate, broker=settings.broker, options=options, **more)
