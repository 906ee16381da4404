"""Reads of clients that a server has ended: counted by the reason."""

from __future__ import annotations

from writebehind.errors import UnavailableError
from writebehind.tallies import families
from writebehind.tallies.failures import Failures


class FailedReads(Failures[UnavailableError]):
    """Counts the failed reads of one collection."""

    kind = UnavailableError

    def note(self, error: UnavailableError) -> None:
        """Count a read that ended so."""
        self._tallies.add(families.FAILED_READS, (self._collection, error.reason.value))
