"""Counts of requests: how many, which routes, how they ended, and what was refused before a route was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

from werkzeug.exceptions import HTTPException

from writebehind.flask.addresses import template
from writebehind.tallies import families
from writebehind.tallies.meters import Meters, OneThreadsMeter
from writebehind.tallies.tallies import Tallies

#: How often the number of requests in progress is told, seconds.
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
        self._told = 0

    def tell(self, in_progress: Callable[[], int]) -> None:
        """Tell how many requests are in progress, now and again and again: to count each would cost it more."""
        number = in_progress()
        if number != self._told:
            self._tallies.add(families.IN_PROGRESS, amount=number - self._told)
            self._told = number
        asyncio.get_running_loop().call_later(TELL_EVERY_S, self.tell, in_progress)

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """Count an answer to a whole request, which was received at `began`, by `perf_counter`.

        `route` is Flask's rule.
        """
        if method not in _METHODS:
            method = _OTHER_METHOD
        self._times[method, route, status].observe(perf_counter() - began)

    def refused(self, reason: HTTPException | str) -> None:
        """Count a request that no route was asked for, or whose answer was not handed out."""
        if isinstance(reason, HTTPException):
            reason = _REASONS.get(reason.code or 0, MALFORMED)
        self._tallies.add(families.REFUSED, (reason,))

    def _time(self, of: tuple[str, str, int]) -> OneThreadsMeter:
        method, route, status = of
        return OneThreadsMeter(self._tallies, families.REQUESTS, (template(route), method, str(status)))
