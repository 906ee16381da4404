"""One write that is acknowledged behind the door's back, as an older process may have done it."""

from __future__ import annotations

from writebehind.redis.commits import Commit, CommitRequest
from writebehind.redis.store import Store

#: The clock of a partition, as only other hands can have made it: MongoDB compares no version from 2^52 on.
NO_CLOCKS = [(1 << 52) - 1, 1 << 52, 5 * 10**15, (1 << 53) - 2, "nan", "-inf", "1e300", "text", "", -5]


def commit_one(store: Store, request: CommitRequest) -> Commit:
    """Acknowledge it; what became of it."""
    [commit] = store.commit_many([request])
    return commit
