"""One write that is acknowledged behind the door's back, as an older process may have done it."""

from __future__ import annotations

from writebehind.documents.durability import Durability
from writebehind.redis.store import Commit, CommitRequest, Store


def commit_one(store: Store, request: CommitRequest) -> Commit:
    """Acknowledge it; what became of it."""
    [commit] = store.commit_many([request], Durability.BUFFERED, wait_ms=0)
    return commit
