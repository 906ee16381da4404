"""The counts of one process: numbers in memory, which is a file's where they are to outlive the process."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from writebehind import forks
from writebehind.logs.events import FAULT
from writebehind.logs.states import StateLog
from writebehind.tallies.apart import ToldApart
from writebehind.tallies.directory import Directory, folded
from writebehind.tallies.families import OF_DOCUMENTS, OTHER, Family
from writebehind.tallies.files import Key, NoRoomError, Series, TallyMemory

log = logging.getLogger(__name__)

#: A process looks so often whether its file is still there, seconds.
LOOK_EVERY_S: Final = 5.0
_ADVICE: Final = (
    "see that its directory can be made, that this process may write there, and that the disk has room: then all "
    "that it has counted appears there"
)
_MOVED: Final = (
    "metrics_dir: the file of what this process counts was taken away from %s: a new one has all of it; what "
    "ended processes had counted is gone if their files were taken too"
)

_CUT: Final = (
    "metrics_dir: a file of what this process counts was cut off in %s: it is whole again, and counts from 0; who "
    "does that ends processes by SIGBUS, those that count before they look, which they do every %.0f s"
)


class Tallies:
    """Counts of a process. Safe to share between threads.

    A count takes 0.5 µs of CPU, where prometheus_client takes 2 to 3 in files for several processes
    (`bench/tallies.py`); what each request counts has a `Meter`, which takes less. It never raises: one that finds
    no room is left out, and that is said once.

    Attributes:
        numbers: the memory that this process counts in. It is another object in each process.
        lock: is held by who changes a number there. Nobody asks Redis meanwhile.
        apart: knows which collections have series of their own.
    """

    def __init__(
        self, directory: Path | None = None, listed: Collection[str] = (), *, apart: ToldApart | None = None
    ) -> None:
        """Count in a file of a directory, or, without one, in memory that ends with the process.

        Nothing is made before something is counted.

        Args:
            directory: shared by the processes of a host.
            listed: collections that are told apart, however many others there are; see `MOST_UNLISTED`.
            apart: knows them, and the others, in the place of `listed`.
        """
        self.apart = apart if apart is not None else ToldApart(listed)
        self._directory = None if directory is None else Directory(directory, self.apart)
        self.lock = forks.lock()
        self._unseen = StateLog(log, "counts_unseen", "counts_seen")
        self._memory: TallyMemory | None = None
        #: Memory that was counted in until the last look, and its content when it was taken over.
        self._former: tuple[TallyMemory, bytes] | None = None
        self._begin()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Count in a file of this process: what the parent has counted is the parent's."""
        for one in (self._memory, self._former and self._former[0]):
            if one is not None:
                one.leave_to_parent()
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
        known = self._told_apart(family, labels)
        with self.lock:
            return self._at.get((family, known)) or self._new(family, known)

    def is_told_apart(self, family: Family, labels: tuple[str, ...]) -> bool:
        """Whether these labels have a series of their own."""
        return self._told_apart(family, labels) == labels

    def read(self) -> dict[Series, list[float]]:
        """The numbers of this process and, where it counts in a directory, of all others that do, by series.

        Raises:
            OSError: the directory cannot be read, or was taken away.
        """
        directory = self._directory
        if directory is not None and (directory.was_there or directory.path.is_dir()):
            return directory.read()
        self.apart.agree()  # nobody else does in memory that no thread looks after
        with self.lock:
            counts = {} if self._memory is None else self._memory.read()
        return {key[:2]: numbers for key, numbers in folded([counts], self.apart).items()}

    def beside(self) -> Tallies:
        """Tallies with a file of their own, which go on after these have ended; without a directory these.

        Nothing is made before something is counted.
        """
        if self._directory is None:
            return self
        return Tallies(self._directory.path, apart=self.apart)

    def close(self) -> None:
        """End: what this process has counted stays, and what it has live is gone."""
        with self.lock:
            self._ended = True
            self._add_late()
            if self._memory is not None:
                self._memory.leave()

    def look(self) -> bool:
        """See that others find what is counted here, and then agree with them on who is told apart.

        Where the file was taken away, a new one gets all of it. A thread looks while this process counts. Where no
        file can be made, it is tried again at each look.

        Returns:
            Whether to look again.
        """
        goes_on = self._look_at_file()
        if goes_on:
            was_known = self.apart.is_known
            self.apart.agree()
            if self._directory is not None and self.apart.is_known and not was_known:
                self._directory.add_up()  # for the first time
        return goes_on

    def _look_at_file(self) -> bool:
        """Have it in its place; whether to look again."""
        with self.lock:
            directory, memory = self._directory, self._memory
            if self._ended or memory is None or directory is None:
                return False
            self._add_late()
            why = self._mend(directory, memory)
            if why is None and memory.is_in_place():
                return True
            why = why or self._renew(directory)
        if why is not None:
            self._say_unseen(why)
        elif memory.has_file and not self._unseen.lasts:
            log.warning(_MOVED, directory.path, extra={"event": "counts_moved"})
        else:
            self._unseen.end(f"metrics_dir: what this process counts, and has counted, is in {directory.path}")
        return True

    def _begin(self) -> None:
        self._memory = self._former = None
        self._ended = False
        self.numbers: memoryview[float] = memoryview(b"").cast("d")
        #: Index of each series' first number; never 0.
        self._at: dict[tuple[Family, tuple[str, ...]], int] = {}
        self._has_room = True

    def _told_apart(self, family: Family, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, with a collection that is not told apart in the place of its name."""
        is_free = family.labels[:1] != ("collection",)
        if is_free or self.apart.meet(labels[0], has_documents=family in OF_DOCUMENTS):
            return labels
        return (OTHER, *labels[1:])

    def _new(self, family: Family, labels: tuple[str, ...]) -> int:
        if not self._has_room:
            return 0
        try:
            memory = self._begin_memory() if self._memory is None else self._memory
            at = memory.place(Key(family.name, labels, family.shape), family.slots)
        except NoRoomError:
            self._has_room = False
            log.warning("tallies have no room for more series: %s%s is not counted", family.name, labels)
            return 0
        self._at[family, labels] = at
        return at

    def _begin_memory(self) -> TallyMemory:
        directory = self._directory
        why = None if directory is None else self._renew(directory)
        memory = self._memory
        if memory is None:
            memory = self._memory = TallyMemory(None)
            self.numbers = memory.numbers
        if why is not None:  # such as a full disk: requests are served all the same
            self._say_unseen(why)
        if directory is not None:
            directory.add_up()  # or files would become ever more where nobody reads them
            with suppress(RuntimeError):  # this process ends
                threading.Thread(target=_watch, args=(weakref.ref(self),), name="tallies", daemon=True).start()
        return memory

    def _renew(self, directory: Directory) -> OSError | None:
        """Count in a new file, which begins with all that was counted; the reason if it cannot be made."""
        before = self._memory
        try:
            with forks.none_meanwhile():  # or a child would not know what of its parent's it must close
                directory.make()
                memory = TallyMemory(directory.path, before)
                if before is not None:
                    self._former = before, memory.content()
                self._memory = memory
        except OSError as error:
            return error
        self.numbers = memory.numbers
        return None

    def _mend(self, directory: Directory, memory: TallyMemory) -> OSError | None:
        """Have memory whole whose file was cut off; the reason if it cannot be."""
        if memory.is_whole():
            return None
        try:
            memory.mend(
                (at, Key(one.name, labels, one.shape), one.slots) for (one, labels), at in self._at.items()
            )
        except OSError as error:
            return error
        log.warning(_CUT, directory.path, LOOK_EVERY_S, extra={"event": "counts_cut"})
        return None

    def _add_late(self) -> None:
        """Add what threads have added to the former memory that had found it before it was replaced."""
        if self._former is not None:
            former, content = self._former
            for at, amount in former.added_since(content) if former.is_whole() else ():
                self.numbers[at] += amount
            former.leave()
            self._former = None

    def _say_unseen(self, why: OSError) -> None:
        self._unseen.begin(f"metrics_dir: no page shows what this process counts: {why}; {_ADVICE}")


def _watch(tallies: weakref.ref[Tallies]) -> None:
    """Look after a process's file, until it ends, or its tallies are gone with their owner."""
    goes_on, said = True, ""
    while goes_on:
        # All processes look at the same moments: else the sum of all would shrink and grow again meanwhile.
        time.sleep(LOOK_EVERY_S - time.time() % LOOK_EVERY_S)
        one = tallies()
        try:
            goes_on = one is not None and one.look()
            said = ""
        except Exception as error:  # it must not end the looks of this process
            if repr(error) != said:  # it may last
                log.exception("the counts of this process are not looked after, and are again soon", extra=FAULT)
            said = repr(error)
        del one
