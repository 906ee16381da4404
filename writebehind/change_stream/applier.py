"""Changes in MongoDB: the pipeline's own are told from those of others, which are brought to the cache."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from writebehind.change_stream.conflicts import Conflict, Conflicts
from writebehind.change_stream.verdicts import Known, OutsideChange, Sent, Verdict, is_later, judge
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.flushing.contention import Contention
from writebehind.mongodb.sink import Sink
from writebehind.querying.derived import Derived
from writebehind.redis.keys import Named, family
from writebehind.redis.pending import Reissue
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings

#: Entries that are dropped in one round trip.
SLICE = 500


@dataclass(slots=True)
class Applied:
    """Outcome of some changes.

    Attributes:
        ours: changes that were our own as far as can be told, or that Redis has already.
        invalidated: entries that were dropped.
        conflicts: changes to what was pending.
        overtaken: pending writes that are written once more, as MongoDB may have been changed since it had them.
    """

    ours: int = 0
    invalidated: int = 0
    conflicts: int = 0
    overtaken: int = 0


class Applier:
    """Brings the changes of others to the cache. Safe to share between threads.

    Two rules make Redis and MongoDB agree in the end, whosever change an event is: what has no write pending is
    dropped from Redis, or is what MongoDB has; what has one is written to MongoDB after the change. See
    docs/adr/0016-whose-change-it-is.md.
    """

    def __init__(
        self,
        store: Store,
        sink: Sink,
        derived: Derived,
        conflicts: Conflicts,
        *,
        settings: Callable[[str], CollectionSettings],
        contention: Contention,
    ) -> None:
        """Join the parts; `settings` are a collection's, by name."""
        self._contention = contention
        self._store = store
        self._sink = sink
        self._derived = derived
        self._conflicts = conflicts
        self._settings = settings

    def apply(self, changes: Sequence[OutsideChange]) -> Applied:
        """Bring changes to the cache. Doing so again does no harm.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer.
        """
        applied, known = Applied(), self._known([one.id.member for one in changes])
        by_verdict: dict[Verdict, list[OutsideChange]] = defaultdict(list)
        for one in changes:
            by_verdict[judge(one, known[one.id.member])].append(one)
        asked, seen = by_verdict[Verdict.ASK], by_verdict[Verdict.SEEN]
        different = self._found_different(asked, known)
        outside = by_verdict[Verdict.OUTSIDE] + [one for one in asked if one.id.member in different]
        applied.ours = len(changes) - len(outside) - len(by_verdict[Verdict.CONFLICT])

        overtaken = list(by_verdict[Verdict.OVERTAKEN])
        for one in by_verdict[Verdict.CONFLICT]:
            ours = self._pending_before(one)
            applied.conflicts += ours is not None
            if ours is None or not self._yields(one, ours):
                overtaken.append(one)
        settled = self._outdo([one.id.member for one in overtaken], applied)
        outside += [one for one in overtaken if one.id.member in settled]  # so their change stands

        self._invalidate(outside, known, applied)
        self._tell([*outside, *seen])
        return applied

    def distrust(self, ids: Sequence[DocumentId]) -> Applied:
        """Drop documents from the cache, or have them written once more, as nobody knows what MongoDB has.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        applied, members = Applied(), [one.member for one in ids]
        self._outdo(members, applied)
        applied.invalidated = sum(self._store.cache.invalidate_many(members))
        for one in ids:
            self._derived.persisting(one.collection, [one.member])
        return applied

    def outdo_pending(self, collection: str, beat: Callable[[], object]) -> None:
        """Have all that is pending written once more, as MongoDB may have lost what it had of it.

        To be called before `forget`: what is settled in between is forgotten then.

        Args:
            collection: whose; '' for all.
            beat: called now and then, as this may take long.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        prefix = f"{collection}/" if collection else ""
        for partition in range(self._store.partitions):
            cursor = "0"
            while True:
                cursor, members = self._store.unsettled.scan(partition, cursor, count=SLICE)
                self._store.pending.reissue_many([one for one in members if one.startswith(prefix)])
                beat()
                if cursor == "0":
                    break

    def forget(self, collection: str, beat: Callable[[], object]) -> int:
        """Drop every entry and alias that MongoDB may have left behind, or that is being loaded; how many.

        Args:
            collection: whose; '' for all.
            beat: called now and then, as this may take long.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        dropped, queried = 0, {collection} - {""}

        def note(results: Sequence[str]) -> list[bool]:
            queried.update(one.partition("/")[0] for one in results)
            return []

        # Tokens first: what is filled before its token is found is there when entries and aliases are looked for.
        entries, aliases = self._store.cache.invalidate_many, self._store.aliases.drop_many
        families = [("load", entries), ("entry", entries), ("aliasload", aliases), ("alias", aliases)]
        if not collection:  # any may have results of queries, also one that the settings do not name
            families += [("queryload", note), ("query", note)]
        for name, drop in families:
            pattern = family(name, collection=collection)
            cursor = b"0"
            while True:
                cursor, found = self._store.scan(cursor, match=pattern, count=SLICE)
                dropped += sum(drop([one.name for one in map(Named.parse, found) if one is not None]))
                beat()
                if cursor == b"0":
                    break
        for one in queried:
            self._derived.forgotten(one)
        return dropped

    def _known(self, members: Sequence[str]) -> dict[str, Known]:
        """Documents as Redis has them, in one round trip."""
        members = list(dict.fromkeys(members))
        found = {}
        for member, trace in zip(members, self._store.unsettled.traces(members), strict=True):
            found[member] = Known(
                Entry.shown(trace.header) if trace.header else None,
                trace.pending,
                Sent.read(trace.sent),
                trace.deleted_at_ms,
            )
        return found

    def _found_different(self, changes: Sequence[OutsideChange], known: dict[str, Known]) -> set[str]:
        """Members of which MongoDB has something else than Redis had."""
        by_collection: dict[str, dict[str, DocumentId]] = defaultdict(dict)
        for one in changes:
            by_collection[one.id.collection][one.id.member] = one.id
        different: set[str] = set()
        for ids in by_collection.values():
            try:
                entries = self._sink.find_states(list(ids.values()))
            except MongoRefusesError:  # then nobody knows, and the changes of others do not wait for it
                different |= ids.keys()
                continue
            different |= {
                one.member
                for one, entry in zip(ids.values(), entries, strict=True)
                if not known[one.member].is_like(entry)
            }
        return different

    def _outdo(self, members: Sequence[str], applied: Applied) -> set[str]:
        """Have what is pending written after the change; which of the members are not pending any more."""
        members = list(dict.fromkeys(members))
        answers = self._store.pending.reissue_many(members)
        applied.overtaken += answers.count(Reissue.REISSUED)
        return {member for member, answer in zip(members, answers, strict=True) if answer is Reissue.SETTLED}

    def _invalidate(self, changes: Sequence[OutsideChange], known: dict[str, Known], applied: Applied) -> None:
        members = list(dict.fromkeys(one.id.member for one in changes))
        dropped = self._store.cache.invalidate_many(members)
        had = (known[member].kind is not None for member in members)
        applied.invalidated += sum(one and there for one, there in zip(dropped, had, strict=True))

    def _tell(self, changes: Sequence[OutsideChange]) -> None:
        """Tell queries, aliases and the dead letters that wait for documents what MongoDB has now."""
        for collection, some in grouped(changes, lambda one: one.id.collection).items():
            members = list(dict.fromkeys(one.id.member for one in some))
            settings = self._settings(collection)
            bodies = [one.after.body for one in some if one.after is not None]
            self._derived.changed_outside(collection, members, bodies, settings)
            if settings.lookup:
                self._contention.changed(members)

    def _pending_before(self, change: OutsideChange) -> Entry | None:
        """The pending write, if it is older than the change; `None` where it was settled or replaced meanwhile."""
        entry, ttl_ms = self._store.cache.get(change.id.member)
        return None if entry is None or ttl_ms >= 0 or is_later(entry.version, change) else entry

    def _yields(self, change: OutsideChange, ours: Entry) -> bool:
        """Note a conflict, and let the collection's policy decide; whether our write became a dead letter."""
        policy = self._settings(change.id.collection).on_conflict
        conflict = Conflict(change.id, change.operation, policy, ours, change.after, time.time())
        self._conflicts.note(conflict)
        if policy != "theirs" or not self._stands(change):
            return False
        if not self._conflicts.give_way(conflict, f"somebody else has changed it in MongoDB ({change.operation})"):
            return False
        self._tell([change])
        return True

    def _stands(self, change: OutsideChange) -> bool:
        """Whether MongoDB has what they have made of it: it may have been written or changed again since."""
        try:
            there, after = self._sink.find(change.id), change.after
        except MongoRefusesError:  # in doubt our write stands
            return False
        if after is None:
            return not there.exists
        return after.same_content(there)
