"""Documents that come, wait and are flushed by a simulated clock: what is seen of them, and what comes of them."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from writebehind.history.backlog import Backlog
from writebehind.history.outlook import Caps, Outlook, is_silent_to_all, lately, outlook
from writebehind.history.points import Point
from writebehind.history.turns import Pace, Waiting
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.shared.metrics import PartitionStatus
from writebehind.redis.shared.persisted import REMEMBERED_S, Persisted

#: Between two steps, seconds; so many are in a second.
STEPS = 10
STEP_S = 1 / STEPS
#: A breaker is open so long after MongoDB was last there, seconds.
NOTICED_S = 3.0
#: A ping is not answered so long after MongoDB was last there, seconds.
UNANSWERED_S = 0.5
#: When the simulation begins, seconds since the epoch.
BEGIN = 1_790_000_000
PACE = Pace(batch_s=0.5, overdue_s=2.0, longest_delay_s=1.0, lease_s=10.0, sweep_s=5.0)
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

    They come to each partition in turn, and each takes `memory_of_one` of Redis's `max_memory`, bytes. Nobody
    is at work on one whose claim is that of a dead flusher, or whose task is lost, until that has ended and
    the sweep has come. The history has a point each second, unless nobody records it.
    """

    capacity: float
    delay_s: float = 1.0
    cap: int = 10**9
    memory_of_one: int = 0
    max_memory: int = 1_000
    recorded: bool = True
    partitions: int = 1
    is_swept: bool = True
    steps: int = 0
    acknowledged: int = 0
    persisted: int = 0
    seen: list[Seen] = field(default_factory=list)
    _owed: float = 0.0
    _by_second: Counter[int] = field(default_factory=Counter)
    _points: list[Point] = field(default_factory=list)
    _away: int = 0
    _reached: list[tuple[float, int, float]] = field(default_factory=list)
    _queues: list[deque[float]] = field(default_factory=list)
    _claims: dict[int, float] = field(default_factory=dict)
    _tasks: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._queues = [deque() for _ in range(self.partitions)]

    @property
    def waiting(self) -> int:
        """Documents that wait."""
        return sum(map(len, self._queues))

    def leave(self, *, claimed: Iterable[int] = (), lost: Iterable[int] = ()) -> None:
        """Let flushers die that have claimed some partitions, and the tasks of others be lost."""
        self._claims |= dict.fromkeys(claimed, self.now + PACE.lease_s)
        self._tasks |= dict.fromkeys(lost, self.now + PACE.lease_s)

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
            self._sweep()
            self._reached.append((self.now, self.persisted, self._oldest))
            if self.steps % STEPS == 0 and self.recorded:
                self._points.append(self._point())
            self._look()

    def come(self, count: int) -> None:
        """Let so many come at once."""
        for one in range(self.acknowledged, self.acknowledged + count):
            self._queues[one % self.partitions].append(self.now + self.delay_s)
        self.acknowledged += count

    def needed_s(self, seen: Seen) -> float:
        """The time until all that had been acknowledged by then was persisted."""
        return (
            next(at for at, _, oldest in self._reached if at >= seen.at and oldest > seen.at + STEP_S / 2)
            - seen.at
        )

    def since(self, seconds: float) -> list[Seen]:
        """What was seen in the last seconds."""
        return self.seen[-round(seconds * STEPS) :]

    @property
    def _used_memory(self) -> int:
        """Each document that came stays in the cache."""
        return 200 + self.memory_of_one * self.acknowledged

    @property
    def breaker(self) -> str:
        return "open" if self._away > NOTICED_S * STEPS else "closed"

    @property
    def backlog(self) -> Backlog:
        waiting = [*self._seen_to()]
        late_s = max((one.late_s for one in waiting), default=0.0)
        within_s = max((queue[-1] - self.now for queue in self._queues if queue), default=0.0)
        status = PartitionStatus(0, self.waiting, 0, None)
        ages_s = {0: self.now - self._oldest if self.waiting else 0.0}
        return Backlog([status], ages_s, max(0.0, late_s), max(0.0, within_s), waiting)

    @property
    def _oldest(self) -> float:
        """When the oldest one came that waits."""
        return min((queue[0] for queue in self._queues if queue), default=math.inf) - self.delay_s

    def _seen_to(self) -> Iterator[Waiting]:
        """Who sees to each partition that has any: somebody is at work as soon as documents are due."""
        for partition, queue in enumerate(self._queues):
            if not queue:
                continue
            late_s = self.now - queue[0]
            if partition in self._claims:
                left_s = max(0.0, self._claims[partition] - self.now)
                yield Waiting(partition, late_s, left_s or None, None, 0.0)
            elif partition in self._tasks:
                left_s = max(0.0, self._tasks[partition] - self.now)
                yield Waiting(partition, late_s, None, -late_s if left_s else None, left_s)
            elif late_s >= 0:
                yield Waiting(partition, late_s, PACE.lease_s)
            else:
                yield Waiting(partition, late_s, None, -late_s, PACE.lease_s - late_s)

    def _sweep(self) -> None:
        """Look for partitions that nobody sees to, every now and then."""
        if self.is_swept and self.steps % (PACE.sweep_s * STEPS) == 0:
            for left in (self._claims, self._tasks):
                for partition in [one for one, until in left.items() if until <= self.now]:
                    del left[partition]

    def _flush(self) -> None:
        queues = [
            queue for one, queue in enumerate(self._queues) if one not in self._claims and one not in self._tasks
        ]
        for _ in range(round(self.capacity * STEP_S)):
            queue = min((one for one in queues if one), key=lambda one: one[0], default=None)
            if queue is None or queue[0] > self.now:
                return
            queue.popleft()
            self.persisted += 1
            self._by_second[int(self.now)] += 1

    def _point(self) -> Point:
        """The point of the second that ends now."""
        at = self.steps - STEPS
        before = self._reached[at - 1][1] if at > 0 else 0
        return Point(
            self.now,
            {
                "pending": self.waiting,
                "used_memory": self._used_memory,
                "persisted_per_second": float(self.persisted - before),
                "oldest_pending_seconds": self.backlog.oldest_s,
                "breaker": self.breaker,
            },
        )

    def _look(self) -> None:
        backlog = self.backlog
        lately_persisted = {at: one for at, one in self._by_second.items() if self.now - REMEMBERED_S < at}
        persisted = Persisted(self.now, lately_persisted)
        no_pong = "no pong" if self._away > UNANSWERED_S * STEPS else ""
        foretold = outlook(
            lately(self._points, self.now),
            replace(SAMPLE, used_memory=self._used_memory, max_memory=self.max_memory),
            Caps(self.cap, 0.9),
            replace(PACE, longest_delay_s=self.delay_s),
            backlog=backlog,
            breaker=self.breaker,
            mongodb_error=no_pong if is_silent_to_all(persisted) else "",
            is_worked=True,
            persisted=persisted,
            swept_ago_s=1.0 if self.is_swept else 60.0,
        )
        self.seen.append(
            Seen(self.now, foretold, backlog.pending, self.acknowledged, backlog.late_s, backlog.due_within_s)
        )
