"""Lines of the audit log: calls of operators, and refusals."""

from __future__ import annotations

from typing import Final

from flask import Response, request

from writebehind.access import refused
from writebehind.access.refused import Call, target_of
from writebehind.flask.problems import request_id
from writebehind.logs import audit

#: The ends of the names of routes for figures, which the console asks for again and again: they have nothing of a
#: document, a key or a letter.
_FIGURES: Final = (".admin.status.figures", ".admin.history.figures")


class Refusals:
    """Bounds how much others can have written down."""

    def __init__(self) -> None:
        """Nothing has been refused."""
        self._refusals = refused.Refusals()

    def note(self, reason: str, key: str | None, status: int) -> None:
        """Note that this request is refused."""
        if audit.is_on():
            self._refusals.note(_call(), reason, key, status)


def note_call(response: Response, key: str | None) -> None:
    """Note what an operator has done or looked at, but for figures, wherever the API is mounted."""
    if audit.is_on() and not (request.endpoint or "").endswith(_FIGURES):
        refused.note(_call(), key, response.status_code, {}, event="operator_call")


def _call() -> Call:
    target = target_of(request.path, request.query_string)
    return Call(request.method, target, request.remote_addr, request_id())
