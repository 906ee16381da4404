"""Cached entries against MongoDB."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from writebehind.change_stream.conflicts import Conflict, Conflicts
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId, named
from writebehind.errors import MongoRefusesError
from writebehind.flushing.damaged import Damage, DamagedWrites
from writebehind.logs.quoting import quoted
from writebehind.mongodb.finder import MOST_IDS
from writebehind.mongodb.refused_collections import RefusedCollections
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.querying.derived import Derived
from writebehind.reconcile.findings import Drift
from writebehind.redis.pending import HintSink
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: About the most that is read from MongoDB at once, bytes.
MOST_BYTES = 16 << 20
#: For so long no flusher takes what is about to be buried, ms.
UNTIL_BURIED_MS = 60_000


@dataclass(frozen=True, slots=True)
class Cached:
    """An entry without its body, which is neither pending nor dead unless it is damaged.

    Attributes:
        id: the document.
        entry: its state.
        header: what stands before the body.
        size: of the entry, bytes.
        lasting: whether it has no TTL, although it is not pending: its mark is lost.
        damaged: whether its body does not fit its ETag, or nobody can read it.
        unsettled: whether it is pending or dead.
    """

    id: DocumentId
    entry: Entry
    header: bytes
    size: int
    lasting: bool
    damaged: bool = False
    unsettled: bool = False

    @property
    def state(self) -> str:
        """The header as text, whatever somebody has put there."""
        return self.header.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Suspect:
    """An entry that MongoDB differs from, or has to get; `stored` is what MongoDB has, without the body."""

    cached: Cached
    stored: Entry

    @property
    def kind(self) -> Drift:
        """The kind of drift."""
        if self.cached.damaged:
            return Drift.DAMAGED_ENTRY
        ours, theirs = self.cached.entry, self.stored
        if self.cached.lasting and ours.kind is not Kind.ABSENT:
            return Drift.LOST_IN_MONGODB
        if ours.kind is Kind.DELETED and 0 < theirs.version < ours.version:
            return Drift.RESURRECTED
        if ours.exists and not theirs.exists:
            return Drift.VANISHED
        if ours.exists and 0 < theirs.version < ours.version:
            return Drift.LOST_IN_MONGODB
        return Drift.STALE_ENTRY


class Vanished(StrEnum):
    """Ways with what Redis has and MongoDB has no more: others have deleted it, or it has lost it."""

    DROP = "drop"
    """Drop their entries, as they are deleted."""
    RESTORE = "restore"
    """Write them again, as Redis has them."""
    KEEP = "keep"
    """Let them stand, and tell of them."""


class EntryCheck:
    """Compares entries with MongoDB by version and content."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        hints: HintSink,
        derived: Derived,
        conflicts: Conflicts,
        *,
        damaged: DamagedWrites,
        settings: Callable[[str], CollectionSettings],
        listened: Callable[[], bool],
    ) -> None:
        """Join the parts; `listened` says whether the cache is known to follow what others write to MongoDB."""
        self._store = store
        self._sink = sink
        self._collections = RefusedCollections()
        self._hints = hints
        self._derived = derived
        self._conflicts = conflicts
        self._damaged = damaged
        self._settings = settings
        self._listened = listened
        self._older = OutageLog(log, "document")

    def look(self, members: Sequence[str]) -> list[Cached]:
        """Those of the members that have an entry, and that are neither pending nor dead, or damaged."""
        members = [member for member in members if named(member.encode()) is not None]
        headers = {
            member: one
            for member, one in zip(members, self._store.cache.headers(members), strict=True)
            if one.header and one.ttl_ms >= -1
        }
        damaged = self._store.bodies.damaged(list(headers))
        unsettled = self._store.unsettled.among(member for member, one in headers.items() if one.ttl_ms == -1)
        return [
            Cached(
                DocumentId.from_member(member),
                Entry.shown(one.header),
                one.header,
                one.size,
                lasting=one.ttl_ms == -1 and member not in unsettled,
                damaged=member in damaged,
                unsettled=member in unsettled,
            )
            for member, one in headers.items()
            if member in damaged or member not in unsettled
        ]

    def suspects(self, cached: Sequence[Cached]) -> list[Suspect]:
        """Those that MongoDB differs from now, that nobody brings to MongoDB, or that are damaged."""
        found = [Suspect(one, replace(one.entry, body=b"")) for one in cached if one.lasting or one.damaged]
        others = (one for one in cached if not (one.lasting or one.damaged))
        by_collection = grouped(others, lambda one: one.id.collection)
        for portion in (part for some in by_collection.values() for part in _portions(some)):
            try:
                stored = self._sink.find_states([one.id for one in portion])
            except MongoRefusesError as error:  # which is nothing that others' documents should wait for
                self._collections.refused(portion[0].id.collection, "reconciled", error)
                continue
            self._collections.served(portion[0].id.collection, "reconciled")
            found += [
                Suspect(one, theirs)
                for one, theirs in zip(portion, stored, strict=True)
                if not one.entry.same_content(theirs)
            ]
        return found

    def again(self, suspects: Mapping[str, str]) -> dict[str, Suspect]:
        """Those that are suspect still, and in the same state: nothing was under way between Redis and MongoDB.

        Args:
            suspects: members, and what stood before the bodies of their entries.

        Returns:
            Them by member.
        """
        same = [one for one in self.look(list(suspects)) if one.state == suspects[one.id.member]]
        confirmed = {one.cached.id.member: one for one in self.suspects(same)}
        back = [member for member, one in confirmed.items() if one.kind is Drift.RESURRECTED]
        for member in self._to_be_audited(back):  # the check of its partition finds it
            del confirmed[member]
        return confirmed

    def _to_be_audited(self, members: Sequence[str]) -> list[str]:
        versions = self._store.deletions.versions(members)
        return [member for member, version in zip(members, versions, strict=True) if version is not None]

    def see_to_vanished(self, suspect: Suspect, way: Vanished) -> bool:
        """Do so with what MongoDB has no more; whether it was done. Only what was written here comes back."""
        if way is Vanished.DROP:
            return self.repair(suspect)
        return way is Vanished.RESTORE and suspect.cached.entry.version > 0 and self._mark_pending(suspect.cached)

    def repair(self, suspect: Suspect) -> bool:
        """Put it right, unless it has changed since."""
        match suspect.kind:
            case Drift.DAMAGED_ENTRY if suspect.cached.unsettled or suspect.cached.lasting:
                return self._take_out(suspect.cached)
            case Drift.RESURRECTED:
                versions = {suspect.cached.id: suspect.cached.entry.version}
                try:
                    deleted = self._sink.delete_older(suspect.cached.id.collection, versions)
                except MongoRefusesError as error:
                    self._collections.refused(suspect.cached.id.collection, "rid of what was deleted", error)
                    return False
                self._collections.served(suspect.cached.id.collection, "rid of what was deleted")
                return bool(deleted)
            case Drift.LOST_IN_MONGODB:
                # A write whose mark is lost was never in MongoDB. Else somebody may have put an old state back.
                if suspect.cached.lasting or self._listened():
                    return self._mark_pending(suspect.cached)
                return self._decide(suspect.cached)
        done = self._store.cache.drop(suspect.cached.id.member, suspect.cached.header)
        self._derived.persisting(
            suspect.cached.id.collection, [suspect.cached.id.member]
        )  # as nobody else has told
        return done

    def _take_out(self, cached: Cached) -> bool:
        """See to a damaged write that MongoDB may not have. A dead letter stays: nobody knows what it was."""
        one, entry = cached.id, cached.entry
        if cached.unsettled:
            if entry.header.encode() != cached.header:  # nobody can read it: flushing makes it a dead letter
                return False
            return self._damaged.take_out(one, entry) is not Damage.GONE
        return self._mark_pending(cached)  # and flushing sees to it

    def _mark_pending(self, cached: Cached, *, delay_ms: int = 0) -> bool:
        """Let it be pending, and have it flushed after a delay."""
        member, partition = cached.id.member, self._store.partition_of(cached.id.member)
        done = self._store.pending.mark(member, cached.header, delay_ms=delay_ms)
        _, hint = self._store.pending.sweep(partition, overdue_ms=0)
        if hint is not None:
            self._hints(hint)
        return done

    def _decide(self, cached: Cached) -> bool:
        """MongoDB has lost a write, or somebody has put an older state back: let the collection's policy decide.

        Neither state is lost: the log of conflicts has both, and where theirs stands ours becomes a dead letter.
        """
        member, policy = cached.id.member, self._settings(cached.id.collection).on_conflict
        ours, _ = self._store.cache.get(member)
        theirs = self._sink.find(cached.id)
        if ours is None or ours.version != cached.entry.version or not 0 < theirs.version < ours.version:
            return False
        if not self._mark_pending(cached, delay_ms=0 if policy == "ours" else UNTIL_BURIED_MS):
            return False
        conflict = Conflict(cached.id, "replace", policy, ours, theirs, time.time())
        self._conflicts.note(conflict)
        versions = f"MongoDB has version {theirs.version} and Redis {ours.version}"
        line = f"{quoted(member)}: {versions}; on_conflict is {policy}"
        advice = "writebehind conflicts lists them with both states"
        self._older.note("older states in MongoDB", f"{line}; {advice}", event="older_in_mongodb")
        if policy == "ours":
            return True
        return self._conflicts.give_way(conflict, f"MongoDB has the older version {theirs.version}")


def _portions(cached: Sequence[Cached]) -> Iterator[list[Cached]]:
    """Parts that are as large as MongoDB should be asked for at once."""
    some: list[Cached] = []
    size = 0
    for one in cached:
        if some and (len(some) == MOST_IDS or size + one.size > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(one)
        size += one.size
    if some:
        yield some
