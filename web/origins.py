"""The gate of `writebehind.access.gate` before the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from writebehind.access.gate import Gate


class MisdirectedRequest(HTTPException):
    """The request is for another host (RFC 9110, section 15.5.20)."""

    code = 421


#: A target in absolute form, which names a host (RFC 9112, section 3.2.2).
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/?#]*)", re.ASCII | re.IGNORECASE)
_ERRORS: dict[int, type[HTTPException]] = {400: BadRequest, 403: Forbidden, 421: MisdirectedRequest}


def check(gate: Gate, environ: Mapping[str, Any]) -> None:
    """See that a request is for us, and of nobody else's page.

    Raises:
        BadRequest: it does not say properly whom it is for.
        MisdirectedRequest: it is for another host.
        Forbidden: it is to change something, and a page of another origin has sent it.
    """
    host = _target_host(environ)
    if host is None:
        host = environ.get("HTTP_HOST", "")
    if not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        host = None  # probes of load balancers have none
    page = (environ.get(name) for name in ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_REFERER"))
    refused = gate.refusal(environ["REQUEST_METHOD"], host, *page)
    if refused is not None:
        raise _ERRORS[refused.status](refused.reason)


def _target_host(environ: Mapping[str, Any]) -> str | None:
    """The host in the target of a request, in whose place no `Host` may stand; `None` where it names none.

    Servers that tell the target call it so; granian does not.
    """
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or "/"
    if target.startswith("/"):
        return None
    absolute = _ABSOLUTE.match(target)
    return absolute["authority"] if absolute is not None else None
