"""What is pending, dead, leased and deleted in one partition."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from writebehind.connections import script
from writebehind.dead_letters import DeadLetter, Reason
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.reconcile.findings import Drift, Pass
from writebehind.sink import Sink
from writebehind.store import Burial, HintSink, Store

log = logging.getLogger(__name__)

#: Members that are looked at in one round trip.
SLICE = 500

_ENTRYLESS, _RECOUNT = script("entryless"), script("recount")
_RELETTER, _UNTOKEN = script("reletter"), script("untoken")


class PartitionCheck:
    """Looks into partitions, one at a time."""

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

    def check(self, partition: int, found: Pass, *, repair: bool) -> None:
        """Everything about one partition."""
        self._unscheduled(partition, found, repair)
        self._lost_entries(partition, found, repair)
        self._letters(partition, found, repair)
        self._resurrected(partition, found, repair)
        of = partition_keys(partition)
        for key, life_ms in ((of.lease, self._lease_ms), (of.scheduled, 1 << 53)):
            self.token(key, life_ms, found, repair=repair)

    def token(self, key: str, life_ms: int, found: Pass, *, repair: bool) -> None:
        """A token that lives longer than it may."""
        ttl = self._store.wire.call("PTTL", key)
        if ttl == -1 or ttl > life_ms:
            done = repair and bool(self._store.wire.run(_UNTOKEN, (key,), (life_ms,)))
            found.note(Drift.IMMORTAL_TOKEN, key, repaired=done)

    def _unscheduled(self, partition: int, found: Pass, repair: bool) -> None:
        of, before = partition_keys(partition), self._store.now_ms() - self._overdue_ms
        overdue, lease, scheduled = self._store.wire.calls(
            (("ZCOUNT", of.pending, "-inf", before), ("EXISTS", of.lease), ("EXISTS", of.scheduled))
        )
        if not overdue or lease or scheduled:
            return
        hint = self._store.sweep(partition, overdue_ms=self._overdue_ms)[1] if repair else None
        if hint is not None:
            self._hints(hint)
        elif repair:
            return  # somebody else has seen to it meanwhile
        found.note(Drift.UNSCHEDULED, f"partition {partition}", repaired=hint is not None, count=overdue)

    def _lost_entries(self, partition: int, found: Pass, repair: bool) -> None:
        of = partition_keys(partition)
        for members in self._members("ZSCAN", of.pending):
            keys = (of.pending, *map(of.entry, members))
            for lost in self._store.wire.run(_ENTRYLESS, keys, members):
                member = lost.decode()
                log.critical(
                    "%s is pending but its entry is gone: somebody deleted or evicted it in Redis", member
                )
                letter = DeadLetter.lost(member).dump()
                done = repair and self._store.bury(member, "", letter) is Burial.BURIED
                found.note(Drift.LOST_ENTRY, member, repaired=done)

    def _letters(self, partition: int, found: Pass, repair: bool) -> None:
        of = partition_keys(partition)
        for members in self._members("HSCAN", of.dead):
            entries = self._store.entries(
                partition, members
            )  # first: who discards a letter takes the letter first
            raws = self._store.wire.call("HMGET", of.dead, *members)
            for member, raw, entry in zip(members, raws, entries, strict=True):
                letter = DeadLetter.parse(raw) if raw else None
                if letter is None or letter.reason is not Reason.REFUSED or entry is not None:
                    continue
                message = f"its document was deleted or evicted in Redis; before that: {letter.message}"
                mended = replace(letter, reason=Reason.LOST, message=message)
                done = repair and bool(self._store.wire.run(_RELETTER, (of.dead,), (member, raw, mended.dump())))
                found.note(Drift.ORPHANED_LETTER, member, repaired=done)
        for collection in self._store.wire.run(_RECOUNT, (of.dead, of.dead_counts), (int(repair),)):
            name = f"{collection.decode()} in partition {partition}"
            found.note(Drift.MISCOUNTED_LETTERS, name, repaired=repair)

    def _resurrected(self, partition: int, found: Pass, repair: bool) -> None:
        before_ms = self._store.now_ms() - self._grace_ms
        deletions = self._store.deletions(partition, before_ms=before_ms, limit=SLICE)
        by_collection: dict[str, dict[DocumentId, int]] = {}
        for member, version in deletions.items():
            one = DocumentId.from_member(member)
            by_collection.setdefault(one.collection, {})[one] = version
        for collection, versions in by_collection.items():
            stored = dict(zip(versions, self._sink.find_many(list(versions)), strict=True))
            back = {one: version for one, version in versions.items() if 0 < stored[one].version < version}
            if back and repair:
                self._sink.delete_older(collection, back)
                self._store.invalidate_many([one.member for one in back])
            for one in back:
                found.note(Drift.RESURRECTED, one.member, repaired=repair)

    def _members(self, command: str, key: str) -> Iterator[Sequence[str]]:
        """The members of a sorted set, or the fields of a hash, in slices."""
        cursor = b"0"
        while True:
            cursor, flat = self._store.wire.call(command, key, cursor, "COUNT", SLICE)
            if members := [one.decode() for one in flat[::2]]:
                yield members
            if cursor == b"0":
                return
