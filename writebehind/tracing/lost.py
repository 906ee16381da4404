"""Spans that no collector gets: counted by the reason."""

from __future__ import annotations

from collections import Counter
from typing import Final

from writebehind import forks
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

#: Reasons: the collector did not take a batch, more spans waited than may, the process ended before they had left.
NOT_TAKEN: Final = "not-taken"
QUEUE_FULL: Final = "queue-full"
ENDED: Final = "ended"


class Leaving:
    """The spans of this process that are to leave it, and those that are lost. Safe to share between threads.

    The SDK drops what its queue cannot hold and tells nobody how many. So here it is decided what may wait in it,
    by a number that is never below that of what does.
    """

    def __init__(self, most: int) -> None:
        """Let so many wait for their export."""
        self._most = most
        self._lock = forks.lock()
        self._tallies: Tallies | None = None
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have no span of the parent process, which sends or loses them."""
        self._waiting = self._under_way = 0
        self._ends = False
        self._untold: Counter[str] = Counter()

    def count_in(self, tallies: Tallies) -> None:
        """Count there, also what was lost before."""
        with self._lock:
            self._tallies = tallies.beside()
            untold, self._untold = self._untold, Counter()
        for reason, number in untold.items():
            self._tallies.add(families.LOST_SPANS, (reason,), number)

    def wait(self) -> bool:
        """Take a span into the queue; false where it is lost."""
        with self._lock:
            may_wait = not self._ends and self._waiting < self._most
            self._waiting += may_wait
            reason = ENDED if self._ends else QUEUE_FULL
        if not may_wait:
            self._lose(reason, 1)
        return may_wait

    def go(self, number: int) -> None:
        """Let spans be under way that have waited."""
        with self._lock:
            self._waiting -= number
            self._under_way += number

    def arrived(self, number: int, *, taken: bool) -> None:
        """Have the collector's word on spans that were under way."""
        with self._lock:
            known = not self._ends
            self._under_way -= number
        if known and not taken:
            self._lose(NOT_TAKEN, number)

    def end(self) -> None:
        """Lose what has not left yet. Doing so again changes nothing."""
        with self._lock:
            lost = 0 if self._ends else self._waiting + self._under_way
            self._ends = True
        if lost:
            self._lose(ENDED, lost)

    def _lose(self, reason: str, number: int) -> None:
        with self._lock:
            tallies = self._tallies
            if tallies is None:
                self._untold[reason] += number
        if tallies is not None:
            tallies.add(families.LOST_SPANS, (reason,), number)
