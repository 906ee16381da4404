"""Pages in browsers, which can send requests wherever their browser can."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from werkzeug.exceptions import Forbidden

from writebehind.access.gate import page_refusal


def refuse_others(environ: Mapping[str, Any], allowed: Container[str]) -> None:
    """See that no page of another origin changes anything, except of those that are allowed.

    Raises:
        Forbidden: one would.
    """
    page = (environ.get(name) for name in ("HTTP_HOST", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_REFERER"))
    refused = page_refusal(environ["REQUEST_METHOD"], *page, allowed=allowed)
    if refused is not None:
        raise Forbidden(refused.reason)


def is_of_a_page(environ: Mapping[str, Any]) -> bool:
    """Whether a page in a browser has sent a request, as far as the browser tells."""
    return "HTTP_ORIGIN" in environ or any(name.startswith("HTTP_SEC_FETCH_") for name in environ)


def forbid_frames(headers: Any) -> None:
    """Keep an answer out of other pages, which could have a person click in it without knowing."""
    headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    headers["X-Frame-Options"] = "DENY"
