"""Spans of requests to the API, in an application that makes none itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import random
from typing import Final

from flask import Request, Response, after_this_request, request
from opentelemetry import trace

from writebehind.documents.large import TakesMuchError
from writebehind.flask.addresses import template
from writebehind.flask.problems import NOTED, note, request_id
from writebehind.tracing import spans
from writebehind.tracing.span import DRAWS, NO_SPAN, NOT_SAMPLED, Span, get_current

#: Where a request has its span, in its environment, until it is over.
_SPAN: Final = "writebehind.span"
_PARENT: Final = (("HTTP_TRACEPARENT", "traceparent"), ("HTTP_TRACESTATE", "tracestate"))
_NO_PARENT: Final[dict[str, str]] = {}
_SERVER_ERRORS: Final = 500


def begin(now: Request) -> None:
    """Let a request be a span, unless it is one already; see `end`. There is a tracer provider."""
    if "HTTP_TRACEPARENT" in now.environ:
        environ = now.environ
        _enter(now, {name: environ[variable] for variable, name in _PARENT if variable in environ})
    elif get_current() is NOT_SAMPLED and (draw := DRAWS[trace._TRACER_PROVIDER]) is not None:  # noqa: SLF001
        if random() >= draw.ratio:  # noqa: S311 - no secret; as nearly all are, where few are sampled
            return
        draw.sample()
        _enter(now, _NO_PARENT, is_drawn=True)
    else:
        _enter(now, _NO_PARENT)


def end(error: BaseException | None) -> None:
    """End the span of the request that is over, if it has one."""
    if trace._TRACER_PROVIDER is None or get_current() is NOT_SAMPLED:  # noqa: SLF001 - see `is_on`
        return
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - costs less
    span: Span | None = now.environ.pop(_SPAN, None)
    if span is not None:
        if isinstance(error, TakesMuchError):  # in a thread that may read it
            span.set({"writebehind.begins_anew": True})
        span.__exit__(None if error is None else type(error), error, None)


def _enter(now: Request, parent: Mapping[str, str], *, is_drawn: bool = False) -> None:
    rule = now.url_rule
    route = lambda: template(rule.rule if rule else "")  # noqa: E731 - a few requests ask for it
    span = spans.request(now.method, now.scheme, parent, route, is_drawn=is_drawn)
    if span is not NO_SPAN:
        now.environ[_SPAN] = span.__enter__()
        if span:
            after_this_request(partial(_tell, span))


def _tell(span: Span, response: Response) -> Response:
    status = response.status_code
    span.set({"http.response.status_code": status, "writebehind.request_id": request_id()})
    if NOTED in request.environ:
        note(span.names())
    if status >= _SERVER_ERRORS:
        span.fail(str(status))
    return response
