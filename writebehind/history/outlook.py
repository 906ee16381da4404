"""The near future, if all goes on as it does: when what is acknowledged is safe, and when writes are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from writebehind.history.points import AWAY, BREAKER, Point
from writebehind.plurals import counted
from writebehind.redis.reach import told_away
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample

#: Rates are taken over so many seconds, and of points that lie so far apart at least.
WINDOW_S: Final = 30.0
LEAST_S: Final = 10.0
#: What half a minute says of later than this is chance, seconds.
HORIZON_S: Final = 3_600.0
#: The figure that says how fast pending documents go to MongoDB.
PERSISTED: Final = "persisted_per_second"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The near future.

    Attributes:
        safe: whether MongoDB has all that was acknowledged.
        seconds_until_safe: when it has all that is acknowledged by now; `None` while nothing is persisted, or
            where dead letters stand, which no waiting brings there.
        seconds_until_drained: the same of what is pending, whatever dead letters there are.
        not_safe_because: why there is no `seconds_until_safe`; '' where there is.
        seconds_until_cap: when the first cap is reached; `None` if not within `HORIZON_S`, or unknown.
        cap: which one: `pending` or `memory`; '' for none.
    """

    safe: bool
    seconds_until_safe: float | None
    seconds_until_drained: float | None
    not_safe_because: str
    seconds_until_cap: float | None
    cap: str

    def as_dict(self) -> dict[str, Any]:
        """For a status."""
        return {
            "safe": self.safe,
            "seconds_until_safe": self.seconds_until_safe,
            "seconds_until_drained": self.seconds_until_drained,
            "not_safe_because": self.not_safe_because or None,
            "seconds_until_cap": self.seconds_until_cap,
            "cap": self.cap or None,
        }


def outlook(
    points: Sequence[Point],
    sample: LoadSample,
    caps: Caps,
    *,
    pending: Sequence[int],
    dead: int,
    breaker: str,
    is_worked: bool,
    drained: float | None,
) -> Outlook:
    """The outlook from what is seen now.

    What is acknowledged by now goes to MongoDB before what is acknowledged later, as documents are flushed in the
    order in which they are due. So arrivals do not put off when it is safe; they bring the caps nearer. What
    happened until MongoDB was back says nothing of what comes: rates are of the time since.

    Args:
        points: of the last seconds, in the order of their times.
        sample: the memory of Redis, and which of its servers are away: what these have is not known.
        caps: see there.
        pending: documents that wait, by partition.
        dead: dead letters.
        breaker: the state of the breaker before MongoDB.
        is_worked: whether any worker is at work on what is pending.
        drained: documents persisted per second, where no points say so; `None` where that is not known.
    """
    since = _since_outage(points) if breaker in {"closed", ""} else points
    was_away, points = len(since) < len(points), since
    until_drained, because = _until_drained(
        points, sum(pending), breaker, is_worked=is_worked, drained=None if was_away else drained
    )
    if lost := {server: partitions for server, partitions in sample.away.items() if partitions}:
        until_drained, because = None, "; ".join(filter(None, (because, told_away(lost))))
    until_safe = None if dead else until_drained
    letters = f"{counted(dead, 'dead letter')}, which a person has to replay or discard" if dead else ""
    because = "; ".join(filter(None, (because, letters)))
    seen = partial(Outlook, not (dead or any(pending) or lost), until_safe, until_drained, because)
    until_full, until_short = _until_full(points, pending, caps), _until_short(points, sample, caps)
    if until_full is None and until_short is None:
        return seen(None, "")
    if until_short is None or (until_full is not None and until_full <= until_short):
        return seen(until_full, "pending")
    return seen(until_short, "memory")


def lately(points: Sequence[Point], now: float) -> list[Point]:
    """The points of the window that ends now."""
    return [one for one in points if one.at >= now - WINDOW_S]


def _since_outage(points: Sequence[Point]) -> Sequence[Point]:
    """The points since MongoDB was last seen to be away."""
    broken = [at for at, one in enumerate(points) if one.figures.get(BREAKER, "closed") != "closed"]
    return points[broken[-1] + 1 :] if broken else points


def _until_drained(
    points: Sequence[Point], pending: int, breaker: str, *, is_worked: bool, drained: float | None
) -> tuple[float | None, str]:
    if not pending:
        return 0.0, ""
    if breaker == "open":
        return None, "MongoDB does not answer: the breaker is open"
    if not is_worked:
        return None, "no worker is at work on what is pending"
    rates = _known(points, PERSISTED)
    rate = sum(one for _, one in rates) / len(rates) if _lasts(rates) else drained
    if rate is None:
        return None, f"less than {LEAST_S:.0f} s are known of what is persisted"
    if rate <= 0:
        return None, f"nothing was persisted in the last {WINDOW_S:.0f} s"
    return round(pending / rate, 1), ""


def _until_full(points: Sequence[Point], pending: Sequence[int], caps: Caps) -> float | None:
    """The time until the fullest partition is full, if each goes on growing by its part of the growth."""
    growth, fullest, together = _slope(points, "pending"), max(pending, default=0), sum(pending)
    if fullest >= caps.max_pending:
        return 0.0
    if growth is None or growth <= 0 or not fullest:
        return None
    return _near((caps.max_pending - fullest) / (growth * fullest / together))


def _until_short(points: Sequence[Point], sample: LoadSample, caps: Caps) -> float | None:
    """The time until Redis uses so much that no new document is taken; one that evicts makes room by itself."""
    growth = _slope(points, "used_memory")
    if not sample.max_memory or sample.makes_room:
        return None
    left = sample.max_memory * caps.max_memory - sample.used_memory
    if left <= 0:
        return 0.0
    return None if growth is None or growth <= 0 else _near(left / growth)


def _near(seconds: float) -> float | None:
    return round(seconds, 1) if seconds < HORIZON_S else None


def _slope(points: Sequence[Point], name: str) -> float | None:
    """The number by which a figure grows per second, by the least squares; `None` where that is not known.

    A line through all points: the first and the last alone may be on either side of a batch.
    """
    known = _known(points, name)
    if not _lasts(known):
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


def _lasts(known: Sequence[tuple[float, float]]) -> bool:
    """Whether figures are of a time that is long enough to say what comes."""
    return bool(known) and known[-1][0] - known[0][0] >= LEAST_S
