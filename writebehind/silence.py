"""Silence: for how long a process may show no sign of life before it is missing, and what excuses one that is.

Nobody can do anything while Redis is away. What was at work when it was lost is given time after its return; what
was silent before, or has fallen silent since, is not excused by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from writebehind.process_remedies import LISTENER_UNHEARD_S
from writebehind.redis.shared.attendance import Outage
from writebehind.redis.shared.workers import WORKER_LIFE_MS, SilentWorker

#: So many sweeps in a row may be missing.
BEAT_MISSED: Final = 4
#: For so long an exporter may neither record anything nor note that it is at work, seconds.
EXPORTER_SILENT_S: Final = 30.0
#: After an outage of Redis each is at work again within so long, seconds.
RETURNS_S: Final = 30.0
#: A periodic task that is done less often than sweeps is late at the earliest after so long, seconds.
_LATE_S: Final = 60.0


def is_missing(silent_s: float, most_s: float, outage: Outage | None = None) -> bool:
    """Whether something is silent for too long, and no outage of Redis excuses it.

    Args:
        silent_s: the time since its last sign of life, seconds.
        most_s: for so long it may be silent, seconds.
        outage: the last one of Redis; `None` where there was none lately.
    """
    return silent_s > most_s and not (outage and _excuses(outage, silent_s, most_s))


def _excuses(outage: Outage, silent_s: float, most_s: float) -> bool:
    """Whether it was at work when Redis was lost, and has had no time yet to show a sign of life since."""
    was_at_work = silent_s - outage.began_s <= most_s
    return was_at_work and outage.ended_s <= min(RETURNS_S, silent_s)


def is_beat_away(beat: Mapping[str, Any], sweep_s: float, outage: Outage | None = None) -> bool:
    """Whether beat is stopped, or several sweeps in a row are missing, or there was none.

    Args:
        beat: as a status has it.
        sweep_s: between two sweeps, seconds.
        outage: as `is_missing` takes it.
    """
    swept_s = beat["swept_seconds_ago"]
    return bool(beat["is_stopped"]) or swept_s is None or is_missing(swept_s, BEAT_MISSED * sweep_s, outage)


def is_exporter_away(exporter: Mapping[str, Any], outage: Outage | None = None) -> bool:
    """Whether an exporter, as a status has it, is stopped, or shows no sign of life; `outage` as there."""
    alive_s = exporter["alive_seconds_ago"]
    is_silent = alive_s is not None and is_missing(alive_s, EXPORTER_SILENT_S, outage)
    return bool(exporter["is_stopped"]) or is_silent


def is_listener_away(listener: Mapping[str, Any], outage: Outage | None = None) -> bool:
    """Whether a listener, as a status has it, is stopped, or notes no more that it lives; `outage` as there."""
    is_silent = is_missing(listener["alive_seconds_ago"], LISTENER_UNHEARD_S, outage)
    return bool(listener["is_stopped"]) or is_silent


def missing_and_awaited(
    silent: Sequence[SilentWorker], outage: Outage | None = None
) -> tuple[list[SilentWorker], list[SilentWorker]]:
    """Silent workers that are missing; and those that an outage of Redis excuses, so that they are waited for."""
    missing = [
        one for one in silent if one.is_stopped or is_missing(one.seconds_ago, WORKER_LIFE_MS / 1000, outage)
    ]
    return missing, [one for one in silent if one not in missing]


def is_task_late(seconds_ago: float, took_s: float, every_s: float, outage: Outage | None = None) -> bool:
    """Whether several runs of a periodic task in a row are missing: it ended so long ago, and took so long."""
    return is_missing(seconds_ago, max(_LATE_S, BEAT_MISSED * every_s) + took_s, outage)
