"""Series of the last hour, as the API tells them: one list for each figure, and one of times."""

from __future__ import annotations

from typing import Any

from writebehind.history.points import BREAKER, COLUMNS, PERCENTILES, SOURCES, Point, depth, latency, read
from writebehind.redis.reach import known
from writebehind.redis.store import Store
from writebehind.settings.names import QUEUES

#: What is shown begins so long ago, seconds.
SHOWN_S = 3_600


def series(store: Store, *, since: float = 0.0) -> dict[str, Any]:
    """Every figure of the last hour in a list, and the times that they belong to, of what is later than `since`.

    Args:
        store: where it is recorded.
        since: seconds since the epoch, by the clock of Redis, as in the last answer.

    Returns:
        What there is; nothing of the past where the server that has it is away and others are not.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    now = store.now_ms() / 1000
    points = [one for one in _points(store, now) if one.at > max(since, now - SHOWN_S)]
    nested = {name.partition(".")[0] for name in COLUMNS if "." in name}
    flat = [name for name in COLUMNS if name.partition(".")[0] not in nested]
    return {
        "now": round(now, 3),
        "time": [one.at for one in points],
        **{name: _of(points, name) for name in flat if name != BREAKER},
        BREAKER: _of(points, BREAKER),
        "latency": {
            source: {f"p{percent}": _of(points, latency(source, percent)) for percent in PERCENTILES}
            for source in SOURCES
        },
        "broker": {queue: _of(points, depth(queue)) for queue in QUEUES},
    }


def _points(store: Store, now: float) -> list[Point]:
    """Points of longer times, and from where there are those of a second these."""
    nothing: tuple[list[bytes], list[bytes]] = ([], [])
    fine, coarse = (read(one, now) for one in known(store, store.history.all, nothing))
    return [*(one for one in coarse if not fine or one.at < fine[0].at), *fine]


def _of(points: list[Point], name: str) -> list[Any]:
    return [one.figures.get(name) for one in points]
