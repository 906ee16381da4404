"""The routes of the console: a page and its files, the same for everybody. What it shows it asks of the API."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import orjson
from flask import Response, redirect, request
from werkzeug.exceptions import NotFound, Unauthorized
from werkzeug.wrappers import Response as BaseResponse

from writebehind.access.login import Login
from writebehind.flask.declarations import Routes
from writebehind.flask.guard import Guard, refusal

_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".toml": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
#: Nothing from other hosts, no script or style in the page itself, no text as HTML, no frame around it.
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    # A browser asks whether it has changed: files of two releases do not fit each other.
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    """A file of the page, as it is answered."""

    data: bytes
    content_type: str
    tag: str


def console(admin: Guard, login: Login | None = None) -> Routes:
    """The routes, behind the guard of the routes for operators.

    The guard is asked for the page. Its files are no secret, and are answered to all. Where it answers 401, the
    page has that status, and asks for a token: a browser has none to send when somebody opens an address. Where
    there is a login, it may ask the provider for one, and nobody else; it is told of the provider in the same
    answer as of that right, as another process may know of none.
    """
    routes = Routes("console", __name__)

    @routes.get("/console")
    def page() -> BaseResponse:
        """The page."""
        refused = refusal(admin)
        if refused is None:
            return _answer(*_page_with(login))
        if refused.status_code != Unauthorized.code:
            return refused
        answer = _answer(*_page_with(login), Unauthorized.code)
        for challenge in refused.headers.getlist("WWW-Authenticate"):
            answer.headers.add("WWW-Authenticate", challenge)
        return answer

    @routes.get("/console/")
    def with_slash() -> BaseResponse:
        """The way to the page, whatever stands before it."""
        return redirect("../console", 308)

    @routes.get("/console/<path:name>")
    def asset(name: str) -> Response:
        """A file that the page loads."""
        found = _page().get(name)
        if found is None:
            raise NotFound
        return _answer(found)

    return routes


def _page_with(login: Login | None) -> tuple[_File, str]:
    """The page and its policy: where people log in it has the provider, or `null` where that is not known."""
    file = _page()[_INDEX]
    if login is None:
        return file, _POLICY
    provider = login.provider()
    told = orjson.dumps(provider and provider.as_dict()).decode()
    meta = f'  <meta name="login" content="{escape(told)}">\n</head>'.encode()
    file = _file(file.data.replace(b"</head>", meta, 1), file.content_type)
    return file, f"{_POLICY}; connect-src 'self' {provider.origin}" if provider else _POLICY


def _answer(found: _File, policy: str = _POLICY, status: int = 200) -> Response:
    """A file of the page; 304 to a browser that has it."""
    headers = _HEADERS | {"Content-Security-Policy": policy}
    answer = Response(found.data, status, headers, content_type=found.content_type)
    if status == Unauthorized.code:
        return answer
    answer.set_etag(found.tag)
    return answer.make_conditional(request)  # type: ignore[return-value]  # it is the same


@cache
def _page() -> dict[str, _File]:
    """The files of the page by name, read once."""
    return dict(_files(files(__package__) / "page", ""))


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, _File]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _files(one, f"{prefix}{one.name}/")
            continue
        ending = one.name[one.name.rfind(".") :]
        if ending in _TYPES:
            yield prefix + one.name, _file(one.read_bytes(), _TYPES[ending])


def _file(data: bytes, content_type: str) -> _File:
    return _File(data, content_type, sha256(data).hexdigest()[:32])
