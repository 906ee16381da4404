"""The state of the listener as it stands in Redis: for whoever leads next, and for the status."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from writebehind.process_identity import is_stopped, pid_of
from writebehind.process_remedies import LISTENER_UNHEARD_S
from writebehind.redis.shared.attendance import Outage
from writebehind.redis.store import Store
from writebehind.silence import is_listener_away

#: A token that none is: what was noted cannot be read, so nobody knows what was missed.
UNREADABLE = "-"
#: MongoDB answers a listener each second: one that has not heard of it for longer is not connected, seconds.
UNHEARD_S = LISTENER_UNHEARD_S


@dataclass(slots=True)
class ListenerState:
    """State that a listener notes for its successor, and for the status.

    Attributes:
        token: the resume token, BSON in hexadecimal; '' before the first.
        leader: the name of whoever leads.
        at_ms: when it was noted, by the clock of Redis.
        lag_s: how old the oldest event of the last batch was when it was applied, seconds.
        events: how many there were; `ours` of them the pipeline's own.
        invalidated: entries that were dropped because of others' changes.
        conflicts: changes to what was pending.
        overtaken: pending writes that are written once more because of a change.
        skipped: events that could not be understood.
        reopened: how often the history was lost.
        error: what is wrong now, '' for nothing.
        heard_ms: when MongoDB last owed the listener no answer, by the clock of Redis; 0 for never. What was not
            asked, as Redis was away, is not owed.
        alive_ms: when the listener was last at work, be it only at waiting for MongoDB; by the same clock.
        process: the mark of its process, as `writebehind.process_identity` has it; '' where the system tells none.
    """

    token: str = ""
    leader: str = ""
    at_ms: int = 0
    lag_s: float = 0.0
    events: int = 0
    ours: int = 0
    invalidated: int = 0
    conflicts: int = 0
    overtaken: int = 0
    skipped: int = 0
    reopened: int = 0
    error: str = ""
    heard_ms: int = 0
    alive_ms: int = 0
    process: str = ""

    def dump(self) -> bytes:
        """As it stands in Redis."""
        return orjson.dumps(self)

    @classmethod
    def parse(cls, text: bytes) -> ListenerState:
        """Read what `dump` wrote, here or in another release, which may have noted more."""
        try:
            noted, blank = orjson.loads(text or b"{}"), cls()
            known = {one.name: getattr(blank, one.name) for one in fields(cls)}
            told = {name: value for name, value in noted.items() if name in known}
            kinds = {name: (int, float) if isinstance(one, float) else type(one) for name, one in known.items()}
            is_ours = all(isinstance(value, kinds[name]) for name, value in told.items())
            return cls(**told) if is_ours else cls(token=UNREADABLE)
        except (ValueError, TypeError, AttributeError):
            return cls(token=UNREADABLE)

    def as_dict(self, now_ms: int, *, outage: Outage | None = None) -> dict[str, Any]:
        """For the status; `outage` as `listener_status` takes it."""
        counts = ("events", "ours", "invalidated", "conflicts", "overtaken", "skipped", "reopened")
        names = ("leader", "lag_s", *counts)
        heard_ms = self.heard_ms or (0 if self.error else self.at_ms)  # a release before this one notes no other
        heard_s = _since(heard_ms, now_ms) if heard_ms else None
        alive_s = _since(max(self.alive_ms, self.at_ms), now_ms)
        told = {
            "seconds_ago": _since(self.at_ms, now_ms),
            "alive_seconds_ago": alive_s,
            "heard_seconds_ago": heard_s,
            "away_seconds": heard_s if heard_s is not None and heard_s - alive_s > UNHEARD_S else None,
            **{name: getattr(self, name) for name in names},
            "error": self.error or None,
            "pid": pid_of(self.process),
            "is_stopped": is_stopped(self.process),
        }
        return told | {"is_silent": is_listener_away(told, outage)}


def _since(then_ms: int, now_ms: int) -> float:
    return max(0.0, (now_ms - then_ms) / 1000)


def listener_status(
    store: Store, now_ms: int | None = None, *, outage: Outage | None = None
) -> dict[str, Any] | None:
    """The listener's figures in the status; `None` where none has ever run. The time is asked for if not given.

    Args:
        store: where it is noted.
        now_ms: the time by the clock of Redis.
        outage: the last one of Redis; `None` where there was none lately.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    noted = store.position.noted()
    if not noted:
        return None
    return ListenerState.parse(noted).as_dict(store.now_ms() if now_ms is None else now_ms, outage=outage)
