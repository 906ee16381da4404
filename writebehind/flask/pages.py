"""Pages in browsers, which can send requests wherever their browser can."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from flask import Response
from werkzeug.exceptions import Forbidden

from writebehind.access.gate import page_refusal


def refuse_others(environ: Mapping[str, Any], allowed: Container[str]) -> None:
    """See that no page of another origin changes anything, except of those that are allowed.

    Raises:
        Forbidden: one would.
    """
    origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
    referer = environ.get("HTTP_REFERER")
    if origin is None and site is None and not referer:  # as programs do, for which it need not cost much
        return
    host = environ.get("HTTP_HOST")
    refused = page_refusal(environ["REQUEST_METHOD"], host, origin, site, referer, allowed=allowed)
    if refused is not None:
        raise Forbidden(refused.reason)


def is_of_a_page(environ: Mapping[str, Any]) -> bool:
    """Whether a page in a browser has sent a request, as far as the browser tells."""
    return "HTTP_ORIGIN" in environ or any(name.startswith("HTTP_SEC_FETCH_") for name in environ)


def keep_out_of_caches(response: Response) -> Response:
    """Let nobody keep what is for operators: keys, dead letters, and how things are just now."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def forbid_frames(headers: Any) -> None:
    """Keep an answer out of other pages, which could have a person click in it without knowing."""
    headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    headers["X-Frame-Options"] = "DENY"
