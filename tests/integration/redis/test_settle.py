"""The atomic steps for what MongoDB has: settling, bringing forward, the audit of deletions."""

from __future__ import annotations

import pytest

from tests.integration.redis.conftest import TTL_MS, claim, commit, document, is_pending, members, settle, ttl_ms
from tests.waiting import wait_until
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.redis.keys import partition_keys


def test_settle_gives_a_ttl(store):
    """What MongoDB has is no longer pending, and may expire."""
    [member] = members(store, 1)
    version = commit(store, member).version

    assert settle(store, member, version) == 1

    assert not is_pending(store, member)
    assert 0.9 * TTL_MS - 1_000 <= ttl_ms(store, member) <= TTL_MS
    assert version == store.cache.get(member)[0].version


def test_settle_of_an_older_version_changes_nothing_but_the_due_time(store):
    """A newer write stays pending without TTL when an older one is settled, and is coalesced a while longer."""
    [member] = members(store, 1)
    older = commit(store, member).version
    newer = commit(store, member, document("b")).version

    assert settle(store, member, older, delay_ms=60_000) == 0

    assert is_pending(store, member)
    assert (newer, -1) == (store.cache.get(member)[0].version, ttl_ms(store, member))
    assert claim(store) == []


def test_what_somebody_waits_for_is_brought_forward(store):
    """It is due at once, whatever has put it off; what is due already stays so, and what is not pending too."""
    put_off, due, clean = members(store, 3)
    settle(store, clean, commit(store, clean).version)
    commit(store, due)
    store._wire.call("ZADD", partition_keys(0).pending, 5, due)
    older = commit(store, put_off).version
    commit(store, put_off)
    settle(store, put_off, older, delay_ms=60_000)

    assert 2 == store.pending.bring_forward(0, [put_off, due, clean])

    assert {put_off, due} == set(claim(store))
    assert b"5" == store._wire.call("ZSCORE", partition_keys(0).pending, due)


@pytest.mark.parametrize("newer", [False, True])
def test_what_mongodb_did_not_take_is_not_brought_forward(store, newer):
    """Whoever waits for it asks MongoDB no sooner; a newer version has a chance of its own."""
    [member] = members(store, 1)
    version = commit(store, member).version
    store.pending.record_sending(0, {member: Entry(version, Kind.DELETED)})
    wait_until(lambda: claim(store), "it to be due")
    store.pending.postpone(
        0, [(member, f"{version:016d}")], delay_ms=60_000, longest_ms=60_000, part=1.0, others=True
    )
    if newer:
        commit(store, member, delay_ms=60_000)

    assert int(newer) == store.pending.bring_forward(0, [member])

    assert [member] * newer == claim(store)


def test_settle_twice(store):
    """A settle that is repeated changes nothing."""
    [member] = members(store, 1)
    version = commit(store, member).version

    assert [1, 1] == [settle(store, member, version) for _ in range(2)]
    assert not is_pending(store, member)


def test_a_settled_older_version_does_not_make_a_clean_member_pending(store):
    """A flusher that comes late with an old version leaves a member that is in MongoDB alone."""
    [member] = members(store, 1)
    older, newer = commit(store, member).version, commit(store, member).version
    settle(store, member, newer)

    settle(store, member, older)

    assert not is_pending(store, member)
    assert ttl_ms(store, member) > 0


@pytest.mark.parametrize("then", ["dropped", "cached", "newer", "pending"])
def test_what_a_late_flusher_has_noted_as_sent_goes(store, then):
    """It is about what is pending: where another flusher has settled that in between, nobody else forgets it."""
    [member] = members(store, 1)
    version = commit(store, member).version
    settled = commit(store, member).version if then == "newer" else version
    if then != "pending":
        settle(store, member, settled, ttl_ms=0 if then == "dropped" else TTL_MS)
    else:
        commit(store, member)
    store.pending.record_sending(0, {member: Entry(version, Kind.DELETED)})

    settle(store, member, version)

    assert (then == "pending") == store._wire.call("HEXISTS", partition_keys(0).sent, member)


def test_a_settled_tombstone_is_audited(store):
    """A deletion that MongoDB has stays known for the tombstone's TTL, and is noted for the audit."""
    [member] = members(store, 1)
    version = commit(store, member, DELETED).version

    settle(store, member, version, ttl_ms=1)

    assert TTL_MS < ttl_ms(store, member) <= 90_000
    assert [member.encode()] == store._wire.call("ZRANGE", partition_keys(0).deleted, 0, -1)


def test_the_grace_of_an_audit_begins_when_mongodb_has_the_deletion(store):
    """A deletion that waited for MongoDB for long is audited as late as one that did not."""
    [member] = members(store, 1)
    version = commit(store, member, DELETED).version
    settled_at = store.now_ms()

    settle(store, member, version)

    assert {} == store.deletions.before(0, settled_at - 1, limit=10)
    assert {member: version} == store.deletions.before(0, store.now_ms(), limit=10)
    store.deletions.forget(0, {member: version - 1})
    assert {member: version} == store.deletions.before(0, store.now_ms(), limit=10)
    store.deletions.forget(0, {member: version})
    assert {} == store.deletions.before(0, store.now_ms(), limit=10)


def test_settle_drops_the_entry_where_it_is_not_to_be_kept(store):
    """With a TTL of 0 the entry goes at once."""
    [member] = members(store, 1)

    settle(store, member, commit(store, member).version, ttl_ms=0)

    assert (None, -2) == store.cache.get(member)


def test_nothing_is_left_of_a_deletion_whose_audit_is_over(store):
    """Above the clock a document that is settled ends it, with the time at which it was settled."""
    [member] = members(store, 1)
    of = partition_keys(0)
    settle(store, member, commit(store, member, DELETED).version)
    version = commit(store, member).version
    store._wire.call("SET", of.clock, 5)

    settle(store, member, version)

    assert 0 == store._wire.call("EXISTS", of.deleted, of.deleted_at)


def test_only_the_deletion_that_was_audited_is_forgotten(store):
    """With the time at which it was settled; one that came meanwhile is not."""
    [member] = members(store, 1)
    of = partition_keys(0)
    version = commit(store, member, DELETED).version
    settle(store, member, version)

    store.deletions.forget(0, {member: version - 1})
    assert 2 == store._wire.call("EXISTS", of.deleted, of.deleted_at)
    store.deletions.forget(0, {member: version})
    assert 0 == store._wire.call("EXISTS", of.deleted, of.deleted_at)
