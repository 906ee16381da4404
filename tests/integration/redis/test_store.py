"""The store as a whole: reading and dropping many entries, the number of partitions, what is left behind."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from tests.integration.redis.conftest import claim, commit, document, members, settle
from writebehind.documents.entry import DELETED
from writebehind.errors import ConfigurationError
from writebehind.redis.keys import partition_keys
from writebehind.redis.store import Store


def test_what_redis_refuses_is_no_full_redis(valkey_wire):
    """A fault of ours is told as what it is."""
    store = Store(valkey_wire, database="shop", partitions=4, max_pending=10, tombstone_ttl_ms=60_000)
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "t", life_ms=5_000)

    with pytest.raises(ResponseError, match="invalid expire"):
        store.loads.fill(member, "t", document("a"), ttl_ms=0)


def test_invalidate_spares_what_is_pending(store):
    """A pending entry is what MongoDB will become; a clean one goes."""
    [member] = members(store, 1)
    version = commit(store, member).version
    assert not store.cache.invalidate_many([member])[0]
    assert store.cache.get(member)[0] is not None

    settle(store, member, version)

    assert store.cache.invalidate_many([member])[0]
    assert store.cache.get(member)[0] is None


def test_get_many(store):
    """Members of several partitions are read at once; what is missing is left out."""
    one, other, missing = *members(store, 1), *members(store, 1, partition=1), "users/s:missing"
    commit(store, one, document("a"))
    commit(store, other, document("b"))

    found = {
        member: entry for member, (entry, _) in store.cache.get_many_with_ttl([one, other, missing], ()).items()
    }

    assert {one: document("a").body, other: document("b").body} == {k: v.body for k, v in found.items()}


def test_the_number_of_partitions_is_fixed(store, wire):
    """A process that would divide the documents differently is told so."""
    store.check()
    store.check()

    with pytest.raises(ConfigurationError, match="WRITEBEHIND_PARTITIONS=4"):
        Store(wire, database="shop", partitions=5, max_pending=1, tombstone_ttl_ms=1).check()


def test_nothing_is_left_behind_without_a_ttl(store):
    """After a document came and went, only its partition's clock and counts and the audit of deletions stay."""
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "t", life_ms=5_000)
    for entry in (document("a"), DELETED):
        version = commit(store, member, entry).version
        claim(store)
        settle(store, member, version)
        store.pending.release(0, "t")

    of = partition_keys(0)
    lasting = {key.decode() for key in store._wire.call("KEYS", "*") if store._wire.call("PTTL", key) == -1}
    assert {of.clock, of.counts, of.deleted, of.deleted_at} == lasting
