"""What is pending, dead, leased and deleted in one partition."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from writebehind.documents.ids import DocumentId, named
from writebehind.errors import MongoRefusesError
from writebehind.flushing.dead_letter import DeadLetter, Found, Reason, parse_name
from writebehind.mongodb.sink import Sink
from writebehind.reconcile.findings import Drift, Pass
from writebehind.redis.keys import partition_keys
from writebehind.redis.store import MOST_KEPT, Burial, HintSink, Store
from writebehind.redis.wire import script

log = logging.getLogger(__name__)

#: Members that are looked at in one step, about.
SLICE = 200
#: Longer than anything lives that has a TTL, ms.
FOR_EVER_MS = 1 << 53
#: The cursor before the first slice, and after the last.
END = "0"

_ENTRYLESS, _RECOUNT = script("entryless"), script("recount")
_LETTERS, _ORPHANS, _RELETTER, _UNTOKEN = (
    *(script("letters"), script("orphans")),
    *(script("reletter"), script("untoken")),
)


class PartitionCheck:
    """Looks into partitions, one slice of one of them at a time."""

    def __init__(
        self, store: Store, sink: Sink, hints: HintSink, *, overdue_ms: int, lease_ms: int, grace_ms: int
    ) -> None:
        """Join the parts; deletions are looked at when MongoDB has had them for `grace_ms`."""
        self._store = store
        self._sink = sink
        self._hints = hints
        self._overdue_ms = overdue_ms
        self._lease_ms = lease_ms
        self._grace_ms = grace_ms
        self._parts = (self._scheduling, self._lost_entries, self._letters, self._resurrected)

    def step(self, found: Pass, *, repair: bool) -> None:
        """Look at the slice that is next, and move on.

        Raises:
            UnavailableError: a server does not answer; the slice is looked at again.
        """
        place = found.place
        look = self._parts[place.part % len(self._parts)]
        place.inner = look(place.partition, place.inner, found, repair)
        if place.inner == END:
            place.part += 1
        if place.part >= len(self._parts):
            place.partition, place.part = place.partition + 1, 0

    def tokens(self, names: Sequence[str], life_ms: int, found: Pass, *, repair: bool) -> None:
        """Those of the keys of tokens that live longer than they may."""
        ttls = self._store.wire.calls([("PTTL", key) for key in names]) if names else []
        for key, ttl in zip(names, ttls, strict=True):
            if ttl == -1 or ttl > life_ms:
                done = repair and bool(self._store.wire.run(_UNTOKEN, (key,), (life_ms,)))
                found.note(Drift.IMMORTAL_TOKEN, key, repaired=done)

    # Each looks at a slice from a cursor on, and returns the cursor of the next: '0' after the last.

    def _scheduling(self, partition: int, _: str, found: Pass, repair: bool) -> str:
        of, before = partition_keys(partition), self._store.now_ms() - self._overdue_ms
        self.tokens([of.lease], self._lease_ms, found, repair=repair)
        self.tokens([of.scheduled], FOR_EVER_MS, found, repair=repair)  # it lives until its task runs, or longer
        overdue, lease, scheduled = self._store.wire.calls(
            (("ZCOUNT", of.pending, "-inf", before), ("EXISTS", of.lease), ("EXISTS", of.scheduled))
        )
        if not overdue or lease or scheduled:
            return END
        hint = self._store.sweep(partition, overdue_ms=self._overdue_ms)[1] if repair else None
        if hint is not None:
            self._hints(hint)
        elif repair:
            return END  # somebody else has seen to it meanwhile
        found.note(Drift.UNSCHEDULED, f"partition {partition}", repaired=hint is not None, count=overdue)
        return END

    def _lost_entries(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        of = partition_keys(partition)
        after, scores = self._scores(of.pending, cursor)
        for lost in self._store.wire.run(_ENTRYLESS, (of.pending, *map(of.entry, scores)), [*scores]):
            member = lost.decode()
            log.critical("%s is pending but its entry is gone: somebody deleted or evicted it in Redis", member)
            letter = DeadLetter.lost(member).dump()
            done = repair and self._store.bury(member, "", letter) is Burial.BURIED
            found.note(Drift.LOST_ENTRY, member, repaired=done)
        return after

    def _letters(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        of, letters = partition_keys(partition), found.place.letters
        if cursor == END:
            letters.clear()
        after, names = self._store.wire.run(_LETTERS, (of.dead,), (cursor, SLICE))
        self._orphans(partition, names, found, repair)
        for collection, count in Counter(parse_name(one.decode())[0].partition("/")[0] for one in names).items():
            letters[collection] = letters.get(collection, 0) + count
        if after.decode() == END:
            flat = self._store.wire.call("HGETALL", of.dead_counts)
            noted = {name.decode(): int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
            if {name: count for name, count in noted.items() if count} != letters:
                self._recount(partition, found, repair)
        return str(after.decode())

    def _recount(self, partition: int, found: Pass, repair: bool) -> None:
        """Count in one step, which takes Redis longer: letters may have come and gone since they were counted."""
        of = partition_keys(partition)
        for collection in self._store.wire.run(_RECOUNT, (of.dead, of.dead_counts), (int(repair),)):
            name = f"{collection.decode()} in partition {partition}"
            found.note(Drift.MISCOUNTED_LETTERS, name, repaired=repair)

    def _orphans(self, partition: int, names: Sequence[bytes], found: Pass, repair: bool) -> None:
        of, named = partition_keys(partition), [one.decode() for one in names]
        places = [of.kept(member) if is_kept else of.entry(member) for member, is_kept in map(parse_name, named)]
        for name in self._store.wire.run(_ORPHANS, (of.dead, *places), named) if named else ():
            raw = self._store.wire.call("HGET", of.dead, name)
            if raw is not None:
                orphan = Found.parse(name, raw)
                done = repair and self._tell_lost(partition, orphan)
                found.note(Drift.ORPHANED_LETTER, orphan.letter.member, repaired=done)

    def _tell_lost(self, partition: int, one: Found) -> bool:
        of, member = partition_keys(partition), one.letter.member
        message = f"its document was deleted or evicted in Redis; before that: {one.letter.message}"
        lost = replace(one.letter, reason=Reason.LOST, message=message).dump()
        keys_of = (of.dead, of.dead_counts, of.entry(member), of.kept(member), of.crowded)
        return bool(self._store.wire.run(_RELETTER, keys_of, (member, one.name, one.raw, lost, MOST_KEPT)))

    def _resurrected(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        of, before_ms = partition_keys(partition), self._store.now_ms() - self._grace_ms
        after, deletions = self._scores(of.deleted, cursor)
        settled = self._store.wire.call("ZMSCORE", of.deleted_at, *deletions) if deletions else []
        by_collection: dict[str, dict[DocumentId, int]] = {}
        for (member, version), at_ms in zip(deletions.items(), settled, strict=True):
            if at_ms is not None and float(at_ms) <= before_ms:
                one = DocumentId.from_member(member)
                by_collection.setdefault(one.collection, {})[one] = int(version)
        for collection, versions in by_collection.items():
            try:
                self._resurrected_of(collection, versions, found, repair)
            except MongoRefusesError as error:
                log.warning("deletions in %s cannot be compared with MongoDB: %s", collection, error)
        return after

    def _resurrected_of(
        self, collection: str, versions: Mapping[DocumentId, int], found: Pass, repair: bool
    ) -> None:
        stored = dict(zip(versions, self._sink.find_many(list(versions)), strict=True))
        back = {one: version for one, version in versions.items() if 0 < stored[one].version < version}
        if back and repair:
            self._sink.delete_older(collection, back)
            self._store.invalidate_many([one.member for one in back])
        for one in back:
            found.note(Drift.RESURRECTED, one.member, repaired=repair)

    def _scores(self, key: str, cursor: str) -> tuple[str, dict[str, float]]:
        """A slice of a sorted set, and the cursor of the next."""
        after, flat = self._store.wire.call("ZSCAN", key, cursor, "COUNT", SLICE)
        return after.decode(), {
            member.decode(): float(at)
            for member, at in zip(flat[::2], flat[1::2], strict=True)
            if named(member) is not None
        }
