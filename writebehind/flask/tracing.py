"""Spans of requests to the API, in an application that makes none itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from flask import Request, Response, after_this_request, request
from opentelemetry import trace

from writebehind.documents.large import TakesMuchError
from writebehind.flask.addresses import template
from writebehind.flask.problems import note, request_id
from writebehind.tracing import spans
from writebehind.tracing.span import NO_SPAN, NOT_SAMPLED, Span, get_current

#: Where a request has its span, in its environment, until it is over.
_SPAN: Final = "writebehind.span"
_PARENT: Final = (("HTTP_TRACEPARENT", "traceparent"), ("HTTP_TRACESTATE", "tracestate"))
_NO_PARENT: Final[dict[str, str]] = {}
_SERVER_ERRORS: Final = 500


def begin(now: Request) -> None:
    """Let a request be a span, where there is a tracer provider, unless it is one already; see `end`."""
    if trace._TRACER_PROVIDER is None:  # noqa: SLF001 - see `is_on`, which would be one call more
        return
    environ, rule = now.environ, now.url_rule
    parent = _NO_PARENT
    if "HTTP_TRACEPARENT" in environ:
        parent = {name: environ[variable] for variable, name in _PARENT if variable in environ}
    span = spans.request(now.method, now.scheme, parent, lambda: template(rule.rule if rule else ""))
    if span is not NO_SPAN:
        environ[_SPAN] = span.__enter__()
        if span:
            after_this_request(partial(_tell, span))


def end(error: BaseException | None) -> None:
    """End the span of the request that is over, if it has one."""
    if trace._TRACER_PROVIDER is None or get_current() is NOT_SAMPLED:  # noqa: SLF001 - as above
        return
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - costs less
    span: Span | None = now.environ.pop(_SPAN, None)
    if span is not None:
        if isinstance(error, TakesMuchError):  # in a thread that may read it
            span.set({"writebehind.begins_anew": True})
        span.__exit__(None if error is None else type(error), error, None)


def _tell(span: Span, response: Response) -> Response:
    status = response.status_code
    span.set({"http.response.status_code": status, "writebehind.request_id": request_id()})
    note(span.names())
    if status >= _SERVER_ERRORS:
        span.fail(str(status))
    return response
