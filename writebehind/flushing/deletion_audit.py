"""Deletions are audited: what a paused flusher brought back after its deletion is deleted again."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError
from writebehind.mongodb.sink import Sink
from writebehind.redis import keys
from writebehind.redis.lease import Lease
from writebehind.redis.store import Store

log = logging.getLogger(__name__)

#: What it is called among the periodic tasks.
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

    def audit(self) -> dict[str, int]:
        """Look once more at deletions that are old enough, and forget them then.

        A flusher that had read an older version before the deletion may write it after: only by as much as it
        outlives its lease. So one look after a grace of several leases is enough.

        One process audits at a time, for at most `MOST_S` and a slice: a sweep that finds another one at it goes
        on without.

        Raises:
            UnavailableError: Redis or MongoDB does not answer; the rest is audited next time.
        """
        lease = self._store.lease(keys.AUDIT_LEASE, self._lease_ms)
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
        audited = deleted = 0
        until = time.monotonic() + MOST_S
        before_ms = self._store.now_ms() - GRACE_LEASES * self._lease_ms
        for partition in range(self._store.partitions):
            while found := self._store.deletions.before(partition, before_ms, limit=SLICE):
                by_collection: dict[str, dict[DocumentId, int]] = defaultdict(dict)
                for member, version in found.items():
                    one = DocumentId.from_member(member)
                    by_collection[one.collection][one] = version
                for collection, versions in by_collection.items():
                    try:
                        deleted += self._sink.delete_older(collection, versions)
                    except MongoRefusesError as error:  # so would it refuse what a paused flusher brings back
                        log.warning("deletions in %s are not audited: %s", collection, error)
                self._store.cache.invalidate_many(
                    found
                )  # somebody may have read what was brought back, or be about to
                self._store.deletions.forget(partition, found)
                audited += len(found)
                if time.monotonic() >= until or not lease.renew():
                    return {"audited": audited, "deleted_again": deleted}
        return {"audited": audited, "deleted_again": deleted}
