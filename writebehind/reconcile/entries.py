"""Cached entries against MongoDB."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from writebehind.connections import script
from writebehind.entry import Entry, Kind
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.queries import Queries
from writebehind.reconcile.findings import Drift, Pass
from writebehind.sink import Sink
from writebehind.store import HintSink, Store

_DROP_IF, _REMARK = script("drop_if"), script("remark")


@dataclass(frozen=True, slots=True)
class Cached:
    """A clean entry without its body, and what stands before the body."""

    id: DocumentId
    entry: Entry
    header: bytes


@dataclass(frozen=True, slots=True)
class Suspect:
    """A clean entry that MongoDB differs from."""

    cached: Cached
    stored: Entry

    @property
    def kind(self) -> Drift:
        """What it is."""
        ours, theirs = self.cached.entry, self.stored
        if ours.kind is Kind.DELETED and 0 < theirs.version < ours.version:
            return Drift.RESURRECTED
        # Where MongoDB has nothing somebody has deleted it: a majority does not forget.
        if ours.exists and theirs.exists and theirs.version and theirs.version < ours.version:
            return Drift.LOST_IN_MONGODB
        return Drift.STALE_ENTRY


class EntryCheck:
    """Compares clean entries with MongoDB by version and content."""

    def __init__(self, store: Store, sink: Sink, hints: HintSink, queries: Queries) -> None:
        """Join the parts."""
        self._queries = queries
        self._store = store
        self._sink = sink
        self._hints = hints

    def clean(self, members: Sequence[str]) -> list[Cached]:
        """Those of the members that have a clean entry, in one round trip."""
        commands = []
        for member in members:
            key = self._store.entry_key(member)
            commands += [("GETRANGE", key, 0, 48), ("PTTL", key)]
        answers = iter(self._store.wire.calls(commands) if commands else ())
        return [
            Cached(DocumentId.from_member(member), Entry.parse(header), header)
            for member, header, ttl in zip(members, answers, answers, strict=True)
            if header and ttl >= 0
        ]

    def suspects(self, cached: Sequence[Cached]) -> list[Suspect]:
        """Those that MongoDB differs from now."""
        by_collection: dict[str, list[Cached]] = defaultdict(list)
        for one in cached:
            by_collection[one.id.collection].append(one)
        return [
            Suspect(one, stored)
            for some in by_collection.values()
            for one, stored in zip(some, self._sink.find_many([one.id for one in some]), strict=True)
            if not _alike(one.entry, stored)
        ]

    def again(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Those that are still suspect, and in the same way: nothing was under way between Redis and MongoDB."""
        before = {one.cached.id.member: one for one in suspects}
        same = [one for one in self.clean(list(before)) if one.header == before[one.id.member].cached.header]
        return self.suspects(same)

    def repair(self, suspect: Suspect) -> bool:
        """Put it right, unless it has changed since."""
        member, of = suspect.cached.id.member, partition_keys(self._store.partition_of(suspect.cached.id.member))
        match suspect.kind:
            case Drift.RESURRECTED:
                versions = {suspect.cached.id: suspect.cached.entry.version}
                return bool(self._sink.delete_older(suspect.cached.id.collection, versions))
            case Drift.LOST_IN_MONGODB:
                keys = (of.entry(member), of.pending, of.load(member))
                done = self._store.wire.run(_REMARK, keys, (member, suspect.cached.header))
                _, hint = self._store.sweep(self._store.partition_of(member), overdue_ms=0)
                if hint is not None:
                    self._hints(hint)
                return bool(done)
        dropped = (of.entry(member), of.load(member), of.pending, of.dead)
        done = bool(self._store.wire.run(_DROP_IF, dropped, (member, suspect.cached.header)))
        self._queries.changed(suspect.cached.id.collection, [member])  # nobody has told them
        return done


def note(found: Pass, suspects: Sequence[Suspect], repaired: Sequence[bool]) -> None:
    """Count suspects that were confirmed."""
    for one, done in zip(suspects, repaired, strict=True):
        found.note(one.kind, one.cached.id.member, repaired=done)


def _alike(ours: Entry, theirs: Entry) -> bool:
    if not ours.exists:
        return not theirs.exists
    return (ours.version, ours.kind, ours.etag) == (theirs.version, theirs.kind, theirs.etag)
