"""Refusals in the audit log: so many in a second, as anybody may send anything."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import quote

from writebehind.allowance import Allowance
from writebehind.logs import audit

#: Refusals that a process writes down in a second. More are counted.
MOST_REFUSALS: Final = 50
#: So many characters of a target are noted.
MOST_SHOWN: Final = 500


class Call(NamedTuple):
    """A request, as the audit log has it.

    Attributes:
        action: its method.
        target: its path and query, quoted.
        client: its address, if that is known.
        request_id: its name, if it has one.
    """

    action: str
    target: str
    client: str | None = None
    request_id: str | None = None


def target_of(path: str, query: bytes = b"") -> str:
    """The target of a request as it is noted: its path, which is unquoted, and its query as it came."""
    shown = quote(query, safe="=&%/:")
    return quote(path, safe="/:") + (f"?{shown}" if shown else "")


class Refusals:
    """Bounds how much others can have written down."""

    def __init__(self) -> None:
        """Nothing has been refused."""
        self._allowed = Allowance(MOST_REFUSALS)
        self._omitted = 0

    def note(self, call: Call, reason: str, key: str | None, status: int) -> None:
        """Note that a request is refused, with which status; `key` is the id of the key that it has, if any."""
        if not audit.is_on():
            return
        if not self._allowed.take():
            self._omitted += 1
            return
        more: dict[str, Any] = {"reason": reason}
        if self._omitted:
            more["omitted"], self._omitted = self._omitted, 0
        note(call, key, status, more, event="access_refused")


def note(call: Call, key: str | None, status: int, more: dict[str, Any], *, event: str) -> None:
    """Write a line about a request, with what it came to."""
    target = call.target[:MOST_SHOWN]
    fields = {
        "key": key,
        "action": call.action,
        "target": target,
        "outcome": status,
        "request_id": call.request_id,
        "client": call.client,
    }
    audit.note(event, f"{call.action} {target}: {status}", fields | more)
