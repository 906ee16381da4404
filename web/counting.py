"""Counts of requests: how many, which routes, how they ended, and what was refused before a route was asked."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from werkzeug.exceptions import HTTPException

from writebehind.flask.addresses import template
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

#: Methods that are counted by name; clients may send any.
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
#: The route of what is for none: never a path, of which clients may send any.
NO_ROUTE: Final = "(none)"
_OTHER_METHOD: Final = "(other)"
#: Reasons for a refusal, by its status.
_REASONS: Final = {408: "body-late", 413: "too-large", 503: "no-memory"}
MALFORMED, LATE, CROWDED = "malformed", "late", "crowded"


class Requests:
    """Counts the requests of a process."""

    def __init__(self, tallies: Tallies) -> None:
        """Count in these tallies."""
        self._tallies = tallies

    def begin(self) -> None:
        """Count a request that is being received."""
        self._tallies.add(families.IN_PROGRESS)

    def end(self) -> None:
        """Count it no more."""
        self._tallies.add(families.IN_PROGRESS, amount=-1)

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """Count an answer to a whole request, which was received at `began`, by `perf_counter`.

        `route` is Flask's rule.
        """
        known = method if method in _METHODS else _OTHER_METHOD
        self._tallies.observe(families.REQUESTS, (template(route), known, str(status)), perf_counter() - began)

    def refused(self, reason: HTTPException | str) -> None:
        """Count a request that no route was asked for, or whose answer was not handed out."""
        if isinstance(reason, HTTPException):
            reason = _REASONS.get(reason.code or 0, MALFORMED)
        self._tallies.add(families.REFUSED, (reason,))
