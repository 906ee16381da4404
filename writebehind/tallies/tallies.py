"""The counts of one process: numbers in memory, which is a file's where they are to outlive the process."""

from __future__ import annotations

import logging
from bisect import bisect_left
from pathlib import Path
from typing import Final

from writebehind import forks
from writebehind.tallies.families import Family
from writebehind.tallies.files import NoRoomError, Series, TallyMemory, read_directory

log = logging.getLogger(__name__)

#: Different values of the label `collection` that a process tells apart: names of unlisted ones come from clients.
MOST_COLLECTIONS: Final = 200
#: The value of a label in the place of those that are not told apart.
OTHER: Final = "(other)"


class Tallies:
    """Counts of a process. Safe to share between threads.

    A count takes 0.5 µs of CPU, where prometheus_client takes 2 to 3 in files for several processes
    (`bench/tallies.py`). It never raises: one that finds no room is left out, and that is said once.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Count in a file of a directory, or, without one, in memory that ends with the process.

        Nothing is made before something is counted.
        """
        self._directory = directory
        self._lock = forks.lock()
        self._memory: TallyMemory | None = None
        self._begin()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Count in a file of this process: what the parent has counted is the parent's."""
        if self._memory is not None:
            self._memory.leave_to_parent()
        self._begin()

    def add(self, family: Family, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter, or to what is live."""
        at = self._at.get((family, labels)) or self._place(family, labels)
        if at:
            with self._lock:
                self._numbers[at] += amount

    def observe(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram."""
        at = self._at.get((family, labels)) or self._place(family, labels)
        if at:
            bucket = at + 1 + bisect_left(family.bounds, value)
            with self._lock:
                self._numbers[at] += value
                self._numbers[bucket] += 1

    def read(self) -> dict[Series, list[float]]:
        """The numbers of this process and, where it counts in a directory, of all others that do, by series.

        Raises:
            OSError: the directory cannot be read.
        """
        if self._directory is not None and self._directory.is_dir():
            return read_directory(self._directory)
        with self._lock:
            memory = self._memory
            return {} if memory is None else memory.read()

    def close(self) -> None:
        """End: what this process has counted stays, and what it has live is gone."""
        with self._lock:
            if self._memory is not None:
                self._memory.leave()

    def _begin(self) -> None:
        self._memory = None
        self._numbers: memoryview[float] = memoryview(b"").cast("d")
        #: Index of each series' first number; never 0.
        self._at: dict[tuple[Family, tuple[str, ...]], int] = {}
        self._collections: set[str] = set()
        self._has_room = True

    def _place(self, family: Family, labels: tuple[str, ...]) -> int:
        """Make room for a series; 0 where there is none."""
        with self._lock:
            known = self._told_apart(family, labels)
            at = self._at.get((family, known)) or self._new(family, known)
            if at and known == labels:  # names of others come from clients: they are not remembered
                self._at[family, labels] = at
            return at

    def _told_apart(self, family: Family, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, with a collection that is one too many in the place of its name."""
        if not family.labels or family.labels[0] != "collection" or labels[0] in self._collections:
            return labels
        if len(self._collections) < MOST_COLLECTIONS:
            self._collections.add(labels[0])
            return labels
        return (OTHER, *labels[1:])

    def _new(self, family: Family, labels: tuple[str, ...]) -> int:
        if not self._has_room:
            return 0
        try:
            if self._memory is None:
                self._memory = self._made()
                self._numbers = self._memory.numbers
            at = self._memory.place((family.name, labels), family.slots)
        except NoRoomError:
            self._has_room = False
            log.warning("tallies have no room for more series: %s%s is not counted", family.name, labels)
            return 0
        self._at[family, labels] = at
        return at

    def _made(self) -> TallyMemory:
        try:
            return TallyMemory(self._directory)
        except OSError as error:  # such as a full disk: requests are served all the same
            log.warning("metrics_dir: no page shows what this process counts: %s: %s", self._directory, error)
            return TallyMemory(None)
