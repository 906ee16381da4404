"""Findings of a pass, and the history of passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, Self

import orjson
from pydantic import Field, TypeAdapter

from writebehind.redis import keys
from writebehind.redis.shared.lease import Lease
from writebehind.redis.store import Store

#: How long passes are remembered, ms: a week.
REMEMBERED_MS = 7 * 24 * 3_600_000
#: So many passes that found drift are, one each ten minutes; and so many that found none, which tell little.
MOST_PASSES, MOST_CLEAN = 1_000, 200
#: So many in a row may be of processes that tell what a failover has lost, and have compared nothing.
MOST_LOSSES = 50
#: A number of a pass, a cursor in a key, and one of a scan, which says at which of several servers it is.
Number = Annotated[int, Field(ge=0, lt=1 << 53)]
Cursor = Annotated[str, Field(pattern="^[0-9]{1,19}$")]
ScanCursor = Annotated[str, Field(pattern="^[0-9]{1,19}(@[0-9]{1,4})?$")]
#: Examples of each kind in one pass.
MOST_SAMPLES = 10


class Drift(StrEnum):
    """Kinds of drift, and how each is repaired."""

    UNSCHEDULED = "unscheduled"
    """Documents are overdue, and no flush is on its way. A flush is enqueued."""
    LOST = "lost"
    """A failover of Redis has lost a write, told with its version. Who had acknowledged it commits it again."""
    LOST_ENTRY = "lost-entry"
    """A document is pending but its entry is gone: a write was lost. It becomes a dead letter that says so."""
    STALE_ENTRY = "stale-entry"
    """Redis has something else than MongoDB. The entry is dropped."""
    VANISHED = "vanished"
    """MongoDB has no more what Redis has. The entry is dropped, unless so many are that it may have lost them."""
    DAMAGED_ENTRY = "damaged-entry"
    """A body does not fit its ETag, or nobody can read it. It is dropped; a pending write is a dead letter."""
    LOST_IN_MONGODB = "lost-in-mongodb"
    """Redis has a newer version than MongoDB, or a write that is not marked as pending. It is pending again."""
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


class _Noted:
    """A dataclass that is noted as JSON, and read by releases that know other fields of it."""

    __slots__ = ()

    @classmethod
    def read(cls, told: object) -> Self:
        """Read a note, as far as this release understands it; the rest is as at the beginning."""
        one = cls()
        for name, value in told.items() if isinstance(told, dict) else ():
            known = getattr(one, name) if name in cls.__slots__ else None
            if isinstance(known, _Noted):
                setattr(one, name, known.read(value))
            elif known is not None and isinstance(value, type(known)):
                setattr(one, name, value)
        return one


@dataclass(slots=True)
class Place(_Noted):
    """Place at which a pass goes on.

    Attributes:
        cursor: of the scan of Redis, which is `scanned` when it has come to its end.
        partition: the one that is looked at next; `part` says at what in it, and `inner` is the cursor there.
        letters: the dead letters of that partition so far, by collection.
        suspects: what looked like drift and is to be looked at once more: members, and what stood before the
            bodies of their entries.
        vanished: of these, documents that MongoDB has no more, as seen twice: what becomes of them is decided when
            the pass knows how many there are.
        aliases: the names of those with a claim that did.
        seen_ms: when the last of them was looked at.
    """

    cursor: ScanCursor = "0"
    scanned: bool = False
    partition: Number = 0
    part: Number = 0
    inner: Cursor = "0"
    letters: dict[str, Number] = field(default_factory=dict)
    suspects: dict[str, str] = field(default_factory=dict)
    vanished: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    seen_ms: Number = 0

    @property
    def waiting(self) -> int:
        """The number of keys to be looked at once more."""
        return len(self.suspects) + len(self.aliases)


@dataclass(slots=True)
class Pass(_Noted):
    """One pass over the cache, finished or under way.

    Attributes:
        started_ms: by the clock of Redis; `ended_ms` is 0 while it is under way.
        keys: how many were looked at.
        checked: entries that MongoDB has to have; `equal` of them were what it has.
        found: how many of each kind; `repaired` of them were.
        samples: some of each kind, by name.
        dry_run: whether nothing was to be repaired.
        place: where it goes on.
    """

    started_ms: Number = 0
    ended_ms: Number = 0
    keys: Number = 0
    checked: Number = 0
    equal: Number = 0
    found: dict[str, Number] = field(default_factory=dict)
    repaired: dict[str, Number] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    dry_run: bool = False
    place: Place = field(default_factory=Place)

    def note(self, kind: Drift, name: str, *, repaired: bool, count: int = 1) -> None:
        """Count a finding."""
        self.found[kind.value] = self.found.get(kind, 0) + count
        if repaired:
            self.repaired[kind.value] = self.repaired.get(kind, 0) + count
        samples = self.samples.setdefault(kind.value, [])
        if len(samples) < MOST_SAMPLES:
            samples.append(name)

    @property
    def vanished(self) -> int:
        """The number of documents that Redis has and MongoDB has no more, and that stand yet."""
        return self.found.get(Drift.VANISHED, 0) - self.repaired.get(Drift.VANISHED, 0)

    def figures(self) -> dict[str, Any]:
        """All but its place."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "place"}

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return self.figures() | {"consistency": self.equal / self.checked if self.checked else None}


class History:
    """The pass under way, and the last ones. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """Keep them in a store."""
        self._store = store

    def current(self, now_ms: int | None = None) -> Pass:
        """The pass under way, or a new one where there is none, or one that cannot be gone on with.

        The clock of Redis is asked where the time is not given.
        """
        noted = self._store.journal.pass_under_way()
        now_ms = self._store.now_ms() if now_ms is None else now_ms
        one = _read(noted) if noted else Pass()
        if 0 < one.started_ms <= now_ms:
            return one
        return Pass(started_ms=now_ms)

    def save(self, one: Pass, lease: Lease) -> bool:
        """Note how far the pass under way has come; false when the lease is lost, and with it the pass."""
        return lease.renew(keys.RECONCILE, orjson.dumps(asdict(one)))

    def finish(self, one: Pass, lease: Lease | None = None) -> bool:
        """Add a pass to the history: with a lease the one under way, and the next one begins anew.

        Returns:
            False when the lease is lost, and with it the pass.
        """
        one.ended_ms = self._store.now_ms()
        return self._store.journal.add_pass(
            orjson.dumps(one.figures()),
            drift=bool(one.found),
            most=MOST_PASSES if one.found else MOST_CLEAN,
            remembered_ms=REMEMBERED_MS,
            token=lease.token if lease else "",
        )

    def passes(self, limit: int = MOST_PASSES, now_ms: int | None = None) -> list[Pass]:
        """Passes of the last week, the last first: up to `limit` that found drift, and as many that did not."""
        oldest = (self._store.now_ms() if now_ms is None else now_ms) - REMEMBERED_MS
        found = (one for one in map(_read, self._store.journal.passes(limit)) if one.ended_ms >= oldest)
        return sorted(found, key=lambda one: one.ended_ms, reverse=True)

    def consistency(self, now_ms: int | None = None) -> dict[str, Any]:
        """The fraction of cached documents that were equal to MongoDB, of the last pass and the one under way.

        And how many have `vanished` from MongoDB, as the later of these passes has it.
        """
        compared = (one for one in self.passes(MOST_LOSSES, now_ms) if one.checked)
        last, under_way = next(compared, Pass()), self.current(now_ms)
        checked, equal = last.checked + under_way.checked, last.equal + under_way.equal
        is_later = under_way.vanished and under_way.started_ms >= last.ended_ms
        return {
            "checked": checked,
            "equal": equal,
            "ratio": equal / checked if checked else None,
            "vanished": (under_way if is_later else last).vanished,
        }


def _read(noted: bytes) -> Pass:
    """A pass as it is noted, or one that never began in the place of what other hands have made of it."""
    try:
        one = Pass.read(orjson.loads(noted))
        _PASS.validate_json(orjson.dumps(asdict(one)), strict=True)
    except (ValueError, TypeError):  # the latter for a number of more than 64 bits
        return Pass()
    return one


_PASS = TypeAdapter(Pass)
#: Called with a pass after each slice.
PassReport = Callable[[Pass], None]
