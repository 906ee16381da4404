"""Failures of what callers ask for: counted where they are told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Generic, TypeVar

from writebehind.tallies.tallies import Tallies

E = TypeVar("E", bound=BaseException)


class Failures(ABC, Generic[E]):
    """Counts failures of one collection: what is done in a `with` block. Safe to share between threads.

    What ends well costs nothing but the block; whoever cannot spare that notes failures by itself.
    """

    #: Errors that are failures; others are none.
    kind: ClassVar[type[BaseException]]

    def __init__(self, tallies: Tallies, collection: str) -> None:
        """Count in these tallies."""
        self._tallies = tallies
        self._collection = collection

    @abstractmethod
    def note(self, error: E) -> None:
        """Count one that ended so."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self.kind):
            self.note(error)  # type: ignore[arg-type]  # `kind` is E
