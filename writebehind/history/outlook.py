"""The near future, if all goes on as it does: when what is acknowledged is safe, and when writes are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from writebehind.history.backlog import Backlog
from writebehind.history.points import AWAY, BREAKER, Point
from writebehind.history.turns import Pace
from writebehind.plurals import counted
from writebehind.redis.reach import told_away
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.shared.pauses import Paused, told
from writebehind.redis.shared.persisted import Persisted

#: Rates are taken over so many seconds at most.
WINDOW_S: Final = 30.0
#: And over so many at least: those of what is persisted; of documents, and of memory, while nothing is persisted,
#: as both only grow then; and of what grows while batches go, which goes up and down.
LEAST_PERSISTED_S: Final = 2.0
LEAST_STALLED_S: Final = 2.0
LEAST_STALLED_MEMORY_S: Final = 5.0
LEAST_S: Final = 10.0
#: More comes than goes where what is pending grows by more than this part of what is persisted.
GROWS: Final = 0.1
#: MongoDB answers whoever has persisted something within that time, seconds, though it did not answer a ping.
ANSWERED_S: Final = 1.0
#: What half a minute says of later than this is chance, seconds.
HORIZON_S: Final = 3_600.0
#: Figures of points: pending documents, how fast they go to MongoDB, and how long the oldest has waited.
PENDING: Final = "pending"
PERSISTED: Final = "persisted_per_second"
OLDEST: Final = "oldest_pending_seconds"
_NOT_PAUSED: Final = Paused()


@dataclass(frozen=True, slots=True)
class Outlook:
    """The near future.

    Attributes:
        safe: whether MongoDB has all that was acknowledged.
        seconds_until_safe: when it has all that is acknowledged by now; `None` while nothing of what is overdue is
            persisted, or where dead letters stand, which no waiting brings there.
        seconds_until_drained: the same of what is pending, whatever dead letters there are.
        not_safe_because: why there is no `seconds_until_safe`; '' where there is.
        seconds_until_cap: when the first cap is reached; `None` if not within `HORIZON_S`, or unknown.
        cap: which one: `pending` or `memory`; '' for none.
        grows_per_second: by how many documents what is pending grows while workers persist it as fast as they can;
            `None` where it does not, or only by some percent.
    """

    safe: bool
    seconds_until_safe: float | None
    seconds_until_drained: float | None
    not_safe_because: str
    seconds_until_cap: float | None
    cap: str
    grows_per_second: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a status."""
        return {
            "safe": self.safe,
            "seconds_until_safe": self.seconds_until_safe,
            "seconds_until_drained": self.seconds_until_drained,
            "not_safe_because": self.not_safe_because or None,
            "seconds_until_cap": self.seconds_until_cap,
            "cap": self.cap or None,
            "grows_per_second": self.grows_per_second,
        }


def outlook(
    points: Sequence[Point],
    sample: LoadSample,
    caps: Caps,
    pace: Pace,
    *,
    backlog: Backlog,
    breaker: str,
    mongodb_error: str,
    is_worked: bool,
    persisted: Persisted | None,
    swept_ago_s: float | None,
    paused: Paused = _NOT_PAUSED,
) -> Outlook:
    """The outlook from what is seen now.

    What is acknowledged by now goes to MongoDB before what is acknowledged later, as documents are flushed in the
    order in which they are due. So arrivals do not put off when it is safe; they bring the caps nearer. While no
    document is overdue, workers keep up, and all is safe once the last one is due and flushed. Else it is once as
    much is persisted as is pending, at the rate since somebody is at work on what is due: an outage that is over
    says nothing of what comes, and while one lasts nothing goes to MongoDB, whatever did before.

    While workers keep up, what is pending is what comes within a flush delay: where clients begin to write, or
    write more, it grows that long and no longer. So no cap is told then that is further away. What is paused grows
    on, whatever workers do.

    Args:
        points: of the last seconds, in the order of their times.
        sample: the memory of Redis, and which of its servers are away: what these have is not known.
        caps: see there.
        pace: see there.
        backlog: what is pending, and dead letters.
        breaker: the state of the breaker before MongoDB; '' where that is not known.
        mongodb_error: why MongoDB gives no sign of life, which is known before the breaker opens; '' if it does.
        is_worked: whether any worker is at work on what is pending.
        persisted: documents that were persisted; `None` where that is not known.
        swept_ago_s: the time since somebody last looked for partitions that nobody sees to, seconds; `None` where
            nobody ever has.
        paused: what is not flushed as an operator has paused it.
    """
    pending = [*backlog.pending_in.values()]
    since = _work_began(persisted, backlog.late_s, pace) if persisted else None
    is_worked = is_worked or any(one.is_at_work(pace) for one in backlog.waiting)
    stalled = _why_stalled(breaker, mongodb_error, is_worked=is_worked) if backlog.pending else ""
    if not (stalled or paused.all) and persisted and since is None:
        stalled = f"nothing was persisted in the last {persisted.last_s:.0f} s, and documents are overdue"
    pause = f"paused: {told(paused.as_list())}" if paused and backlog.pending else ""
    is_stalled, until_drained = bool(stalled or (pause and paused.all)), None
    because = "; ".join(filter(None, (pause, stalled)))
    if not because:
        until_drained, because = _until_drained(backlog, persisted, since, pace)
    if until_drained:
        until_drained, because = _until_last_turn(until_drained, backlog, pace, swept_ago_s)
    if lost := {server: partitions for server, partitions in sample.away.items() if partitions}:
        until_drained, because = None, "; ".join(filter(None, (because, told_away(lost))))
    dead = backlog.dead
    until_safe = None if dead else until_drained
    letters = f"{counted(dead, 'dead letter')}, to be replayed or discarded" if dead else ""
    overdue = dead and not because and backlog.late_s >= pace.overdue_s
    late = (
        f"{counted(backlog.pending, 'document')} pending, one overdue for {backlog.late_s:.0f} s"
        if overdue
        else ""
    )
    because = "; ".join(filter(None, (because, letters, late)))
    seen = partial(Outlook, not (dead or any(pending) or lost), until_safe, until_drained, because)
    points = _in_stall(points) if is_stalled else _since_stall(points, pace, paused)
    is_late = not is_stalled and backlog.late_s >= pace.overdue_s
    counts = _while_overdue(points, pace) if is_late else points
    if is_late and persisted:
        seen = partial(seen, grows_per_second=_excess(counts, persisted))
    least_s, least_memory_s = (LEAST_STALLED_S, LEAST_STALLED_MEMORY_S) if is_stalled else (LEAST_S, LEAST_S)
    until_full = _until_full(counts, pending, caps, least_s)
    until_short = _until_short(points, sample, caps, least_memory_s)
    keeps_up = not is_stalled and not paused and backlog.late_s < pace.overdue_s
    if until_full and keeps_up and until_full > pace.settled_s:
        until_full = None
    if until_full is None and until_short is None:
        return seen(None, "")
    if until_short is None or (until_full is not None and until_full < until_short):
        return seen(until_full, "pending")
    return seen(until_short, "memory")


def lately(points: Sequence[Point], now: float) -> list[Point]:
    """The points of the window that ends now."""
    return [one for one in points if one.at >= now - WINDOW_S]


def is_silent_to_all(persisted: Persisted) -> bool:
    """Whether MongoDB, which does not answer a ping, answers nobody who persists just now either."""
    return persisted.last_s >= ANSWERED_S


def _why_stalled(breaker: str, mongodb_error: str, *, is_worked: bool) -> str:
    """The reason for which nothing can be persisted, be it paused or not; '' where it can."""
    if breaker not in {"closed", ""}:
        return f"MongoDB does not answer: the breaker is {breaker}"
    if mongodb_error:
        return mongodb_error
    return "" if is_worked else "no worker is at work on what is pending"


def _work_began(persisted: Persisted, late_s: float, pace: Pace) -> int | None:
    """The second since which what was due has been persisted without a pause; `None` while there is a pause.

    In all of that time something was due, so that the rate is what workers and MongoDB can do.
    """
    now, began, last = persisted.now, 0, -math.inf
    for second in sorted(persisted.by_second):
        if second - last > pace.overdue_s:
            began = second
        last = second
    if min(now - last, late_s) >= pace.overdue_s:
        return None
    return max(began, math.floor(now - min(late_s, WINDOW_S)))


def _until_drained(
    backlog: Backlog, persisted: Persisted | None, since: int | None, pace: Pace
) -> tuple[float | None, str]:
    """The time until all that is pending is persisted; or `None`, and why it is not known."""
    if not backlog.pending:
        return 0.0, ""
    at_least_s = backlog.due_within_s + pace.batch_s
    if backlog.late_s < pace.overdue_s:
        return _rounded(at_least_s), ""
    if persisted is None or since is None:
        return None, "it is not known what is persisted"
    lasted_s = persisted.now - since
    if lasted_s < LEAST_PERSISTED_S:
        return None, f"less than {LEAST_PERSISTED_S:g} s are known of what is persisted"
    rate = persisted.since(since) / lasted_s
    return _rounded(max(at_least_s, backlog.pending / rate) if rate else at_least_s), ""


def _until_last_turn(
    until_s: float, backlog: Backlog, pace: Pace, swept_ago_s: float | None
) -> tuple[float | None, str]:
    """The same, but not before somebody was at work on each partition; or `None`, and why it is not known.

    The rate is that of all partitions, and hides one that nobody sees to among others that are flushed.
    """
    overdue = [one for one in backlog.waiting if one.late_s >= pace.overdue_s]
    turns = [(one.turn_within_s(pace, swept_ago_s), one) for one in overdue]
    within_s, last = max(turns, key=lambda turn: turn[0], default=(0.0, None))
    if last is None or not within_s:
        return until_s, ""
    if math.isinf(within_s):
        return None, f"nobody is at work on partition {last.partition}, and no sweep sees to that"
    return max(until_s, _rounded(within_s + pace.batch_s)), ""


def _rounded(seconds: float) -> float:
    """A time to tenths of a second; never less than it is, and never 0."""
    return math.ceil(seconds * 10) / 10


def _in_stall(points: Sequence[Point]) -> Sequence[Point]:
    """The points since anything was last persisted, or nothing was pending: time without writes says nothing."""
    last = max(
        (at for at, one in enumerate(points) if one.number(PERSISTED) or one.number(PENDING) == 0), default=0
    )
    return points[last:]


def _since_stall(points: Sequence[Point], pace: Pace, paused: Paused) -> Sequence[Point]:
    """The points since MongoDB was last seen to be away, or nothing of what was overdue to be persisted.

    While collections are paused, those since then: what is old may be theirs, and says nothing of the others.
    """
    points = [one for one in points if all(one.at >= pause.since_ms / 1000 for pause in paused)]
    since, last = 0, points[0].at if points else 0.0
    for at, one in enumerate(points):
        if one.number(PERSISTED) != 0:  # or that is not known
            last = one.at
        is_overdue = not paused and (one.number(OLDEST) or 0.0) >= pace.longest_delay_s + pace.overdue_s
        is_away = one.figures.get(BREAKER, "closed") != "closed"
        if (is_away or is_overdue) and one.at - last >= pace.overdue_s:
            since = at + 1
    return points[since:]


def _while_overdue(points: Sequence[Point], pace: Pace) -> Sequence[Point]:
    """The points since something has been overdue all the time: a burst that came before is no growth."""
    since = 0
    for at, one in enumerate(points):
        oldest_s = one.number(OLDEST)
        if oldest_s is not None and oldest_s < pace.settled_s:
            since = at + 1
    return points[since:]


def _excess(points: Sequence[Point], persisted: Persisted) -> float | None:
    """The number of documents by which more comes per second than goes; `None` where it does not, or unknown."""
    growth = _slope(points, PENDING, LEAST_S)
    return round(growth, 1) if growth is not None and growth > GROWS * persisted.per_second else None


def _until_full(points: Sequence[Point], pending: Sequence[int], caps: Caps, least_s: float) -> float | None:
    """The time until the fullest partition is full, if each goes on growing by its part of the growth."""
    growth, fullest, together = _slope(points, PENDING, least_s), max(pending, default=0), sum(pending)
    if fullest >= caps.max_pending:
        return 0.0
    if growth is None or growth <= 0 or not fullest:
        return None
    return _near((caps.max_pending - fullest) / (growth * fullest / together))


def _until_short(points: Sequence[Point], sample: LoadSample, caps: Caps, least_s: float) -> float | None:
    """The time until Redis uses so much that no new document is taken; one that evicts makes room by itself.

    Of several servers that is the fullest one, which goes on growing by its part of the growth.
    """
    growth = _slope(points, "used_memory", least_s)
    if not sample.max_memory or sample.makes_room:
        return None
    left = sample.max_memory * caps.max_memory - sample.used_memory
    if left <= 0:
        return 0.0
    if growth is None or growth <= 0 or not sample.used_memory:
        return None
    together = sum(one.used_memory for one in sample.servers.values()) or sample.used_memory
    return _near(left / (growth * sample.used_memory / together))


def _near(seconds: float) -> float | None:
    return round(seconds, 1) if seconds < HORIZON_S else None


def _slope(points: Sequence[Point], name: str, least_s: float) -> float | None:
    """The number by which a figure grows per second, by the least squares; `None` where that is not known.

    A line through all points: the first and the last alone may be on either side of a batch.
    """
    known = _known(points, name)
    if not known or known[-1][0] - known[0][0] < least_s:
        return None
    mean_at = sum(at for at, _ in known) / len(known)
    mean = sum(number for _, number in known) / len(known)
    spread = sum((at - mean_at) ** 2 for at, _ in known)
    return sum((at - mean_at) * (number - mean) for at, number in known) / spread


def _known(points: Sequence[Point], name: str) -> list[tuple[float, float]]:
    """A figure by the time of each point that has it, of all partitions."""
    return [
        (one.at, number) for one in points if (number := one.number(name)) is not None and not one.number(AWAY)
    ]
