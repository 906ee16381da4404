"""The clock of Redis, which all times in Redis are made of: steps of it are noticed, and times move along.

Versions need no clock that goes steadily. When a document is due, and how long it has waited, is told by times in
Redis; after a step of minutes they would be wrong by minutes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from writebehind import forks
from writebehind.errors import RedisUnavailableError
from writebehind.plurals import counted
from writebehind.redis.reach import is_away
from writebehind.redis.store import Store
from writebehind.sequences import grouped

log = logging.getLogger(__name__)

#: A difference from this process's steady clock from which it is a step, ms, besides the time that answers took.
STEP_MS = 2_000
#: For so long it is remembered that a step was seen to, ms: other processes see it when they look next.
NOTED_MS = 600_000
#: So many times are looked at in one go: Redis answers nobody meanwhile.
SLICE = 1_000


@dataclass(frozen=True, slots=True)
class _Look:
    """The time of Redis's clock, ms, at some moment between two of the steady clock, seconds."""

    now_ms: int
    asked: float
    answered: float


@dataclass(slots=True)
class _Step:
    """A step, between two times by the new clock, and the partitions in which it is still to be seen to."""

    from_ms: int
    to_ms: int
    by_ms: int
    left: list[int]
    moved: int = 0


class ClockWatch:
    """Compares the clock of Redis with this process's steady clock. Safe to share between threads.

    Any process that lives long may look now and then. Whoever sees a step first moves the times in Redis. Where it
    is several servers, each has its clock; a partition that goes to another server, as in a failover, sees a step
    if the clocks of the two differ.
    """

    def __init__(self, store: Store) -> None:
        """Bind it to a store; nothing is asked before the first look."""
        self._store = store
        self._lock = forks.lock()
        #: The last look at the clock of each partition.
        self._last: dict[int, _Look] = {}
        self._steps: list[_Step] = []

    def look(self) -> int:
        """See whether a clock has stepped since the last look, and if so move the times; by how much, ms.

        Raises:
            RedisUnavailableError: Redis does not answer. The next look moves the times that are left.
        """
        if not self._lock.acquire(blocking=False):
            return 0  # another thread is at it
        try:
            self._move()
            last, self._last = self._last, self._last | self._ask()
            partitions_of = grouped(self._last, lambda one: (last.get(one), self._last[one]))
            steps = [
                step
                for (before, now), partitions in partitions_of.items()
                if before is not None and before is not now and (step := _compare(before, now, partitions))
            ]
            self._steps += steps
            step_ms = max((one.by_ms for one in steps), key=abs, default=0)
            self._move()
            return step_ms
        finally:
            self._lock.release()

    def _ask(self) -> dict[int, _Look]:
        """The time by the clock of each partition whose server answers."""
        asked = time.monotonic()
        clocks = self._store.clocks_ms()
        answered = time.monotonic()
        looks = {server: _Look(now_ms, asked, answered) for server, now_ms in clocks.items()}
        of_all = ((one, looks.get(self._store.server_of(one))) for one in range(self._store.partitions))
        return {one: look for one, look in of_all if look is not None}

    def _move(self) -> None:
        """Move the times of partitions that are left, some at a time: each may have many."""
        left = []
        for step in self._steps:
            try:
                self._move_one(step)
            except RedisUnavailableError as error:
                if not (is_away(error) and self._store.has_several):
                    raise
                left.append(step)
        self._steps = left

    def _move_one(self, step: _Step) -> None:
        while step.left:
            moved, more = self._store.pending.move_times(
                step.left[-1],
                from_ms=step.from_ms,
                to_ms=step.to_ms,
                by_ms=step.by_ms,
                noted_ms=NOTED_MS,
                limit=SLICE,
            )
            step.moved += moved
            if not more:
                step.left.pop()
        if step.moved:
            log.warning(
                "the clock of Redis has stepped by %.1f s: %s moved along",
                step.by_ms / 1000,
                counted(step.moved, "time"),
                extra={"event": "clock_stepped"},
            )


def _compare(last: _Look, this: _Look, partitions: list[int]) -> _Step | None:
    """The step of their clock between two looks, if there is one whenever each was answered on its way here."""
    passed_ms = (this.asked + this.answered - last.asked - last.answered) * 500
    unsure_ms = (this.answered - this.asked + last.answered - last.asked) * 500
    step_ms = round(this.now_ms - last.now_ms - passed_ms)
    if abs(step_ms) < STEP_MS + unsure_ms:
        return None
    from_ms = this.now_ms - round(passed_ms + unsure_ms) - 2  # what Redis tells is cut to ms, now and then
    return _Step(from_ms, this.now_ms, step_ms, partitions)
