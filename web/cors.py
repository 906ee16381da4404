"""Pages of other origins that may use the API (Fetch standard, "CORS protocol"), by Flask-CORS."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

from flask import Flask, Response, request
from flask_cors import CORS

Headers = list[tuple[bytes, bytes]]

#: What pages may use: documents, and their description. What is for operators is for nobody else's page.
_SHARED = (r"/v1/.*", r"/openapi\.json")
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
#: Headers that requests may have beyond the ones that any page may send.
_ASKED = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Traceparent",
    "Tracestate",
    "X-Request-Id",
)
#: Headers of answers that a page may read.
_ANSWERED = (
    "Allow",
    "Cache-Status",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)
#: For how long a browser need not ask again, seconds. Chromium keeps an answer for two hours at most.
_MAX_AGE_S = 600


def share(app: Flask, origins: Sequence[str]) -> None:
    """Let pages of these origins read and write documents; without any, no answer has a header more.

    Cookies are never asked for, as the API knows none: a page has a key, and sends it.
    """
    if not origins:
        return
    CORS(
        app,
        resources=list(_SHARED),
        origins=[re.compile(rf"{re.escape(one)}\Z") for one in origins],  # or it would take any case
        methods=list(_METHODS),
        allow_headers=list(_ASKED),
        expose_headers=list(_ANSWERED),
        max_age=_MAX_AGE_S,
        always_send=False,
    )

    @app.after_request
    def tell_caches(response: Response) -> Response:
        """Let no cache give the answer for one origin to another; of a single one Flask-CORS does not say so."""
        if request.path.startswith("/v1/"):
            response.vary.add("Origin")
        return response


def is_preflight(method: str, given: Iterable[tuple[bytes, bytes]], origins: Container[str]) -> bool:
    """Whether a request, by its method and headers, asks for a browser what a page of these origins may send."""
    if method != "OPTIONS":
        return False
    asked = dict(given)
    return b"access-control-request-method" in asked and asked.get(b"origin", b"").decode("latin-1") in origins


def shared(given: Iterable[tuple[bytes, bytes]], origins: Container[str]) -> Headers:
    """Headers that let a page read an answer given before the application is asked, by those of the request."""
    origin = next((value.decode("latin-1") for name, value in given if name == b"origin"), "")
    if origin not in origins:
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", ", ".join(_ANSWERED).encode()),
        (b"vary", b"Origin"),
    ]
