"""The atomic steps of a pause: what is set aside, and what is counted and due again."""

from __future__ import annotations

from tests.integration.redis.conftest import claim, commit, members
from writebehind.redis.keys import PAUSED, partition_keys
from writebehind.redis.pending import UntilNext
from writebehind.redis.shared.pauses import ALL


def told_of(store, *paused: str, limit: int = 10) -> list[str] | None:
    """What a flusher claims that knows of these paused collections."""
    return store.pending.claim(0, "t", lease_ms=5_000, limit=limit, paused=paused)


def test_set_aside_and_brought_back(store):
    """Members of a paused collection are pending and not due, in their order and as old as they were."""
    first, second = members(store, 2)
    collection = first.partition("/")[0]
    for member, due_ms in ((second, 2_000), (first, 1_000)):
        commit(store, member)
        store._wire.call("ZADD", partition_keys(0).pending, due_ms, member)

    assert [] == told_of(store, collection)
    found = store.metrics.backlog()[0]
    assert (2, None, (first, 1_000.0)) == (found.pending, found.head, found.aside)
    assert {first, second} == set(store.unsettled.scan(0, "0", count=10)[1])
    assert 1_000.0 == store.inspection.look(first, most_bytes=0).due_ms
    assert 0 == store.pending.bring_forward(0, [first])
    commit(store, first)
    assert [] == told_of(store, "other", collection)
    assert [first, second] == told_of(store, "other")
    assert [first] == told_of(store, "other", limit=1)


def test_what_is_brought_home_is_as_old_as_it_was(store):
    """It is due at home since it was due where it stood, set aside or not; what was not due yet is due now."""
    for score, due_ms in ((2_000, 2_000), (2_000 - 10**13, 2_000), (10**14, None)):
        [member] = members(store, 1, partition=1)
        commit(store, member)
        there, home = partition_keys(0), partition_keys(1)
        store._wire.call("RENAME", home.entry(member), there.entry(member))
        store._wire.call("RENAME", home.pending, there.pending)
        store._wire.call("ZADD", there.pending, score, member)

        assert store.misplaced.bring_home(0, member).is_pending
        due = store.inspection.look(member, most_bytes=0).due_ms
        assert due == due_ms or (due_ms is None and 0 <= store.now_ms() - due < 60_000)


def test_as_many_as_stand_in_the_way(store):
    """One claim sets aside more than it returns; and what it does not reach the next one does, at once."""
    several = members(store, 60)
    for member in several:
        store._wire.call("ZADD", partition_keys(0).pending, store.now_ms(), member)
    collection = several[0].partition("/")[0]
    assert [] == told_of(store, collection, limit=2)
    hint = store.pending.release(0, "t")
    assert hint is not None
    assert hint.delay_ms <= 0
    while store.metrics.backlog()[0].head:
        assert [] == told_of(store, collection, limit=2)
    assert 60 == store.metrics.backlog()[0].pending
    assert several[:1] != told_of(store, limit=0)
    assert set(several) == set(told_of(store, limit=100) or ())


def test_the_task_of_a_pause(store):
    """It comes after some seconds; of all that is paused no write asks for a sooner one, but what resumes does."""
    [member] = members(store, 1)
    commit(store, member)
    told_of(store, limit=0)
    hint = store.pending.release(0, "t", UntilNext(5_000, all_paused=True))
    assert hint is not None
    assert 5_000 == hint.delay_ms
    assert not commit(store, member).ticket
    sooner = store.pending.release(0, "other", UntilNext(paused_ms=0))
    assert sooner is not None
    assert sooner.delay_ms <= 0
    assert claim(store, ticket=hint.ticket) is None
    assert [member] == claim(store, ticket=sooner.ticket)


def test_pauses_that_are_over_are_forgotten(store):
    """So the hash has no more than what is in force, and what other hands put there goes."""
    store.pauses.begin("users", for_ms=1)
    store._wire.call("HSET", PAUSED, "pages", "1000 2000", "slow", "nonsense")
    store.pauses.begin(ALL, for_ms=None)
    store.pauses.begin(ALL, for_ms=60_000)
    assert {ALL.encode()} <= set(store._wire.call("HKEYS", PAUSED)) <= {ALL.encode(), b"users"}
    assert store.pauses.recorded().all is not None
    store.pauses.end([ALL])
    assert not store.pauses.recorded().all
