"""The answer of a WSGI application, which may not be written as a whole yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import HTTPException

from web.app import REFUSAL, ROUTE
from web.counting import NO_ROUTE
from web.environ import Headers, Scope, environ_of
from writebehind.errors import without_frames
from writebehind.flask.problems import NOTED, SPEND

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: How much of an answer is written at a time, bytes.
PIECE = 64 << 10


@dataclass(slots=True)
class Answer:
    """The application's answer; `rest` is the part that it has not written yet."""

    status: int
    headers: Headers
    data: bytes
    rest: Iterator[bytes] | None
    close: Callable[[], None]
    route: str

    def pull(self) -> None:
        """Have the application write another piece. It takes a thread, as the application may block."""
        parts = []
        size = 0
        for part in self.rest or ():
            parts.append(part)
            size += len(part)
            if size >= PIECE:
                break
        else:
            self.rest = None
        self.data = b"".join(parts)


def environ_for(scope: Scope, body: bytes) -> dict[str, Any]:
    """The environment of a request, with what the server has noted of it."""
    environ = environ_of(scope, body)
    for name in (NOTED, SPEND):
        if name in scope:
            environ[name] = scope[name]
    return environ


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers in ASGI's terms."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def call(application: Application, environ: dict[str, Any], refusal: HTTPException | None = None) -> Answer:
    """Have an application answer a request, or word its refusal; the answer has its first piece."""
    if refusal is not None:
        environ[REFUSAL] = refusal
    begun: list[tuple[int, Headers]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
        begun.append((int(status[:3]), encoded(headers)))

    try:
        written = application(environ, start_response)
    finally:
        if refusal is not None:
            without_frames(refusal)
    route = str(environ.get(ROUTE, NO_ROUTE))
    answer = Answer(*begun[0], b"", iter(written), getattr(written, "close", nothing), route)
    answer.pull()
    return answer


def nothing() -> None:
    """Close nothing: for an answer that has nothing to close."""
