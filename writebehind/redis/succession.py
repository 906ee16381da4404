"""Succession of primaries: which of those that a process meets is the latest one.

A primary that is cut off goes on to call itself one, and somebody may name it after the one that has its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

#: A former primary that is met again for so long, and the latest one never, is taken for the latest one, seconds.
FORMER_S = 5.0


class Term(NamedTuple):
    """Term of a primary.

    Attributes:
        id: its replication id, a new one after each failover; '' where that is not known.
        after: that of the primary whose place it has taken; '' where it has not, or that is not known.
        met: to be called where it is new, once no connection of before is used any more that leads elsewhere.
    """

    id: str = ""
    after: str = ""
    met: Callable[[], object] | None = None


class Succession:
    """Terms of one server's primaries, as they are met.

    Attributes:
        latest: the id of the latest term; '' where none is known.
        since: when that was met first, by the steady clock.
    """

    def __init__(self) -> None:
        """Know none yet."""
        self.latest, self.since = "", 0.0
        self._former: set[str] = set()
        #: Whose place each term has taken; and since when former ones are met while the latest is not.
        self._after: dict[str, str] = {}
        self._claims: dict[str, float] = {}

    def is_latest(self, term: Term) -> bool:
        """Note that a primary was met; whether no other one has its place, as far as is known."""
        self._after[term.id] = term.after
        if term.id == self.latest:
            self._claims.clear()
            return True
        if self._succeeds(self.latest, term.id):  # met after the new one, as where a Sentinel has not heard yet
            return False
        now = time.monotonic()
        if term.id in self._former and not self._succeeds(term.id, self.latest):
            # Neither says anything of the other. One that is named by mistake is not named all the time.
            if now - self._claims.setdefault(term.id, now) < FORMER_S:
                return False
            self._former.discard(term.id)
        if self.latest:
            self._former.add(self.latest)
        self._claims.clear()
        self.latest, self.since = term.id, now
        return True

    def _succeeds(self, later: str, earlier: str) -> bool:
        """Whether a term is known to have come after another one, be it with others in between."""
        for _ in range(len(self._after)):
            later = self._after.get(later, "")
            if later == earlier:
                return bool(later)
        return False
