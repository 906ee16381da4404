"""Lines of the audit log: calls of operators, and refusals."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote

from flask import Response, request

from writebehind.flask.problems import request_id
from writebehind.logs import audit

#: Figures, which the console asks for again and again: nothing of a document, a key or a letter.
_FIGURES: Final = frozenset({"/admin/status", "/admin/history"})
#: Refusals that a process writes down in a second. Anybody may send anything: more are counted.
MOST_REFUSALS: Final = 50
#: So many characters of a target are noted.
_MOST_SHOWN: Final = 500


class Refusals:
    """Bounds how much others can have written down."""

    def __init__(self) -> None:
        """Nothing has been refused."""
        self._second = 0
        self._left = MOST_REFUSALS
        self._omitted = 0

    def note(self, reason: str, key: str | None, status: int) -> None:
        """Note that this request is refused."""
        if not audit.is_on():
            return
        if (second := int(time.monotonic())) != self._second:
            self._second, self._left = second, MOST_REFUSALS
        if self._left <= 0:
            self._omitted += 1
            return
        self._left -= 1
        more: dict[str, Any] = {"reason": reason}
        if self._omitted:
            more["omitted"], self._omitted = self._omitted, 0
        _note(key, status, more, event="access_refused")


def note_call(response: Response, key: str | None) -> None:
    """Note what an operator has done or looked at, but for figures."""
    if audit.is_on() and request.path not in _FIGURES:
        _note(key, response.status_code, {}, event="operator_call")


def _note(key: str | None, status: int, more: dict[str, Any], *, event: str) -> None:
    query = quote(request.query_string, safe="=&%/:")
    target = quote(request.path, safe="/:") + (f"?{query}" if query else "")
    fields = {
        "key": key,
        "action": request.method,
        "target": target[:_MOST_SHOWN],
        "outcome": status,
        "request_id": request_id(),
        "client": request.remote_addr,
    }
    audit.note(event, f"{request.method} {target[:_MOST_SHOWN]}: {status}", fields | more)
