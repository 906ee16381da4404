"""Spans of requests to the API, in an application that makes none itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from flask import Blueprint, Request, Response, after_this_request, request

from writebehind.documents.large import TakesMuchError
from writebehind.flask.addresses import template
from writebehind.flask.problems import note, request_id
from writebehind.tracing import spans
from writebehind.tracing.span import NO_SPAN, Span, is_on

#: Where a request has its span, in its environment, until it is over.
_SPAN: Final = "writebehind.span"
_PARENT: Final = (("HTTP_TRACEPARENT", "traceparent"), ("HTTP_TRACESTATE", "tracestate"))
_NO_PARENT: Final[dict[str, str]] = {}
_SERVER_ERRORS: Final = 500


def trace_requests(routes: Blueprint) -> None:
    """Let each request to these routes be a span, where there is a tracer provider, unless it is one already."""
    routes.before_request(_begin)
    routes.teardown_request(_end)


def _begin() -> None:
    if not is_on():
        return
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - once for all
    environ, rule = now.environ, now.url_rule
    parent = _NO_PARENT
    if "HTTP_TRACEPARENT" in environ:
        parent = {name: environ[variable] for variable, name in _PARENT if variable in environ}
    span = spans.request(now.method, now.scheme, parent, lambda: template(rule.rule if rule else ""))
    if span is not NO_SPAN:
        environ[_SPAN] = span.__enter__()
        if span:
            after_this_request(partial(_tell, span))


def _tell(span: Span, response: Response) -> Response:
    status = response.status_code
    span.set({"http.response.status_code": status, "writebehind.request_id": request_id()})
    note(span.names())
    if status >= _SERVER_ERRORS:
        span.fail(str(status))
    return response


def _end(error: BaseException | None) -> None:
    if not is_on():
        return
    span: Span | None = request.environ.pop(_SPAN, None)
    if span is not None:
        if isinstance(error, TakesMuchError):  # in a thread that may read it
            span.set({"writebehind.begins_anew": True})
        span.__exit__(None if error is None else type(error), error, None)
