"""The store that atomic steps are tried on, and short ways to them."""

from __future__ import annotations

import pytest

from tests.commits import commit_one
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.mongodb.outcomes import Write
from writebehind.redis.commits import Commit, CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import AT_ONCE, Settled
from writebehind.redis.store import Store
from writebehind.redis.wire import Wire

PARTITIONS = 4
TTL_MS = 60_000


@pytest.fixture
def store(wire: Wire) -> Store:
    return Store(
        wire,
        database="shop",
        partitions=PARTITIONS,
        max_pending=3,
        tombstone_ttl_ms=90_000,
        recommit_bytes=1 << 20,
    )


def document(text: str) -> Entry:
    return Entry.loaded(text.encode() + b"\x00\xff", 0)


def members(store: Store, count: int, partition: int = 0) -> list[str]:
    """Members that share a partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        member = f"users/s:{number}"
        if store.partition_of(member) == partition:
            found.append(member)
        number += 1
    return found


def commit(
    store: Store, member: str, entry: Entry | None = None, *, delay_ms: int = 0, condition: str = ""
) -> Commit:
    payload = (entry or document("a")).payload
    return commit_one(store, CommitRequest(member, payload, delay_ms, condition))


def settle(store: Store, member: str, version: int, *, ttl_ms: int = TTL_MS, delay_ms: int = 0) -> int:
    partition = store.partition_of(member)
    return store.pending.settle(partition, [Settled(member, f"{version:016d}", ttl_ms)], delay_ms=delay_ms)


def claim(store: Store, token: str = "t", *, limit: int = 10, lease_ms: int = 5_000, ticket: str = ""):
    return store.pending.claim(0, token, lease_ms=lease_ms, limit=limit, ticket=ticket)


def claim_or_release(store: Store, token: str = "t"):
    return store.pending.claim(0, token, lease_ms=5_000, limit=10, or_release=AT_ONCE)


def is_pending(store: Store, member: str) -> bool:
    pending = partition_keys(store.partition_of(member)).pending
    return store._wire.call("ZSCORE", pending, member) is not None


def ttl_ms(store: Store, member: str) -> int:
    return store._wire.call("PTTL", partition_keys(store.partition_of(member)).entry(member))


def newest(store: Store, member: str) -> Write:
    entry, _ = store.cache.get(member)
    return Write(DocumentId.from_member(member), entry)
