"""What a pass finds, and the history of passes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from writebehind import keys
from writebehind.connections import Wire
from writebehind.errors import RedisFullError

#: So many passes are remembered, and for so long, ms: a week.
MOST_PASSES, REMEMBERED_MS = 200, 7 * 24 * 3_600_000
#: Examples of each kind in one pass.
MOST_SAMPLES = 10


class Drift(StrEnum):
    """Kinds of drift, and how each is repaired."""

    UNSCHEDULED = "unscheduled"
    """Documents are overdue, and no flush is on its way. A flush is enqueued."""
    LOST_ENTRY = "lost-entry"
    """A document is pending but its entry is gone: a write was lost. It becomes a dead letter that says so."""
    STALE_ENTRY = "stale-entry"
    """Redis has something else than MongoDB. The entry is dropped."""
    LOST_IN_MONGODB = "lost-in-mongodb"
    """Redis has a newer version than MongoDB. It is pending again."""
    RESURRECTED = "resurrected"
    """MongoDB has a document that was deleted since. It is deleted again."""
    ORPHANED_LETTER = "orphaned-letter"
    """The document of a dead letter is gone from Redis. The letter says so from then on."""
    MISCOUNTED_LETTERS = "miscounted-letters"
    """The counts of dead letters are wrong. They are counted anew."""
    DANGLING_ALIAS = "dangling-alias"
    """A document claims a value, and is not pending. The claim is taken back."""
    IMMORTAL_TOKEN = "immortal-token"  # noqa: S105 - no secret
    """A load token, a lease or a ticket has outlived its owner. It is deleted."""


@dataclass(slots=True)
class Pass:
    """One pass over the cache, finished or under way.

    Attributes:
        started_ms: by the clock of Redis; `ended_ms` is 0 while it is under way.
        cursor: where the scan of Redis goes on.
        keys: how many were looked at.
        checked: entries that MongoDB has to have; `equal` of them were what it has.
        found: how many of each kind; `repaired` of them were.
        samples: some of each kind, by name.
        dry_run: whether nothing was to be repaired.
    """

    started_ms: int = 0
    ended_ms: int = 0
    cursor: str = "0"
    keys: int = 0
    checked: int = 0
    equal: int = 0
    found: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    dry_run: bool = False

    def note(self, kind: Drift, name: str, *, repaired: bool, count: int = 1) -> None:
        """Count a finding."""
        self.found[kind.value] = self.found.get(kind, 0) + count
        if repaired:
            self.repaired[kind.value] = self.repaired.get(kind, 0) + count
        samples = self.samples.setdefault(kind.value, [])
        if len(samples) < MOST_SAMPLES:
            samples.append(name)

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        shown = asdict(self)
        del shown["cursor"]
        return shown | {"consistency": self.equal / self.checked if self.checked else None}


class History:
    """The pass under way, and the last ones. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep them on a server."""
        self._wire = wire

    def current(self) -> Pass:
        """The pass under way, or a new one."""
        noted = self._wire.call("GET", keys.RECONCILE)
        return Pass(**orjson.loads(noted)) if noted else Pass(started_ms=self._wire.now_ms())

    def save(self, one: Pass) -> None:
        """Note how far the pass under way has come; not while Redis is full: then the last slice is done again."""
        with suppress(RedisFullError):
            self._wire.call("SET", keys.RECONCILE, orjson.dumps(one))

    def finish(self, one: Pass) -> None:
        """Add a pass to the history, and forget what is old."""
        one.ended_ms = self._wire.now_ms()
        with suppress(RedisFullError):
            self._wire.calls(
                [
                    ("LPUSH", keys.DRIFT, orjson.dumps(one)),
                    ("LTRIM", keys.DRIFT, 0, MOST_PASSES - 1),
                    ("PEXPIRE", keys.DRIFT, REMEMBERED_MS),
                ]
            )

    def forget_current(self) -> None:
        """The next pass begins anew."""
        self._wire.call("DEL", keys.RECONCILE)

    def passes(self, limit: int = MOST_PASSES) -> list[Pass]:
        """The last passes of a week, the last first."""
        found = [Pass(**orjson.loads(one)) for one in self._wire.call("LRANGE", keys.DRIFT, 0, limit - 1)]
        oldest = self._wire.now_ms() - REMEMBERED_MS
        return [one for one in found if one.ended_ms >= oldest]

    def consistency(self) -> dict[str, Any]:
        """The fraction of cached documents that were equal to MongoDB, of the last pass and the one under way."""
        some = [*self.passes(1), self.current()]
        checked, equal = sum(one.checked for one in some), sum(one.equal for one in some)
        return {"checked": checked, "equal": equal, "ratio": equal / checked if checked else None}


#: Called with a pass after each slice.
Report = Callable[[Pass], None]
