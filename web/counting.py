"""Counts of requests: how many, which routes, how they ended, and what was refused before a route was asked."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

from werkzeug.exceptions import HTTPException

from writebehind.flask.addresses import template
from writebehind.tallies import families
from writebehind.tallies.meters import Meters, OneThreadsMeter
from writebehind.tallies.tallies import Tallies

#: How often the number of requests in progress is told at most, seconds.
TELL_EVERY_S: Final = 0.2
#: Methods that are counted by name; clients may send any.
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
#: The route of what is for none: never a path, of which clients may send any.
NO_ROUTE: Final = "(none)"
_OTHER_METHOD: Final = "(other)"
#: Reasons for a refusal, by its status.
_REASONS: Final = {408: "body-late", 413: "too-large", 503: "no-memory"}
MALFORMED, LATE, CROWDED = "malformed", "late", "crowded"


class Requests:
    """Counts the requests of a process, all by one event loop."""

    def __init__(self, tallies: Tallies) -> None:
        """Count in these tallies."""
        self._tallies = tallies
        self._times: Meters[tuple[str, str, int]] = Meters(self._time)
        self._in_progress = self._told = 0
        self._tells = False

    def begin(self) -> None:
        """Count a request that is being received."""
        self._in_progress += 1
        if not self._tells:
            self._tell_soon()

    def end(self) -> None:
        """Count it no more."""
        self._in_progress -= 1

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """Count an answer to a whole request, which was received at `began`, by `perf_counter`.

        `route` is Flask's rule.
        """
        known = method if method in _METHODS else _OTHER_METHOD
        self._times[known, route, status].observe(perf_counter() - began)

    def refused(self, reason: HTTPException | str) -> None:
        """Count a request that no route was asked for, or whose answer was not handed out."""
        if isinstance(reason, HTTPException):
            reason = _REASONS.get(reason.code or 0, MALFORMED)
        self._tallies.add(families.REFUSED, (reason,))

    def _time(self, of: tuple[str, str, int]) -> OneThreadsMeter:
        method, route, status = of
        return OneThreadsMeter(self._tallies, families.REQUESTS, (template(route), method, str(status)))

    def _tell_soon(self) -> None:
        """Tell how many are in progress once for all that begin and end meanwhile: each would pay for it."""
        self._tells = True
        asyncio.get_running_loop().call_later(TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        """Tell it, and again as long as there are any."""
        if self._in_progress != self._told:
            self._tallies.add(families.IN_PROGRESS, amount=self._in_progress - self._told)
            self._told = self._in_progress
        self._tells = False
        if self._told:
            self._tell_soon()
