"""Pages in browsers, which can send requests wherever their browser can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_of_a_page(environ: Mapping[str, Any]) -> bool:
    """Whether a page in a browser has sent a request, as far as the browser tells."""
    return "HTTP_ORIGIN" in environ or any(name.startswith("HTTP_SEC_FETCH_") for name in environ)
