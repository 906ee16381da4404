"""The counts of one process: numbers in memory, which is a file's where they are to outlive the process."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Collection
from pathlib import Path

from writebehind import forks
from writebehind.tallies.directory import Directory
from writebehind.tallies.families import MOST_UNLISTED, OTHER, Family
from writebehind.tallies.files import Key, NoRoomError, Series, TallyMemory

log = logging.getLogger(__name__)


class Tallies:
    """Counts of a process. Safe to share between threads.

    A count takes 0.5 µs of CPU, where prometheus_client takes 2 to 3 in files for several processes
    (`bench/tallies.py`); what each request counts has a `Meter`, which takes less. It never raises: one that finds
    no room is left out, and that is said once.

    Attributes:
        numbers: the memory that this process counts in. It is another object in each process.
        lock: is held by who changes a number there.
    """

    def __init__(self, directory: Path | None = None, listed: Collection[str] = ()) -> None:
        """Count in a file of a directory, or, without one, in memory that ends with the process.

        Nothing is made before something is counted.

        Args:
            directory: shared by the processes of a host.
            listed: collections that are told apart, however many others there are; see `MOST_UNLISTED`.
        """
        self._path = directory
        self._directory = None if directory is None else Directory(directory, listed)
        self._listed = frozenset(listed)
        self.lock = forks.lock()
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
        at = self._at.get((family, labels)) or self.place(family, labels)
        if at:
            with self.lock:
                self.numbers[at] += amount

    def observe(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram."""
        at = self._at.get((family, labels)) or self.place(family, labels)
        if at:
            bucket = at + 1 + bisect_left(family.bounds, value)
            with self.lock:
                self.numbers[at] += value
                self.numbers[bucket] += 1

    def place(self, family: Family, labels: tuple[str, ...]) -> int:
        """Make room for a series, unless it is there; the index of its first number, 0 where there is no room."""
        with self.lock:
            known = self._told_apart(family, labels)
            return self._at.get((family, known)) or self._new(family, known)

    def is_told_apart(self, family: Family, labels: tuple[str, ...]) -> bool:
        """Whether these labels have a series of their own."""
        with self.lock:
            return self._told_apart(family, labels) == labels

    def read(self) -> dict[Series, list[float]]:
        """The numbers of this process and, where it counts in a directory, of all others that do, by series.

        Raises:
            OSError: the directory cannot be read.
        """
        if self._path is not None and self._directory is not None and self._path.is_dir():
            return self._directory.read()
        with self.lock:
            counts = {} if self._memory is None else self._memory.read()
        return {key[:2]: numbers for key, numbers in counts.items()}

    def close(self) -> None:
        """End: what this process has counted stays, and what it has live is gone."""
        with self.lock:
            if self._memory is not None:
                self._memory.leave()

    def _begin(self) -> None:
        self._memory = None
        self.numbers: memoryview[float] = memoryview(b"").cast("d")
        #: Index of each series' first number; never 0.
        self._at: dict[tuple[Family, tuple[str, ...]], int] = {}
        self._unlisted: set[str] = set()
        self._has_room = True

    def _told_apart(self, family: Family, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, with a collection that is one too many in the place of its name."""
        if family.labels[:1] != ("collection",) or labels[0] in self._listed or labels[0] in self._unlisted:
            return labels
        if len(self._unlisted) < MOST_UNLISTED:
            self._unlisted.add(labels[0])
            return labels
        return (OTHER, *labels[1:])

    def _new(self, family: Family, labels: tuple[str, ...]) -> int:
        if not self._has_room:
            return 0
        try:
            memory = self._made() if self._memory is None else self._memory
            at = memory.place(Key(family.name, labels, family.shape), family.slots)
        except NoRoomError:
            self._has_room = False
            log.warning("tallies have no room for more series: %s%s is not counted", family.name, labels)
            return 0
        self._at[family, labels] = at
        return at

    def _made(self) -> TallyMemory:
        try:
            with forks.none_meanwhile():  # or a child would not know what of its parent's it must close
                self._memory = TallyMemory(self._path)
        except OSError as error:  # such as a full disk: requests are served all the same
            log.warning("metrics_dir: no page shows what this process counts: %s: %s", self._path, error)
            self._memory = TallyMemory(None)
        self.numbers = self._memory.numbers
        if self._directory is not None:
            self._directory.add_up()  # or files would become ever more where nobody reads them
        return self._memory
