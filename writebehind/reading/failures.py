"""Reads of clients that a server has ended: counted by the reason."""

from __future__ import annotations

from types import TracebackType

from writebehind.errors import UnavailableError
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies


class Failures:
    """Counts the failed reads of one collection: what is read in a `with` block. Safe to share between threads.

    A read that ends well costs nothing but the block; whoever cannot spare that notes failures by itself.
    """

    def __init__(self, tallies: Tallies, collection: str) -> None:
        """Count in these tallies."""
        self._tallies = tallies
        self._collection = collection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UnavailableError):
            self.note(error)

    def note(self, error: UnavailableError) -> None:
        """Count a read that ended so."""
        self._tallies.add(families.FAILED_READS, (self._collection, error.reason.value))
