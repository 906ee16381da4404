"""The atomic steps of readers that load from MongoDB: the right to load, the fill, and refreshing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.redis.conftest import TTL_MS, commit, document, members, settle, ttl_ms
from tests.waiting import wait_until
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.redis.cache import Filled
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial
from writebehind.redis.store import Store


@pytest.mark.parametrize(
    ("age", "filled", "kind"),
    [
        (1, Filled.DELETED, Kind.DELETED),
        (-1, Filled.FILLED, Kind.DOCUMENT),
        (None, Filled.FILLED, Kind.DOCUMENT),
    ],
    ids=["older than the deletion", "newer", "somebody else's"],
)
def test_a_fill_does_not_bring_back_what_was_deleted(store, age, filled, kind):
    """Without its tombstone, a deletion is still known to a fill: what a late flusher wrote is not cached."""
    [member] = members(store, 1)
    version = commit(store, member, DELETED).version
    settle(store, member, version)
    store._wire.call("DEL", partition_keys(0).entry(member))  # evicted
    store.loads.get_or_lease(member, "reader", life_ms=5_000)
    loaded = replace(document("old"), version=0 if age is None else version - age)

    assert filled is store.loads.fill(member, "reader", loaded, ttl_ms=TTL_MS)

    assert kind is store.cache.get(member)[0].kind
    assert 0 < ttl_ms(store, member)
    assert kind is Kind.DOCUMENT or version == store.cache.get(member)[0].version


def test_a_fill_does_not_pass_for_what_is_pending(store):
    """When somebody has deleted a pending entry by hand, what MongoDB has does not take its place."""
    [member] = members(store, 1)
    commit(store, member)
    store._wire.call("DEL", partition_keys(0).entry(member))
    store.loads.get_or_lease(member, "reader", life_ms=5_000)

    assert Filled.REFUSED is store.loads.fill(member, "reader", document("old"), ttl_ms=TTL_MS)

    assert store.cache.get(member)[0] is None


@pytest.mark.parametrize("filled", [Filled.DELETED, Filled.NOT_KEPT])
def test_the_right_to_load_ends_with_whatever_became_of_it(store, filled):
    """Others need not wait for a reader that has its answer."""
    [member] = members(store, 1)
    of = partition_keys(0)
    assert store.loads.get_or_lease(member, "t", life_ms=5_000).may_load
    if filled is Filled.DELETED:
        store._wire.call("ZADD", of.deleted, 9, member)
    else:
        store._wire.call("HSET", of.heat, "floor", 5)

    entry = replace(document("a"), version=5)
    assert filled is store.loads.fill(member, "t", entry, ttl_ms=TTL_MS, full=filled is Filled.NOT_KEPT)

    assert 0 == store._wire.call("EXISTS", of.load(member))


def test_one_reader_may_load(store):
    """Of the readers that miss, one gets the right to load, until it fills or gives it back."""
    [member] = members(store, 1)

    assert store.loads.get_or_lease(member, "one", life_ms=5_000).may_load
    assert not store.loads.get_or_lease(member, "two", life_ms=5_000).may_load
    store.loads.abandon([member], "two")
    assert not store.loads.get_or_lease(member, "two", life_ms=5_000).may_load
    store.loads.abandon([member], "one")
    assert store.loads.get_or_lease(member, "two", life_ms=5_000).may_load


def test_the_right_to_load_runs_out(store):
    """A reader that died does not keep others from loading."""
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "dead", life_ms=50)

    assert wait_until(
        lambda: store.loads.get_or_lease(member, "next", life_ms=50).may_load, "the token to run out"
    )


def test_fill(store):
    """What the reader with the right to load found is there for all, with its TTL."""
    [member] = members(store, 1)
    entry = document("loaded")
    store.loads.get_or_lease(member, "one", life_ms=5_000)

    assert store.loads.fill(member, "one", entry, ttl_ms=TTL_MS)

    lookup = store.loads.get_or_lease(member, "two", life_ms=5_000)
    assert (entry, False) == (lookup.entry, lookup.may_load)
    assert 0 < lookup.ttl_ms <= TTL_MS


def test_what_lives_longer_than_was_seen_is_not_refreshed_once_more(store):
    """Another reader was faster."""
    [member] = members(store, 1)
    settle(store, member, commit(store, member).version)

    assert store.loads.lease_refreshes({member: TTL_MS // 2}, life_ms=5_000)[1].get(member) is None


@pytest.mark.parametrize("between", ["commit", "deletion", "commit and settle", "invalidate", "another reader"])
def test_a_fill_never_hides_what_came_in_between(store, between):
    """A value loaded before a write, a deletion or an invalidation is not cached after it."""
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "slow", life_ms=5_000)
    if between == "invalidate":
        assert store.cache.invalidate_many([member])[0]
    elif between == "another reader":
        store.loads.abandon([member], "slow")
        assert store.loads.get_or_lease(member, "fast", life_ms=5_000).may_load
    else:
        version = commit(store, member, DELETED if between == "deletion" else document("new")).version
        if between == "commit and settle":
            settle(store, member, version, ttl_ms=0)
    before, _ = store.cache.get(member)

    assert not store.loads.fill(member, "slow", document("old"), ttl_ms=TTL_MS).is_stored

    assert before == store.cache.get(member)[0]


def filled(store: Store, member: str, name: str = "old") -> Entry:
    """An entry that MongoDB has as well."""
    assert store.loads.get_or_lease(member, "first", life_ms=5_000).may_load
    assert Filled.FILLED is store.loads.fill(member, "first", document(name), ttl_ms=TTL_MS)
    return document(name)


def test_a_fill_without_its_right(store):
    """What was loaded is good for the reader, unless something says otherwise; and nothing is stored."""
    [member] = members(store, 1)
    assert Filled.ALONE is store.loads.fill(member, "evicted", document("a"), ttl_ms=TTL_MS)
    assert store.loads.get_or_lease(member, "next", life_ms=5_000).may_load
    assert Filled.ALONE is store.loads.fill(member, "evicted", document("a"), ttl_ms=TTL_MS)
    assert store.loads.may_fill(member, "next")  # the right of another reader stays
    deletion = commit(store, member, DELETED).version
    settle(store, member, deletion)
    store._wire.call("DEL", store.cache.key(member))
    late = replace(document("a"), version=deletion - 1)
    assert Filled.DELETED_ALONE is store.loads.fill(member, "evicted", late, ttl_ms=TTL_MS)
    assert (None, -2) == store.cache.get(member)
    commit(store, member, document("b"))
    assert store.loads.get_or_lease(member, "next", life_ms=5_000).entry is not None
    assert Filled.REFUSED is store.loads.fill(member, "evicted", document("a"), ttl_ms=TTL_MS)
    store._wire.call("DEL", store.cache.key(member))  # by hand: it is pending all the same
    assert Filled.REFUSED is store.loads.fill(member, "evicted", document("a"), ttl_ms=TTL_MS)


def test_a_deletion_that_is_forgotten_between_the_lease_and_the_fill(store):
    """Whoever got the right to load knows it: what a late flusher has brought back is not answered."""
    [member] = members(store, 1)
    deletion = commit(store, member, DELETED).version
    settle(store, member, deletion)
    store._wire.call("DEL", store.cache.key(member))
    lease = store.loads.get_or_lease(member, "evicted", life_ms=5_000)
    assert (True, deletion) == (lease.may_load, lease.deletion)
    assert 0 == store.loads.get_or_lease(member, "waits", life_ms=5_000).deletion
    assert 1 == store.deletions.forget(0, {member: deletion})
    store._wire.call("DEL", partition_keys(0).load(member))

    for version, outcome in ((deletion - 1, Filled.DELETED_ALONE), (deletion + 1, Filled.ALONE)):
        late = replace(document("a"), version=version)
        assert outcome is store.loads.fill(member, "evicted", late, ttl_ms=TTL_MS, deletion=lease.deletion)
    assert 0 == store.loads.get_or_lease(member, "next", life_ms=5_000).deletion


@pytest.mark.parametrize("then", ["dropped", "evicted", "superseded"])
def test_a_refresh_never_hides_a_write_that_is_gone_again(store, then):
    """What is read anew before a write is not cached after it, wherever the write's entry is by then."""
    [member] = members(store, 1)
    filled(store, member)
    right = store.loads.lease_refreshes({member: TTL_MS}, life_ms=5_000)[1].get(member)
    version = commit(store, member, document("new")).version
    if then == "superseded":
        assert Burial.BURIED is store.pending.bury(member, f"{version:016d}", b"{}", drop_entry=True)
    else:
        settle(store, member, version, ttl_ms=0 if then == "dropped" else TTL_MS)
        store._wire.call("DEL", store.cache.key(member))
    assert store.loads.get_or_lease(member, "next", life_ms=5_000).may_load
    store.loads.abandon([member], "next")

    assert Filled.REFUSED is store.loads.fill(member, right.token, document("old"), ttl_ms=TTL_MS, seen=right.seen)
    assert (None, -2) == store.cache.get(member)


@pytest.mark.parametrize("how", ["load", "refresh"])
@pytest.mark.parametrize("there", ["another entry", "nothing"])
def test_a_fill_replaces_only_what_was_seen(store, how, there):
    """Also where an entry came, changed or went without its token: by hand, or from a replica that was behind."""
    [member] = members(store, 1)
    if how == "refresh":
        filled(store, member)
        right = store.loads.lease_refreshes({member: TTL_MS}, life_ms=5_000)[1].get(member)
        token, seen = right.token, right.seen
    else:
        assert store.loads.get_or_lease(member, token := "slow", life_ms=5_000).may_load
        seen = ""
    if there == "another entry":
        store._wire.call("SET", store.cache.key(member), replace(document("new"), version=7).value, "PX", TTL_MS)
    else:
        store._wire.call("DEL", store.cache.key(member))
    before, _ = store.cache.get(member)

    nothing_was_seen = (how, there) == ("load", "nothing")
    assert (Filled.FILLED if nothing_was_seen else Filled.REFUSED) is store.loads.fill(
        member, token, document("old"), ttl_ms=TTL_MS, seen=seen
    )
    after, _ = store.cache.get(member)
    assert (document("old") if nothing_was_seen else before) == after
    assert (
        nothing_was_seen or store._wire.call("EXISTS", partition_keys(0).load(member)) == 0
    )  # nobody waits for it


def test_a_right_to_refresh_is_taken_over(store):
    """Once its entry is gone, a reader need not wait for a refresh that may be lost: it loads instead of it."""
    [member] = members(store, 1)
    filled(store, member)
    right = store.loads.lease_refreshes({member: TTL_MS}, life_ms=5_000)[1].get(member)
    assert store.loads.lease_refreshes({member: TTL_MS}, life_ms=5_000)[1].get(member) is None
    store._wire.call("DEL", store.cache.key(member))

    assert store.loads.get_or_lease(member, "next", life_ms=5_000).may_load
    assert not store.loads.get_or_lease(member, "third", life_ms=5_000).may_load
    assert Filled.REFUSED is store.loads.fill(member, right.token, document("old"), ttl_ms=TTL_MS, seen=right.seen)
    assert Filled.FILLED is store.loads.fill(member, "next", document("new"), ttl_ms=TTL_MS)


def test_rights_to_refresh_are_given_back(store):
    """Several are asked for at once, of which each is the right of one reader until it gives it back."""
    one, other, missing = members(store, 3)
    filled(store, one)
    filled(store, other)
    token, rights = store.loads.lease_refreshes(dict.fromkeys((one, other, missing), TTL_MS), life_ms=5_000)
    assert ({one, other}, {token}) == (rights.keys(), {right.token for right in rights.values()})
    store.loads.give_back([rights[one]])
    assert store.loads.lease_refreshes({one: TTL_MS}, life_ms=5_000)[1].get(one) is not None
    assert store.loads.lease_refreshes({other: TTL_MS}, life_ms=5_000)[1].get(other) is None
