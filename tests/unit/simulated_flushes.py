"""Documents that come, wait and are flushed by a simulated clock: what is seen of them, and what comes of them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from writebehind.history.backlog import Backlog
from writebehind.history.outlook import Caps, Outlook, Pace, lately, outlook
from writebehind.history.points import Point
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.shared.metrics import PartitionStatus
from writebehind.redis.shared.persisted import REMEMBERED_S, Persisted

#: Between two steps, seconds; so many are in a second.
STEPS = 10
STEP_S = 1 / STEPS
#: A breaker is open so long after MongoDB was last there, seconds.
NOTICED_S = 3.0
#: When the simulation begins, seconds since the epoch.
BEGIN = 1_790_000_000
PACE = Pace(batch_s=0.5, overdue_s=3.0, longest_delay_s=1.0)
SAMPLE = LoadSample(
    misfit="",
    recorded=True,
    pending=(),
    dead={},
    used_memory=200,
    max_memory=1_000,
    evicts=False,
    keys=10,
    expiring=0,
    appendonly=True,
    replicas=0,
    waits_for_disk=True,
    drained_per_second=0.0,
)


@dataclass(frozen=True)
class Seen:
    """What is foretold at a moment, and what is true of it."""

    at: float
    foretold: Outlook
    pending: int
    acknowledged: int
    late_s: float
    due_within_s: float


@dataclass
class World:
    """Documents that are due after `delay_s`, of which at most `capacity` are flushed in a second.

    The history has a point each second, unless nobody records it.
    """

    capacity: float
    delay_s: float = 1.0
    cap: int = 10**9
    recorded: bool = True
    steps: int = 0
    waiting: deque[float] = field(default_factory=deque)
    acknowledged: int = 0
    persisted: int = 0
    seen: list[Seen] = field(default_factory=list)
    _owed: float = 0.0
    _by_second: Counter[int] = field(default_factory=Counter)
    _points: list[Point] = field(default_factory=list)
    _away: int = 0
    _reached: list[tuple[float, int]] = field(default_factory=list)

    @property
    def now(self) -> float:
        return BEGIN + self.steps / STEPS

    def go_on(self, seconds: float, *, arrivals: float = 0.0, flushed: bool = True, mongodb: bool = True) -> None:
        """Let time pass in which so many come each second; workers may be frozen, and MongoDB away."""
        for _ in range(round(seconds * STEPS)):
            self.steps += 1
            self._away = 0 if mongodb else self._away + 1
            self._owed += arrivals * STEP_S
            come, self._owed = int(self._owed), self._owed % 1
            self.come(come)
            if flushed and mongodb:
                self._flush()
            self._reached.append((self.now, self.persisted))
            if self.steps % STEPS == 0 and self.recorded:
                self._points.append(self._point())
            self._look()

    def come(self, count: int) -> None:
        """Let so many come at once."""
        self.waiting.extend([self.now + self.delay_s] * count)
        self.acknowledged += count

    def needed_s(self, seen: Seen) -> float:
        """The time until all that had been acknowledged by then was persisted."""
        return (
            next(at for at, persisted in self._reached if at >= seen.at and persisted >= seen.acknowledged)
            - seen.at
        )

    def since(self, seconds: float) -> list[Seen]:
        """What was seen in the last seconds."""
        return self.seen[-round(seconds * STEPS) :]

    @property
    def breaker(self) -> str:
        return "open" if self._away > NOTICED_S * STEPS else "closed"

    @property
    def backlog(self) -> Backlog:
        late_s = self.now - self.waiting[0] if self.waiting else 0.0
        within_s = self.waiting[-1] - self.now if self.waiting else 0.0
        status = PartitionStatus(0, len(self.waiting), 0, None)
        return Backlog(
            [status], {0: late_s + self.delay_s if self.waiting else 0.0}, max(0.0, late_s), max(0.0, within_s)
        )

    def _flush(self) -> None:
        for _ in range(round(self.capacity * STEP_S)):
            if not self.waiting or self.waiting[0] > self.now:
                return
            self.waiting.popleft()
            self.persisted += 1
            self._by_second[int(self.now)] += 1

    def _point(self) -> Point:
        """The point of the second that ends now."""
        at = self.steps - STEPS
        before = self._reached[at - 1][1] if at > 0 else 0
        return Point(
            self.now,
            {
                "pending": len(self.waiting),
                "used_memory": 200,
                "persisted_per_second": float(self.persisted - before),
                "oldest_pending_seconds": self.backlog.oldest_s,
                "breaker": self.breaker,
            },
        )

    def _look(self) -> None:
        backlog = self.backlog
        lately_persisted = {at: one for at, one in self._by_second.items() if self.now - REMEMBERED_S < at}
        foretold = outlook(
            lately(self._points, self.now),
            SAMPLE,
            Caps(self.cap, 0.9),
            Pace(PACE.batch_s, PACE.overdue_s, self.delay_s),
            backlog=backlog,
            breaker=self.breaker,
            mongodb_error="",
            is_worked=True,
            persisted=Persisted(self.now, lately_persisted),
        )
        self.seen.append(
            Seen(self.now, foretold, backlog.pending, self.acknowledged, backlog.late_s, backlog.due_within_s)
        )
