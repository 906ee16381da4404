"""Pauses of flushing, which an operator asks for: all processes know them, and they outlive all of them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from writebehind import forks
from writebehind.errors import RedisUnavailableError
from writebehind.logs.events import OTHER_HANDS
from writebehind.redis.keys import PAUSED
from writebehind.redis.reach import is_away
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

log = logging.getLogger(__name__)

#: How old what a process knows may be, seconds, where it is that nothing is paused.
LOOK_EVERY_S: Final = 1.0
#: While another thread asks anew it serves for so long, seconds: then that one's answer is waited for.
OLDEST_S: Final = 1.5
#: The name of a pause of all collections: none can be called so.
ALL: Final = "*"
_NOTE: Final = re.compile(rb"([0-9]{1,16}) (?:-|([0-9]{1,16}))")
_PAUSE = script("pause")


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause, by the clock of Redis.

    Attributes:
        collection: whose documents are not flushed; `ALL` for all of them.
        since_ms: when it began.
        left_ms: the time until it ends by itself; `None` where it does not.
    """

    collection: str
    since_ms: int
    left_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a status: since when in seconds since the epoch, and for how many seconds still."""
        return {
            "collection": None if self.collection == ALL else self.collection,
            "since": self.since_ms / 1000,
            "seconds_left": None if self.left_ms is None else self.left_ms / 1000,
        }


@dataclass(frozen=True, slots=True)
class Paused:
    """The pauses in force, by the names of collections."""

    pauses: tuple[Pause, ...] = ()

    def __iter__(self) -> Iterator[Pause]:
        """Each of them."""
        return iter(self.pauses)

    def __bool__(self) -> bool:
        """Whether any is in force."""
        return bool(self.pauses)

    @property
    def shortest_ms(self) -> int | None:
        """The time until the first of them ends by itself; `None` where none does."""
        return min((one.left_ms for one in self.pauses if one.left_ms is not None), default=None)

    @property
    def longest_s(self) -> float:
        """The time until the last of them ends by itself, seconds; infinity where one does not."""
        return max((inf if one.left_ms is None else one.left_ms / 1000 for one in self.pauses), default=0.0)

    @property
    def all(self) -> Pause | None:
        """The pause of all collections."""
        return next((one for one in self.pauses if one.collection == ALL), None)

    @property
    def collections(self) -> list[str]:
        """The collections that are paused by themselves."""
        return [one.collection for one in self.pauses if one.collection != ALL]

    def covers(self, collection: str) -> bool:
        """Whether documents of a collection are not flushed."""
        return any(one.collection in (ALL, collection) for one in self.pauses)

    def as_list(self) -> list[dict[str, Any]]:
        """For a status."""
        return [one.as_dict() for one in self.pauses]


def told(paused: Iterable[Mapping[str, Any]]) -> str:
    """Pauses, as a status has them, in words; '' for none."""
    return "; ".join(
        f"flushing of {one['collection'] or 'all collections'} is paused"
        + (" until it is resumed" if one["seconds_left"] is None else f" for {one['seconds_left']:.0f} s more")
        for one in paused
    )


class Pauses:
    """The pauses in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire
        self._lock = forks.lock()
        #: What was found last, and when it was asked for.
        self._seen: tuple[float, Paused] | None = None

    def recorded(self) -> Paused:
        """Those in force.

        Raises:
            RedisUnavailableError: the server that knows does not answer.
        """
        asked_at = time.monotonic()
        noted = self._wire.call("HGETALL", PAUSED)
        return self.see(noted, self._wire.now_ms(PAUSED) if noted else 0, asked_at=asked_at)

    def see(self, noted: Sequence[bytes], now_ms: int, *, asked_at: float) -> Paused:
        """Those in force by what was found in Redis, and by its clock; asked for then, by the monotonic clock."""
        found = _parse(noted, now_ms)
        self._seen = asked_at, found
        return found

    def known(self) -> Paused:
        """Those that this process has seen last; none where it has seen nothing."""
        seen = self._seen
        return seen[1] if seen else Paused()

    def look(self) -> Paused:
        """Those in force; none where there were none a second ago, or 1.5 s while another thread asks anew.

        What was paused is asked for each time: whoever ends a pause asks for flushes at once, and they must know
        of the end. Threads that wait while another one asks share the next answer, as it was asked for after they
        came: however many there are, each waits for two at most. While their server is away and others are not, it
        is what was seen last. Nothing is paused for a process that has seen nothing by then: the other servers go
        on.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        came_at, seen = time.monotonic(), self._seen
        if seen is not None and not seen[1] and came_at - seen[0] < LOOK_EVERY_S:
            return seen[1]
        is_too_old = seen is None or bool(seen[1]) or came_at - seen[0] > OLDEST_S
        if not self._lock.acquire(blocking=is_too_old):
            return Paused()  # as it was a second ago; another thread looks
        try:
            seen = self._seen
            return seen[1] if seen is not None and seen[0] > came_at else self.recorded()
        except RedisUnavailableError as error:
            if not (is_away(error) and self._wire.has_several):
                raise
            return self.known()
        finally:
            self._lock.release()

    def begin(self, collection: str, *, for_ms: int | None) -> None:
        """Pause a collection, or `ALL`, until it is resumed or for so long; a pause in force gets this end.

        It succeeds in a full Redis, too. Raises as `recorded`.
        """
        self._wire.run(_PAUSE, (PAUSED,), (collection, "" if for_ms is None else for_ms))
        self._seen = None

    def end(self, collections: Iterable[str]) -> None:
        """Forget pauses of these, if there are any. Raises as `recorded`."""
        if names := [*collections]:
            self._wire.call("HDEL", PAUSED, *names)
        self._seen = None


def _parse(noted: Sequence[bytes], now_ms: int) -> Paused:
    found = []
    for name, note in pairs(noted):
        parsed = _NOTE.fullmatch(note)
        if parsed is None:
            log.critical("other hands put %r into %s", note[:100], PAUSED, extra=OTHER_HANDS)
            continue
        left_ms = None if parsed[2] is None else int(parsed[2]) - now_ms
        if left_ms is None or left_ms > 0:
            found.append(Pause(name.decode(errors="replace"), int(parsed[1]), left_ms))
    return Paused(tuple(sorted(found, key=lambda one: one.collection)))
