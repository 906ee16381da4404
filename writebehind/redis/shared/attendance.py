"""Beat and the exporter: which process of each was last at work, and when; and when Redis was back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from writebehind.process_identity import has_ended, host_of, is_stopped, mark, pid_of
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.remedies import is_beat_away
from writebehind.sequences import pairs

BEAT: Final = "beat"
EXPORTER: Final = "exporter"
#: In the place of a role: somebody has seen Redis answer again.
_BACK: Final = "redis-back"
#: For so long a process is remembered that was at work, seconds.
REMEMBERED_S: Final = 86_400

_RECORD = script("record_heartbeat")


@dataclass(frozen=True, slots=True)
class Attendant:
    """The process that was last at work in a role.

    Attributes:
        seconds_ago: when it last was.
        pid: its id on its machine, or in its container; `None` where the system tells none, or it has
            ended, so that nobody is sent to it.
        host: the name of that machine or container; `None` where it is not known.
        is_stopped: whether it is stopped, as by SIGSTOP; false where that cannot be seen from here.
    """

    seconds_ago: float
    pid: int | None
    host: str | None
    is_stopped: bool


def of_beat(swept_ago_s: float | None, attendants: Mapping[str, Attendant], *, sweep_s: float) -> dict[str, Any]:
    """Figures of beat, for a status: the times since the last sweep and since it asked for one, and its process.

    Args:
        swept_ago_s: the time since the last sweep, seconds; `None` where there was none.
        attendants: who was last at work, by role.
        sweep_s: between two sweeps, seconds.
    """
    asked = attendants.get(BEAT)
    told = {
        "swept_seconds_ago": swept_ago_s,
        "asked_seconds_ago": asked and asked.seconds_ago,
        **process_of(BEAT, attendants),
    }
    return told | {"is_silent": is_beat_away(told, sweep_s, back_s=back_s(attendants))}


def back_s(attendants: Mapping[str, Attendant]) -> float | None:
    """The time since Redis was seen to answer again after an outage, seconds; `None` where that is not known."""
    return attendants[_BACK].seconds_ago if _BACK in attendants else None


def process_of(role: str, attendants: Mapping[str, Attendant]) -> dict[str, Any]:
    """The process that was last at work in a role, for a status, as far as it is known."""
    one = attendants.get(role)
    return {"pid": one and one.pid, "host": one and one.host, "is_stopped": bool(one and one.is_stopped)}


class Attendance:
    """Processes at work, in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def note(self, role: str) -> None:
        """Note that this process is at work as `BEAT` or `EXPORTER`, also in a full Redis.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._wire.run(_RECORD, (keys.OBSERVED,), (f"{role} {mark()}", REMEMBERED_S * 1000, 0))

    def note_back(self) -> None:
        """Note that Redis answers again, to which nobody could tell that he works. Raises as `note`."""
        self._wire.run(_RECORD, (keys.OBSERVED,), (f"{_BACK} ", REMEMBERED_S * 1000, 0))

    def look(self, now_ms: int) -> dict[str, Attendant]:
        """The process that was at work last, by role; none that was not within a day. Raises as `note`."""
        noted = self._wire.call("ZRANGE", keys.OBSERVED, 0, -1, "REV", "WITHSCORES")
        found: dict[str, Attendant] = {}
        for name, at_ms in pairs(noted):
            role, _, one = name.decode(errors="replace").partition(" ")
            if role in (BEAT, EXPORTER, _BACK) and role not in found:
                ago_s = max(0.0, (now_ms - whole(at_ms)) / 1000)
                pid = None if has_ended(one) else pid_of(one)
                found[role] = Attendant(ago_s, pid, host_of(one), is_stopped(one))
        return found
