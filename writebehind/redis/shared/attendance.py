"""Beat and the exporter: which process of each was last at work, and when; and when Redis was away.

Workers, the exporter, beat and sweeps note every few seconds that they see Redis. Where none of them has for long
it was away, which is decided in Redis: a process whose own way there was broken knows nothing of the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from writebehind.process_identity import has_ended, host_of, is_stopped, mark, pid_of
from writebehind.redis import keys
from writebehind.redis.reach import known
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

BEAT: Final = "beat"
EXPORTER: Final = "exporter"
#: In the place of a role, before the time at which Redis was seen last: it was away until this was noted.
_AWAY: Final = "redis-away"
#: The name under which somebody last noted that it sees Redis.
_SEEN: Final = b"redis-seen"
#: A process notes that it sees Redis so often at most, seconds; where nobody has for so long it was away, ms.
SEES_EVERY_S, AWAY_MS = 3.0, 10_000
#: Where nobody has for so long, and not yet for that long, Redis was away and is seen again just now, seconds.
_UNSEEN_S: Final = SEES_EVERY_S + 1
#: What lies further ahead is of a clock that was set back since, and says nothing, ms.
_AHEAD_MS: Final = 15_000
#: For so long a process is remembered that was at work, seconds.
REMEMBERED_S: Final = 86_400

_RECORD = script("record_attendance")


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


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which Redis was away.

    Attributes:
        began_s: when Redis was seen last before, seconds ago.
        ended_s: when it was seen first after it, seconds ago.
    """

    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Attendants:
    """Processes that were last at work, by role, and the last outage of Redis.

    Attributes:
        by_role: the process, by `BEAT` or `EXPORTER`; none that was not at work within a day.
        outage: the last one of Redis; `None` where there was none within a day.
        seen_s: when somebody last noted that it sees Redis, seconds ago; `None` for not within a day.
    """

    by_role: Mapping[str, Attendant] = field(default_factory=dict)
    outage: Outage | None = None
    seen_s: float | None = None


def process_of(role: str, attendants: Attendants) -> dict[str, Any]:
    """The process that was last at work in a role, for a status, as far as it is known."""
    one = attendants.by_role.get(role)
    return {"pid": one and one.pid, "host": one and one.host, "is_stopped": bool(one and one.is_stopped)}


class Attendance:
    """Processes at work, in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire
        self._saw_s = float("-inf")

    def note(self, role: str) -> None:
        """Note that this process is at work as `BEAT` or `EXPORTER`, also in a full Redis.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._record(f"{role} {mark()}")

    def note_seen(self) -> None:
        """Note that this process sees Redis, unless it has just done so, or the server that has it is away.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if time.monotonic() - self._saw_s >= SEES_EVERY_S:
            known(self._wire, lambda: self._record(""), None)

    def _record(self, name: str) -> None:
        self._wire.run(_RECORD, (keys.OBSERVED,), (name, REMEMBERED_S * 1000, AWAY_MS, _AHEAD_MS))
        self._saw_s = time.monotonic()

    def look(self, now_ms: int) -> Attendants:
        """The processes that were at work last, and the last outage. Raises as `note`."""
        until = now_ms + _AHEAD_MS
        noted = self._wire.call("ZRANGE", keys.OBSERVED, until, "-inf", "BYSCORE", "REV", "WITHSCORES")
        by_role: dict[str, Attendant] = {}
        outage = seen_s = None
        for name, at_ms in pairs(noted):
            role, _, rest = name.decode(errors="replace").partition(" ")
            ago_s = _since(whole(at_ms), now_ms)
            if name == _SEEN:
                seen_s = ago_s
            elif role in (BEAT, EXPORTER) and role not in by_role:
                pid = None if has_ended(rest) else pid_of(rest)
                by_role[role] = Attendant(ago_s, pid, host_of(rest), is_stopped(rest))
            elif role == _AWAY and outage is None and rest.isdecimal():
                outage = Outage(_since(int(rest), now_ms), ago_s)
        if seen_s is not None and _UNSEEN_S < seen_s < AWAY_MS / 1000 and (not outage or outage.ended_s > seen_s):
            outage = Outage(seen_s, 0.0)
        return Attendants(by_role, outage, seen_s)


def _since(then_ms: int, now_ms: int) -> float:
    return max(0.0, (now_ms - then_ms) / 1000)
