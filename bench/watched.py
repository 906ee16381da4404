"""Ways to watch requests, between which one process is switched: what one process does faster by chance meets all.

"Neither" has no call sites: they are taken out, so that what they cost while nobody looks shows too. What stays is
the block in which a write may fail, and one look whether there is a tracer provider: they cost nothing that could
be told (ADR 39).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from opentelemetry import trace

from web.counting import Requests
from web.server import create_server as create_watched
from writebehind.documents.ids import DocumentId
from writebehind.flask import tracing
from writebehind.reading.read import Read
from writebehind.reading.reader import Reader
from writebehind.tallies.meters import Meter
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans
from writebehind.tracing.span import NO_SPAN
from writebehind.writing import committing

#: The control is the same as the first.
NEITHER, METRICS, BOTH, CONTROL = WAYS = "neither", "metrics", "metrics, traces at 1 %", "control"
#: Of the service's processes: see `writebehind.tracing.export`.
VARIABLES = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
#: The path that switches, with a way's number at its end.
SWITCH = "/bench/"


class Switched:
    """The server of `writebehind run web`, and its way."""

    def __init__(self) -> None:
        """Make it as the settings say; the variables name an endpoint."""
        self._server: Any = create_watched()
        self._undone = ExitStack()
        logging.getLogger("writebehind").setLevel(logging.ERROR)

    def switch(self, way: str) -> None:
        """Watch this way from now on."""
        self._undone.close()
        if way is BOTH:
            if trace._TRACER_PROVIDER is None:
                raise RuntimeError("no variable names an endpoint")
            return
        self._undone.enter_context(patch.object(trace, "_TRACER_PROVIDER", None))
        if way is not METRICS:
            take_out_counting(self._undone)
            take_out_tracing(self._undone, self._server._application)

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer a request, or switch."""
        if not scope["path"].startswith(SWITCH):
            await self._server(scope, receive, send)
            return
        self.switch(WAYS[int(scope["path"][len(SWITCH) :])])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def create_server() -> Switched:
    """The same for granian."""
    return Switched()


def take_out_counting(stack: ExitStack) -> None:
    """Let nothing be counted."""
    for name in ("answered", "refused"):
        stack.enter_context(patch.object(Requests, name, _nothing))
    stack.enter_context(patch.object(Reader, "note", _only_seen))
    stack.enter_context(patch.object(Reader, "count_reads", _nothing))
    for counts, name in ((Tallies, "add"), (Tallies, "observe"), (Meter, "add"), (Meter, "observe")):
        stack.enter_context(patch.object(counts, name, _nothing))


def take_out_tracing(stack: ExitStack, app: Any) -> None:
    """Let nothing ask whether there is a tracer provider."""
    stack.enter_context(patch.object(type(app), "do_teardown_request", staticmethod(_over)))
    stack.enter_context(patch.object(tracing, "begin", _nothing))
    stack.enter_context(patch.object(committing, "may_begin", bool))
    for name in ("request", "commit", "load", "bulk_write", "listener_batch"):
        stack.enter_context(patch.object(spans, name, lambda *_: NO_SPAN))


def _only_seen(
    reader: Reader, read: Read, _collection: str, _began: float, seen: DocumentId | None = None
) -> None:
    """What a read is noted for besides counting: which documents are hot."""
    if seen is not None and read.entry.exists:
        reader._seen(seen.member)


def _over(_error: BaseException | None) -> None:
    pass


def _nothing(*_: Any, **__: Any) -> None:
    pass
