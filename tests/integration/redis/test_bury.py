"""The atomic steps that make dead letters: which entry stays, and which version counts."""

from __future__ import annotations

from tests.integration.redis.conftest import TTL_MS, commit, document, is_pending, members, settle, ttl_ms
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial


def test_a_buried_member_is_read_but_not_flushed(store):
    """Readers keep seeing the acknowledged value of a dead letter."""
    [member] = members(store, 1)
    version = commit(store, member).version

    assert store.pending.bury(member, f"{version:016d}", b"why")

    assert not is_pending(store, member)
    assert (version, -1) == (store.cache.get(member)[0].version, ttl_ms(store, member))
    assert b"why" == store._wire.call("HGET", partition_keys(0).dead, member)


def test_a_letter_goes_when_another_flusher_has_brought_its_version_to_mongodb(store):
    """What was given up is there all the same; and it is not counted any more."""
    [member] = members(store, 1)
    version = commit(store, member).version
    letter = f"{version:016d}{{}}".encode()
    assert Burial.BURIED is store.pending.bury(member, f"{version:016d}", letter, drop_entry=False)

    settle(store, member, version)

    of = partition_keys(0)
    assert 0 == store._wire.call("HEXISTS", of.dead, member)
    assert b"0" == store._wire.call("HGET", of.dead_counts, "users")


def test_a_newer_version_is_not_buried(store):
    """Only the version that was refused is buried."""
    [member] = members(store, 1)
    refused = commit(store, member).version
    commit(store, member, document("b"))

    assert not store.pending.bury(member, f"{refused:016d}", b"why")

    assert is_pending(store, member)
    assert [] == store._wire.call("HKEYS", partition_keys(0).dead)


def test_a_conflict_drops_the_entry(store):
    """When MongoDB has a newer version, readers are to see that one."""
    [member] = members(store, 1)

    assert store.pending.bury(member, f"{commit(store, member).version:016d}", b"why", drop_entry=True)

    assert store.cache.get(member)[0] is None


def test_a_refused_letter_keeps_its_entry(store):
    """A conflict that is found too late does not take the only place where a refused document stands."""
    [member] = members(store, 1)
    version = f"{commit(store, member).version:016d}"
    assert Burial.BURIED is store.pending.bury(member, version, b"refused")

    assert Burial.NOT_PENDING is store.pending.bury(member, version, b"conflict", drop_entry=True)

    assert store.cache.get(member)[0] is not None
    assert b"refused" == store._wire.call("HGET", partition_keys(0).dead, member)


def test_a_conflict_that_is_found_too_late(store):
    """What was settled meanwhile is dropped all the same, as MongoDB has something else."""
    [member] = members(store, 1)
    version = commit(store, member).version
    settle(store, member, version)

    assert Burial.NOT_PENDING is store.pending.bury(member, f"{version:016d}", b"conflict", drop_entry=True)

    assert store.cache.get(member)[0] is None


def test_a_burial_takes_the_token(store):
    """A load that began before a conflict is not cached after it."""
    [member] = members(store, 1)
    version = f"{commit(store, member).version:016d}"
    load = partition_keys(0).load(member)
    store._wire.call("SET", load, "slow", "PX", 5_000)  # as a refresh may hold it

    assert store.pending.bury(member, version, b"conflict", drop_entry=True)

    assert not store.loads.fill(member, "slow", document("old"), ttl_ms=TTL_MS).is_stored


def test_a_lost_entry_is_buried(store):
    """A pending member whose entry is gone does not stop its partition."""
    [member] = members(store, 1)
    commit(store, member)
    store._wire.call("DEL", partition_keys(0).entry(member))

    assert store.pending.bury(member, "", b"lost")

    assert not is_pending(store, member)
