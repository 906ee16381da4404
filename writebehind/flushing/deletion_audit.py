"""Deletions are audited: what a paused flusher brought back after its deletion is deleted again."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.redis import keys
from writebehind.redis.reach import each_reached
from writebehind.redis.shared.lease import Lease
from writebehind.redis.store import Store
from writebehind.sequences import grouped

log = logging.getLogger(__name__)

#: Its name among the periodic tasks.
AUDIT = "audit"
#: Deletions are audited when MongoDB has had them for this many leases.
GRACE_LEASES = 3
#: So many at once, and for so long in one go, seconds.
SLICE, MOST_S = 200, 30.0


class DeletionAudit:
    """Audits the deletions of one installation."""

    def __init__(self, store: Store, sink: Sink, *, lease_ms: int) -> None:
        """Join the parts; `lease_ms` is how long a flusher owns a partition."""
        self._store = store
        self._sink = sink
        self._lease_ms = lease_ms
        self._outages = OutageLog(log, "refusal")

    def audit(self) -> dict[str, int]:
        """Look once more at deletions that are old enough, and forget them then.

        A flusher that had read an older version before the deletion may write it after: only by as much as it
        outlives its lease. So one look after a grace of several leases is enough.

        One process audits at a time, for at most `MOST_S` and a slice: a sweep that finds another one at it goes
        on without.

        Raises:
            UnavailableError: Redis or MongoDB does not answer; the rest is audited next time. Of several servers
                of Redis those are audited that answer.
        """
        lease = self._store.lease(keys.AUDIT_LEASE, self._lease_ms, needed=False)
        if not lease.take():
            return {"audited": 0, "deleted_again": 0}
        try:
            with self._store.metrics.record_run(AUDIT) as outcome:
                found = self._audit(lease)
                outcome(**found)
                return found
        finally:
            lease.release()

    def _audit(self, lease: Lease) -> dict[str, int]:
        done = {"audited": 0, "deleted_again": 0}
        until = time.monotonic() + MOST_S
        goes_on = True

        def audit(partition: int) -> None:
            nonlocal goes_on
            goes_on = goes_on and self._audit_in(partition, lease, until, done)

        each_reached(self._store.layout.in_use(), audit)
        return done

    def _audit_in(self, partition: int, lease: Lease, until: float, done: dict[str, int]) -> bool:
        """Audit a partition; whether the lease and the time allow for others."""
        before_ms = self._store.now_ms(partition) - GRACE_LEASES * self._lease_ms
        while found := self._store.deletions.before(partition, before_ms, limit=SLICE):
            for collection, versions in by_collection(found).items():
                try:
                    done["deleted_again"] += delete_again(self._store, self._sink, collection, versions)
                except MongoRefusesError as error:  # so would it refuse what a paused flusher brings back
                    self._outages.note(collection, f"deletions in {collection} are not audited: {error}")
            forgotten = self._store.deletions.forget(partition, found)
            done["audited"] += len(found)
            if time.monotonic() >= until or not lease.renew():
                return False
            if not forgotten:  # each was deleted again meanwhile: the same would come once more
                break
        return True


def by_collection(deletions: Mapping[str, int]) -> dict[str, dict[DocumentId, int]]:
    """Deletions, members with their versions, by collection."""
    found = ((DocumentId.from_member(member), version) for member, version in deletions.items())
    return {collection: dict(some) for collection, some in grouped(found, lambda one: one[0].collection).items()}


def delete_again(store: Store, sink: Sink, collection: str, versions: Mapping[DocumentId, int]) -> int:
    """Delete documents of a collection that MongoDB has again since they were deleted at these versions; how many.

    Raises:
        MongoRefusesError: MongoDB refuses to delete some of them.
        UnavailableError: Redis or MongoDB does not answer.
    """
    try:
        return sink.delete_older(collection, versions)
    finally:  # somebody may have read what was brought back, or be about to
        store.cache.invalidate_many([one.member for one in versions])
