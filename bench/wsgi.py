"""Requests that an application is called with as a server does it, without one."""

from __future__ import annotations

import io
from typing import Any

from writebehind.flask.framing import WHOLE


def ask(application: Any, method: str, path: str, body: bytes = b"", **more: str) -> None:
    """Send a request, and read its answer, which has to be a good one; `more` is of its environment."""
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        WHOLE: True,
        **more,
    }
    answer = application(environ, lambda status, *_: statuses.append(status))
    text = b"".join(answer)
    if close := getattr(answer, "close", None):  # not each has one: PEP 3333
        close()
    if not statuses[0].startswith("20"):
        raise SystemExit(f"{method} {path}: {statuses[0]}: {text.decode()}")
