"""Recent writes of this process, kept until the replicas of Redis have them: a failover may lose them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from writebehind import forks
from writebehind.logs.events import FAULT

log = logging.getLogger(__name__)

#: What a write takes in memory besides its document, bytes, about.
BESIDE: Final = 300


#: In place of the version that a partition had leapt to: the write stood when it was acknowledged once more.
STOOD: Final = 1


class Recent(NamedTuple):
    """One write as it was acknowledged.

    Attributes:
        member: the document.
        version: of the write.
        payload: its entry, after the version.
        again_after: the version that its partition had leapt to when it was committed again after a failover; 0 if
            it was not, and `STOOD` of a repetition.
        receipts: the name of its receipt, if it has one, and what Redis keeps by that; and so of writes before it
            that stand with it.
    """

    member: str
    version: int
    payload: bytes
    again_after: int = 0
    receipts: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """The memory that it takes, bytes, about."""
        return len(self.payload) + sum(len(one) for _, one in self.receipts) + BESIDE


@dataclass(frozen=True, slots=True)
class Dropped:
    """Writes of a partition that were dropped before replicas had them: how many, and the last version."""

    count: int
    version: int


class RecentWrites:
    """The recent writes of this process, in the order of their answers. Safe to share between threads.

    Each has a position, which grows. What takes too much memory is dropped, the oldest first.
    """

    def __init__(self, partition_of: Callable[[str], int], *, most_bytes: int) -> None:
        """Keep up to so many bytes, once there are replicas; 0 for none at all."""
        self._partition_of = partition_of
        self._most_bytes = most_bytes
        self._lock = forks.lock()
        #: Whether writes are kept, to be looked at before `add`.
        self.is_on = False
        #: Is called when the first write is there that nobody watches.
        self.begun: Callable[[], object] = lambda: None
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have none: the parent process has its own."""
        self._writes: deque[Recent] = deque()
        self._first = self._bytes = 0
        self._dropped: dict[int, Dropped] = {}
        self._dropped_until = 0
        self._is_watched = self._is_refused = False

    def there_are_replicas(self) -> None:
        """Keep writes from now on: a replica may take the place of a server, even if it is away at times."""
        self.is_on = self._most_bytes > 0

    def add(self, writes: Iterable[Recent]) -> None:
        """Keep writes that Redis has acknowledged."""
        with self._lock:
            for one in writes:
                self._writes.append(one)
                self._bytes += one.size
            while self._bytes > self._most_bytes:
                self._drop()
            is_first = bool(self._writes) and not self._is_watched
            self._is_watched = self._is_watched or is_first
        if is_first:
            self._begin()

    def _begin(self) -> None:
        """Have them watched, or let the next write try it: these are acknowledged in any case."""
        try:
            self.begun()
        except RuntimeError:  # no thread can be started
            with self._lock:
                self._is_watched = False
                is_told, self._is_refused = self._is_refused, True
            if not is_told:
                log.exception("recent writes are not looked after yet", extra=FAULT)
        else:
            self._is_refused = False

    @property
    def position(self) -> int:
        """The position of the next write."""
        with self._lock:
            return self._first + len(self._writes)

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._writes

    def since(self, position: int) -> tuple[list[tuple[int, Recent]], int]:
        """The writes from a position on, each with its own; and the position of the next one."""
        with self._lock:
            after = self._first + len(self._writes)
            found = [
                (at, one)
                for at, one in enumerate(self._writes, self._first)
                if at >= position and one is not _NONE
            ]
            return found, after

    def release(self, until: int) -> None:
        """Forget the writes before a position: replicas have them."""
        with self._lock:
            while self._writes and self._first < until:
                self._take()
            if until >= self._dropped_until:
                self._dropped.clear()

    def drop(self, until: int) -> None:
        """Forget the writes before a position, of which it is not known whether replicas have them."""
        with self._lock:
            while self._writes and self._first < until:
                self._drop()

    def replace(self, writes: Mapping[int, Recent | None]) -> None:
        """Put others in the place of the writes at some positions; `None` for one that nobody needs any more."""
        with self._lock:
            for at, new in writes.items():
                if 0 <= (place := at - self._first) < len(self._writes):  # it may have been dropped meanwhile
                    self._bytes -= self._writes[place].size
                    self._writes[place] = new or _NONE
                    self._bytes += self._writes[place].size

    def take_dropped(self) -> dict[int, Dropped]:
        """Take out what is known of dropped writes, by partition: counting begins anew."""
        with self._lock:
            dropped, self._dropped = self._dropped, {}
            return dropped

    def unwatch(self) -> bool:
        """Stop watching if there is nothing to watch; `begun` is called when there is again."""
        with self._lock:
            self._is_watched = bool(self._writes)
            return not self._is_watched

    def _take(self) -> Recent:
        one = self._writes.popleft()
        self._first += 1
        self._bytes -= one.size
        return one

    def _drop(self) -> None:
        one = self._take()
        if one is not _NONE:
            partition = self._partition_of(one.member)
            before = self._dropped.get(partition, Dropped(0, 0))
            self._dropped[partition] = Dropped(before.count + 1, max(before.version, one.version))
            self._dropped_until = self._first


#: In the place of a write that nobody needs any more.
_NONE: Final = Recent("", 0, b"")
