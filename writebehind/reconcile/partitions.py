"""Check of one partition: its pending, dead, leased and deleted documents."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.flushing.dead_letter import DeadLetter, Found, Reason
from writebehind.flushing.dead_letters import read_or_mended
from writebehind.flushing.deletion_audit import by_collection, delete_again
from writebehind.flushing.homecoming import Homecoming
from writebehind.logs.quoting import quoted
from writebehind.mongodb.refused_collections import RefusedCollections
from writebehind.mongodb.sink import Sink
from writebehind.reconcile.findings import Drift, Pass
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys
from writebehind.redis.letters import RawLetter
from writebehind.redis.pending import Burial, Hint, HintSink
from writebehind.redis.store import Store

log = logging.getLogger(__name__)

#: Members that are looked at in one step, about.
SLICE = 200
#: Longer than anything lives that has a TTL, ms.
FOR_EVER_MS = 1 << 53
#: The cursor before the first slice, and after the last.
END = "0"


class PartitionCheck:
    """Looks into partitions, one slice of one of them at a time."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        hints: HintSink,
        *,
        overdue_ms: int,
        lease_ms: int,
        grace_ms: int,
        homecoming: Homecoming,
    ) -> None:
        """Join the parts; deletions are looked at when MongoDB has had them for `grace_ms`."""
        self._store = store
        self._sink = sink
        self._collections = RefusedCollections()
        self._hints = hints
        self._overdue_ms = overdue_ms
        self._lease_ms = lease_ms
        self._grace_ms = grace_ms
        self._homecoming = homecoming
        self._parts = (
            self._scheduling,
            self._lost_entries,
            self._letters,
            self._resurrected,
            self._beyond,
        )

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
        for key, ttl_ms in zip(names, self._store.lifetimes_ms(names), strict=True):
            if ttl_ms == -1 or ttl_ms > life_ms:
                done = repair and self._store.drop_token(key, life_ms=life_ms)
                found.note(Drift.IMMORTAL_TOKEN, key, repaired=done)

    # Each looks at a slice from a cursor on, and returns the cursor of the next: '0' after the last.

    def _scheduling(self, partition: int, _: str, found: Pass, repair: bool) -> str:
        of, before = partition_keys(partition), self._store.now_ms(partition) - self._overdue_ms
        self.tokens([of.lease], self._lease_ms, found, repair=repair)
        self.tokens([of.scheduled], FOR_EVER_MS, found, repair=repair)  # it lives until its task runs, or longer
        overdue, is_scheduled = self._store.unsettled.schedule(partition, before_ms=before)
        if not overdue or is_scheduled:
            return END
        hint = self._store.pending.sweep(partition, overdue_ms=self._overdue_ms)[1] if repair else None
        if hint is not None:
            self._hints(hint)
        elif repair and self._store.pending.is_hinted:
            return END  # somebody else has seen to it meanwhile
        found.note(Drift.UNSCHEDULED, f"partition {partition}", repaired=hint is not None, count=overdue)
        return END

    def _lost_entries(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        after, members = self._store.unsettled.scan(partition, cursor, count=SLICE)
        at_home = [one for one in members if self._store.partition_of(one) == partition]  # flushing sees to others
        for member in self._store.unsettled.entryless(partition, at_home):
            letter = DeadLetter.lost(member)
            done = repair and self._store.pending.bury(member, "", letter.dump()) is Burial.BURIED
            if done:
                said = "%s is pending but its entry is gone: somebody deleted or evicted it in Redis"
                log.critical(said, quoted(member), extra=letter.log_fields)
            found.note(Drift.LOST_ENTRY, member, repaired=done)
        return after

    def _letters(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        letters = found.place.letters
        if cursor == END:
            letters.clear()
        after, names = self._store.letters.names(partition, cursor, count=SLICE)
        if repair:
            names = self._homecoming.of_letters(partition, names)
        self._orphans(partition, names, found, repair)
        for collection, count in Counter(one.member.partition("/")[0] for one in names).items():
            letters[collection] = letters.get(collection, 0) + count
        if after == END:
            if repair:
                self._store.letters.uncrowd(partition)
            noted = self._store.letters.counts_in(partition)
            if {name: count for name, count in noted.items() if count} != letters:
                self._recount(partition, found, repair)
        return after

    def _beyond(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        """Once in a pass: partitions that there should not be, which nobody else looks into."""
        division, begin = self._store.division, max(int(cursor), self._store.partitions)
        after = min(begin + SLICE, MOST_PARTITIONS)
        beyond = [] if partition else division.astray(begin, until=after)
        for at, count in division.pending_in(beyond).items():
            if repair:
                self._homecoming.of_all_letters(at)
                self._hints(Hint(at, "", 0))
            found.note(Drift.UNSCHEDULED, f"partition {at}", repaired=repair, count=max(count, 1))
        return END if partition or after == MOST_PARTITIONS else str(after)

    def _recount(self, partition: int, found: Pass, repair: bool) -> None:
        """Count in one step, which takes Redis longer: letters may have come and gone since they were counted."""
        for collection in self._store.letters.recount(partition, repair=repair):
            found.note(Drift.MISCOUNTED_LETTERS, f"{collection} in partition {partition}", repaired=repair)

    def _orphans(self, partition: int, letters: Sequence[RawLetter], found: Pass, repair: bool) -> None:
        for one in self._store.letters.orphans(partition, letters):
            raw = self._store.letters.again(one)
            if raw is None:
                continue
            for orphan in read_or_mended(self._store, [raw]):
                done = repair and self._tell_lost(orphan)
                found.note(Drift.ORPHANED_LETTER, orphan.letter.member, repaired=done)

    def _tell_lost(self, one: Found) -> bool:
        message = f"its document was deleted or evicted in Redis; before that: {one.letter.message}"
        lost = replace(one.letter, reason=Reason.LOST, message=message).dump()
        return self._store.letters.mark_lost(one.raw, lost)

    def _resurrected(self, partition: int, cursor: str, found: Pass, repair: bool) -> str:
        now_ms, deletions = self._store.now_ms(partition), self._store.deletions
        scanned = deletions.scan(partition, cursor, now_ms=now_ms, grace_ms=self._grace_ms, count=SLICE)
        if repair:
            deletions.date(partition, scanned.undated, now_ms)
        for collection, versions in by_collection(scanned.old).items():
            try:
                self._resurrected_of(collection, versions, found, repair)
            except MongoRefusesError as error:
                self._collections.refused(collection, "rid of what was deleted", error)
            else:
                self._collections.served(collection, "rid of what was deleted")
        return scanned.after

    def _resurrected_of(
        self, collection: str, versions: Mapping[DocumentId, int], found: Pass, repair: bool
    ) -> None:
        stored = dict(zip(versions, self._sink.find_states(list(versions)), strict=True))
        back = {one: version for one, version in versions.items() if 0 < stored[one].version < version}
        if back and repair:
            delete_again(self._store, self._sink, collection, back)
        for one in back:
            found.note(Drift.RESURRECTED, one.member, repaired=repair)
