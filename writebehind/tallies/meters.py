"""Series that a hot path counts in at each request: found once, and then by one look."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from writebehind.tallies.families import Family

if TYPE_CHECKING:
    from writebehind.tallies.tallies import Tallies

K = TypeVar("K", bound=Hashable)


class Meter:
    """One series of a process's tallies. Safe to share between threads.

    It counts as `Tallies` do. In a child process it counts in the child's tallies.
    """

    __slots__ = (
        "_acquire",
        "_at",
        "_beside",
        "_counter",
        "_family",
        "_labels",
        "_numbers",
        "_release",
        "_tallies",
    )

    def __init__(
        self, tallies: Tallies, family: Family, labels: tuple[str, ...], *, counter: Family | None = None
    ) -> None:
        """Count in this series, which is made when something is counted.

        Args:
            tallies: what the series is of.
            family: of the series.
            labels: of the series.
            counter: a counter with the same labels: each value that is observed adds 1 to it.
        """
        self._tallies = tallies
        self._family = family
        self._labels = labels
        self._counter = counter
        # Of what a count takes among all that a request does, `with` would be a fifth: see bench/watching.py.
        self._acquire, self._release = tallies.lock.acquire, tallies.lock.release
        #: The memory in which the series was found, and where there; `_beside` is 0 without a counter.
        self._numbers: memoryview[float] | None = None
        self._at = self._beside = 0

    def add(self, amount: float = 1) -> None:
        """Add to a counter."""
        if self._numbers is self._tallies.numbers or self._find():
            self._acquire()
            try:
                self._tallies.numbers[self._at] += amount
            finally:
                self._release()

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        numbers = self._tallies.numbers
        if numbers is not self._numbers:
            if not self._find():
                return
            numbers = self._tallies.numbers
        at, beside = self._at, self._beside
        bucket = at + 1 + bisect_left(self._family.bounds, value)
        self._acquire()
        try:
            numbers[at] += value
            numbers[bucket] += 1
            if beside:
                numbers[beside] += 1
        finally:
            self._release()

    def is_told_apart(self) -> bool:
        """Whether it has a series of its own: else its labels are a client's, and nothing may remember them."""
        return self._tallies.is_told_apart(self._family, self._labels)

    def _find(self) -> bool:
        """Find the series in this process's memory; whether there is room for it."""
        at = self._tallies.place(self._family, self._labels)
        if not at:
            return False
        self._beside = self._tallies.place(self._counter, self._labels) if self._counter is not None else 0
        self._at = at
        self._numbers = self._tallies.numbers  # last, for threads that look meanwhile
        return True


class OneThreadsMeter(Meter):
    """A meter of a series in which a single thread counts: it takes no lock."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        numbers = self._tallies.numbers
        if numbers is not self._numbers:
            if not self._find():
                return
            numbers = self._tallies.numbers
        at = self._at
        numbers[at] += value
        numbers[at + 1 + bisect_left(self._family.bounds, value)] += 1


class Meters(dict[K, Meter]):
    """Meters by what a call site knows them by. One that it asks for is made, and kept if it is told apart."""

    def __init__(self, make: Callable[[K], Meter]) -> None:
        """Make them so."""
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> Meter:
        """Make one."""
        meter = self._make(key)
        if meter.is_told_apart():
            self[key] = meter
        return meter
