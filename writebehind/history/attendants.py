"""Beat and the exporter, as a status has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from writebehind.history.points import Point
from writebehind.redis.shared.attendance import BEAT, EXPORTER, Attendants, process_of
from writebehind.silence import is_beat_away, is_exporter_away


def of_beat(swept_ago_s: float | None, attendants: Attendants, *, sweep_s: float) -> dict[str, Any]:
    """Figures of beat: the times since the last sweep and since it asked for one, and its process.

    Its sweep is awaited where it is missing, and an outage of Redis excuses that.

    Args:
        swept_ago_s: the time since the last sweep, seconds; `None` where there was none.
        attendants: who was last at work.
        sweep_s: between two sweeps, seconds.
    """
    asked = attendants.by_role.get(BEAT)
    told = {
        "swept_seconds_ago": swept_ago_s,
        "asked_seconds_ago": asked and asked.seconds_ago,
        **process_of(BEAT, attendants),
    }
    is_silent = is_beat_away(told, sweep_s, attendants.outage)
    is_awaited = swept_ago_s is not None and not is_silent and is_beat_away(told, sweep_s)
    return told | {"is_silent": is_silent, "is_awaited": is_awaited}


def of_exporter(last: Sequence[Point], attendants: Attendants, now: float) -> dict[str, Any]:
    """Figures of the exporter: the times since one has recorded something, and shown a sign of life; its process.

    It pauses where recording takes much of a core, and notes meanwhile that it is at work.

    Args:
        last: the last point of the history; none where nobody has recorded any.
        attendants: who was last at work.
        now: seconds since the epoch.
    """
    recorded_s = max(0.0, now - last[0].at) if last else None
    noted = attendants.by_role.get(EXPORTER)
    alive_s = min(recorded_s, noted.seconds_ago) if noted and recorded_s is not None else recorded_s
    told = {
        "recorded_seconds_ago": recorded_s,
        "alive_seconds_ago": alive_s,
        **process_of(EXPORTER, attendants),
    }
    return told | {"is_silent": is_exporter_away(told, attendants.outage)}
