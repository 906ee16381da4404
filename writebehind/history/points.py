"""Points of the history: the figures of a second, or of a longer time, as they stand in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

import orjson

from writebehind.reading.read import Source
from writebehind.settings.names import QUEUES

#: So many points of a second are kept: 3 minutes.
MOST_FINE: Final = 180
#: The longer time, seconds; and so many of it are kept: the rest of the hour.
COARSE_S: Final = 15
MOST_COARSE: Final = (3_600 - MOST_FINE) // COARSE_S
#: Sources of reads whose latency is told apart.
SOURCES: Final = tuple(one.value for one in Source)
#: Of these latencies, percent.
PERCENTILES: Final = (50, 99)

#: Rates and fractions, of which a longer time has the mean. Of the others it has the greatest: no peak is lost.
_MEANS: Final = (
    "acknowledged_per_second",
    "persisted_per_second",
    "operations_per_second",
    "evictions_per_second",
    "hit_ratio",
    "mongodb_operations_per_second",
)
_PEAKS: Final = (
    "pending",
    "pending_bytes",
    "oldest_pending_seconds",
    "dead_letters",
    "used_memory",
    "max_memory",
    "mongodb_connections",
)
BREAKER: Final = "breaker"
#: Those that the hit ratio is of, so that it can be told of a longer time.
READS: Final = "reads_per_second"
#: Partitions whose server does not answer while others do: the other figures are without theirs.
AWAY: Final = "partitions_away"
#: Time before the point in which Redis did not answer whoever records; only known where there was any.
REDIS_AWAY: Final = "redis_away_seconds"


def latency(source: str, percent: int) -> str:
    """The name of a latency, seconds."""
    return f"latency.{source}.p{percent}"


def depth(queue: str) -> str:
    """The name of the number of messages in a queue of the broker."""
    return f"broker.{queue}"


#: The figures in their order, after the time. What another version has recorded is read too: add at the end only.
COLUMNS: Final = (
    *_MEANS,
    *_PEAKS,
    BREAKER,
    *(latency(source, percent) for source in SOURCES for percent in PERCENTILES),
    *map(depth, QUEUES),
    READS,
    AWAY,
    REDIS_AWAY,
)

Figure = float | int | str | None
#: No figure is so large, be it of bytes.
_BEYOND_ALL: Final = 10.0**18


@dataclass(frozen=True, slots=True)
class Point:
    """One point.

    Attributes:
        at: its time by the clock of Redis, seconds since the epoch.
        figures: by name; those that are not known are not there.
    """

    at: float
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @classmethod
    def parse(cls, noted: bytes) -> Point | None:
        """Read what `dump` wrote, here or in a newer release, which adds columns at the end.

        Returns:
            `None` for what other hands have put there.
        """
        try:
            values = orjson.loads(noted)
        except ValueError:
            return None
        match values:
            case [int() | float() as at, *figures] if not isinstance(at, bool):
                known = dict(zip(COLUMNS, figures, strict=False))
                if all(map(_is_figure, known.values())):
                    return cls(at, {name: figure for name, figure in known.items() if figure is not None})
        return None

    def dump(self) -> bytes:
        """The point as it stands in Redis: a list of its time and its figures, rounded."""
        return orjson.dumps([round(self.at, 3), *(_rounded(self.figures.get(name)) for name in COLUMNS)])

    def number(self, name: str) -> float | None:
        """A figure that is a number; `None` where it is not known."""
        figure = self.figures.get(name)
        return None if figure is None or isinstance(figure, str) else figure

    @classmethod
    def joined(cls, points: Sequence[Point]) -> Point:
        """One point for several that follow each other, at the time of the last."""
        figures: dict[str, Figure] = {}
        for name in COLUMNS:
            if name == BREAKER:
                states = [one.figures[name] for one in points if name in one.figures]
                broken = [one for one in states if one != "closed"]
                figures |= {name: [*states, *broken][-1]} if states else {}
            elif numbers := [number for one in points if (number := one.number(name)) is not None]:
                figures[name] = fmean(numbers) if name in {*_MEANS, READS} else max(numbers)
        return cls(points[-1].at, figures)


def read(noted: Sequence[bytes], now: float) -> list[Point]:
    """The points, in the order of their times, from what Redis has: the last one first.

    A clock that has stepped back leaves points that lie ahead, or come before earlier ones: they are left out.
    """
    found: list[Point] = []
    earliest = now
    for one in noted:
        point = Point.parse(one)
        if point is not None and point.at <= earliest and (not found or point.at < earliest):
            found.append(point)
            earliest = point.at
    return found[::-1]


def _is_figure(value: Any) -> bool:
    """Whether it is one, or none is known: no figure is below 0, or beyond all that there is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0 <= value < _BEYOND_ALL
    return value is None or isinstance(value, str)


def _rounded(figure: Figure) -> Figure:
    """A figure to six digits or so, which is more than charts show."""
    if not isinstance(figure, float):
        return figure
    return float(f"{figure:.6g}")
