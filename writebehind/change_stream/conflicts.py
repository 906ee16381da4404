"""Conflicts: changes of others to documents of which a newer state was pending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from writebehind.documents import codec
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnreadableDocumentError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.querying.derived import Derived
from writebehind.redis.pending import Burial
from writebehind.redis.store import Store

#: So many are kept.
MOST = 1_000
#: A document larger than this is not kept in the log, bytes, nor one that JSON cannot show: a dead letter has it
#: where it is lost otherwise.
MOST_BYTES = 16_384
#: So many are read in one go: JSON may have several times the bytes of a document.
READ_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Conflict:
    """One conflict.

    Attributes:
        id: the document.
        operation: what somebody else has done: `insert`, `update`, `replace` or `delete`.
        policy: the collection's `on_conflict`, which has decided.
        ours: what was pending.
        theirs: what MongoDB had; `None` after a deletion, or where it is not known.
        at: when it was found, seconds since the epoch.
    """

    id: DocumentId
    operation: str
    policy: str
    ours: Entry
    theirs: Entry | None
    at: float

    def dump(self) -> bytes:
        """As it stands in the log, JSON."""
        return orjson.dumps(
            {
                "collection": self.id.collection,
                "id": self.id.text,
                "operation": self.operation,
                "policy": self.policy,
                "at": self.at,
                "ours": _shown(self.ours),
                "theirs": None if self.theirs is None else _shown(self.theirs),
            }
        )


class Conflicts:
    """The log of conflicts, and how ours gives way. Safe to share between threads."""

    def __init__(self, store: Store, derived: Derived) -> None:
        """Keep it in a store; `derived` is told what MongoDB has from then on."""
        self._store = store
        self._derived = derived

    def give_way(self, conflict: Conflict, why: str) -> bool:
        """Let what MongoDB has stand: ours becomes a dead letter with its body; false if it is not pending.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        member, ours = conflict.id.member, conflict.ours
        over = 0 if conflict.theirs is None else conflict.theirs.version
        letter = DeadLetter.conflict(member, ours, f"{why}, and on_conflict is theirs", over=over)
        self._derived.persisting(conflict.id.collection, [member])  # told while it is pending
        burial = self._store.pending.bury(member, ours.version_digits, letter.dump(), drop_entry=True)
        if burial is not Burial.BURIED:
            return False
        self._derived.gave_way([(member, ours.version)])
        return True

    def note(self, conflict: Conflict) -> None:
        """Add one, and forget the oldest; not while Redis is full, except that it is counted.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._store.metrics.count({"conflicts": 1})
        self._store.journal.add_conflict(conflict.dump(), most=MOST)

    def latest(self, limit: int = MOST) -> list[dict[str, Any]]:
        """The latest ones, the last first.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return [orjson.loads(one) for one in self.texts(limit)]

    def texts(self, limit: int) -> Iterator[bytes]:
        """The same as JSON texts, of which few are read at a time. Raises as `latest`."""
        for at in range(0, limit, READ_AT_ONCE):
            some = self._store.journal.conflicts(at, min(at + READ_AT_ONCE, limit) - 1)
            yield from filter(_is_object, some)
            if len(some) < READ_AT_ONCE:
                return


def _is_object(text: bytes) -> bool:
    """Whether it is a JSON object, and nothing that other hands have put there."""
    try:
        return isinstance(orjson.loads(text), dict)
    except ValueError:
        return False


def _shown(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {"version": entry.version, "exists": entry.exists}
    if not entry.exists:
        return shown
    if len(entry.body) > MOST_BYTES:
        return shown | {"bytes": len(entry.body)}
    try:
        return shown | {"document": orjson.Fragment(codec.to_json(entry.body))}
    except UnreadableDocumentError:
        return shown | {"bytes": len(entry.body)}
