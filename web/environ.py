"""A request as granian tells of it, ASGI, in WSGI's terms."""

from __future__ import annotations

import io
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from writebehind.flask.framing import WHOLE, check_coding

Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

#: Digits of a length that is read: one with more is above every limit all the same.
_MOST_DIGITS = 18

_ENVIRON = {
    WHOLE: True,
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "granian",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multiprocess": True,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
}
_NAMES = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


def announced(headers: Headers) -> int | None:
    """The length that the body is going to have, bytes; `None` if that shows at its end.

    Raises:
        HTTPException: as `check_coding`.
    """
    length = 0
    codings = []
    for name, value in headers:
        if name == b"content-length":
            # granian lets digits through alone, but so many that they are no `int`.
            length = int(value.lstrip(b"0")[:_MOST_DIGITS] or b"0")
        elif name == b"transfer-encoding":
            codings.append(value.decode("latin-1"))
    if not codings:
        return length
    check_coding(",".join(codings))  # granian has taken a length beside it away, and closes the connection
    return None


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of a request (PEP 3333)."""
    path: bytes = scope["raw_path"]
    if b"%" in path:
        path = unquote_to_bytes(path)
    server, client, version = scope["server"], scope["client"], scope["http_version"]
    environ = _ENVIRON | {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_PROTOCOL": "HTTP/1.0" if version == "1" else f"HTTP/{version}",
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue  # here `If_Match` would pass for If-Match, behind the back of whatever has checked that
        variable = _NAMES.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[variable] = f"{environ[variable]},{text}" if variable in environ else text
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
