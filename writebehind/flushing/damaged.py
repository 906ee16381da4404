"""Pending writes whose body does not fit its ETag: it was changed in Redis, and is not what was acknowledged."""

from __future__ import annotations

import logging
from enum import Enum

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.logs.quoting import quoted
from writebehind.mongodb.refused_collections import RefusedCollections
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.querying.derived import Derived
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.store import Store

log = logging.getLogger(__name__)

_FIND_OUT = "find out who else writes into this Redis"


class Damage(Enum):
    """Outcome for a damaged write."""

    BURIED = "buried"
    """It is a dead letter with what stood there; readers see what MongoDB has."""
    PERSISTED = "persisted"
    """MongoDB had got it before it was damaged, and readers see that."""
    GONE = "gone"
    """It is not pending any more, or another write has come."""


class DamagedWrites:
    """Takes damaged writes out of what is pending, so that MongoDB gets none. Safe to share between threads."""

    def __init__(self, store: Store, sink: Sink, derived: Derived) -> None:
        """Join the parts."""
        self._store = store
        self._sink = sink
        self._collections = RefusedCollections()
        self._derived = derived
        self._changed = OutageLog(log, "document")

    def take_out(self, one: DocumentId, entry: Entry) -> Damage:
        """Settle it where MongoDB has the very write; else make it a dead letter that nothing replays.

        Args:
            one: the document.
            entry: its entry, of which the header counts: by version and ETag it is still known what it was.

        Raises:
            MongoUnavailableError: MongoDB does not answer: it is still pending.
            RedisUnavailableError: Redis does not answer; the same.
        """
        letter = None if self._is_persisted(one, entry) else DeadLetter.damaged(one.member, entry)
        if letter is None:
            settled = Settled(one.member, entry.version_digits, 0, [])
            done = self._store.pending.settle(self._store.partition_of(one.member), [settled], delay_ms=0)
            outcome = Damage.PERSISTED if done else Damage.GONE
        else:
            self._derived.persisting(one.collection, [one.member])  # told while it is pending
            burial = self._store.pending.bury(one.member, entry.version_digits, letter.dump(), drop_entry=True)
            outcome = Damage.BURIED if burial is Burial.BURIED else Damage.GONE
        if outcome is Damage.GONE:
            return outcome
        self._derived.gave_way([(one.member, entry.version)])
        if letter is not None:
            log.critical(
                "%s version %d is pending, and somebody changed its body in Redis: it is a dead letter, and "
                "MongoDB does not get it",
                *(quoted(one.member), entry.version),
                extra=letter.log_fields,
            )
        else:
            line = f"{quoted(one.member)}: its body was changed in Redis, and MongoDB has it as it was written"
            self._changed.note(
                "changed in Redis", f"{line}; {_FIND_OUT}", level=logging.ERROR, event="body_changed"
            )
        return outcome

    def _is_persisted(self, one: DocumentId, entry: Entry) -> bool:
        try:
            [stored] = self._sink.find_states([one])
        except MongoRefusesError as error:
            self._collections.refused(one.collection, "compared with what was changed in Redis", error)
            return False
        self._collections.served(one.collection, "compared with what was changed in Redis")
        return stored.same_content(entry)
