"""Pending writes whose body does not fit its ETag: it was changed in Redis, and is not what was acknowledged."""

from __future__ import annotations

import logging
from enum import Enum

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.mongodb.sink import Sink
from writebehind.querying.derived import Derived
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.store import Store

log = logging.getLogger(__name__)


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
        self._derived = derived

    def take_out(self, one: DocumentId, entry: Entry) -> Damage:
        """Settle it where MongoDB has the very write; else make it a dead letter that nothing replays.

        Args:
            one: the document.
            entry: its entry, of which the header counts: by version and ETag it is still known what it was.

        Raises:
            MongoUnavailableError: MongoDB does not answer: it is still pending.
            RedisUnavailableError: Redis does not answer; the same.
        """
        if self._is_persisted(one, entry):
            settled = Settled(one.member, entry.version_digits, 0, [])
            done = self._store.pending.settle(self._store.partition_of(one.member), [settled], delay_ms=0)
            outcome = Damage.PERSISTED if done else Damage.GONE
        else:
            letter = DeadLetter.damaged(one.member, entry)
            self._derived.persisting(one.collection, [one.member])  # told while it is pending
            burial = self._store.pending.bury(one.member, entry.version_digits, letter.dump(), drop_entry=True)
            outcome = Damage.BURIED if burial is Burial.BURIED else Damage.GONE
        if outcome is Damage.GONE:
            return outcome
        self._derived.gave_way([(one.member, entry.version)])
        if outcome is Damage.BURIED:
            told = {"event": "dead_letter", "collection": one.collection, "member": one.member}
            log.critical(
                "%s version %d is pending, and somebody changed its body in Redis: it is a dead letter, and "
                "MongoDB does not get it",
                *(one.member, entry.version),
                extra=told,
            )
        else:
            log.error("%s: its body was changed in Redis, and MongoDB has it as it was written", one.member)
        return outcome

    def _is_persisted(self, one: DocumentId, entry: Entry) -> bool:
        try:
            [stored] = self._sink.find_states([one])
        except MongoRefusesError as error:
            log.warning("%s cannot be compared with MongoDB: %s", one.member, error)
            return False
        return stored.same_content(entry)
