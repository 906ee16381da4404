"""The exporter, as a status has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from writebehind.history.points import Point
from writebehind.redis.shared.attendance import EXPORTER, Attendant, back_s, process_of
from writebehind.remedies import is_exporter_away


def of_exporter(last: Sequence[Point], attendants: Mapping[str, Attendant], now: float) -> dict[str, Any]:
    """Figures of the exporter: the time since one has recorded something, and its process.

    Args:
        last: the last point of the history; none where nobody has recorded any.
        attendants: who was last at work, by role.
        now: seconds since the epoch.
    """
    recorded_s = max(0.0, now - last[0].at) if last else None
    told = {"recorded_seconds_ago": recorded_s, **process_of(EXPORTER, attendants)}
    return told | {"is_silent": is_exporter_away(told, back_s=back_s(attendants))}
