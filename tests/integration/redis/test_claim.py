"""The atomic steps of a flusher that claims a partition and lets go of it: order, lease, hints; and the sweep."""

from __future__ import annotations

from tests.integration.redis.conftest import claim, claim_or_release, commit, members, newest, settle
from tests.waiting import wait_until
from writebehind.flushing.attempts import postpone
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Released, UntilNext


def test_what_is_due_soon_goes_along_with_what_is_due(store):
    """Where a member is due, those that are due soon are claimed too, if they may; where none is, nothing is."""
    now, soon, other = members(store, 3)
    commit(store, other, delay_ms=30_000)
    commit(store, soon, delay_ms=20_000)
    asked: dict[str, int] = {}

    def claim_soon(limit: int = 10, *, but: str = "", soon_ms: int = 40_000) -> list[str] | None:
        def goes_along(member: str, left_ms: int) -> bool:
            asked[member] = left_ms
            return member != but

        return store.pending.claim(0, "t", lease_ms=5_000, limit=limit, soon_ms=soon_ms, goes_along=goes_along)

    assert [] == claim_soon()
    commit(store, now)
    assert [now] == claim(store)
    assert [now, soon, other] == claim_soon()
    assert 10_000 < asked[soon] <= 20_000 < asked[other] <= 30_000
    assert [now, other] == claim_soon(but=soon)
    assert [now, soon] == claim_soon(soon_ms=25_000)
    assert [now, soon] == claim_soon(limit=2)
    assert [now] == claim_soon(limit=1)


def test_claim_returns_the_longest_waiting_first(store):
    """What waits longest goes first, and no more than was asked for."""
    first, second, later = members(store, 3)
    pending = partition_keys(0).pending
    for member, age in ((second, 50), (first, 100), (later, -60_000)):
        commit(store, member)
        store._wire.call("ZADD", pending, store.now_ms() - age, member)

    assert [first, second] == claim(store)
    assert [first] == claim(store, limit=1)


def test_one_flusher_owns_a_partition(store):
    """While one flusher has the lease, another gets nothing; when it has run out, it does."""
    [member] = members(store, 1)
    commit(store, member)
    assert claim(store, "one", lease_ms=60_000) == [member]
    assert claim(store, "two") is None

    store._wire.call("PEXPIRE", partition_keys(0).lease, 50)
    assert wait_until(lambda: claim(store, "two"), "the lease to run out") == [member]


def test_an_overtaken_flush_task_gets_nothing(store):
    """Of two flush tasks for a partition only the one that was asked for last goes on."""
    [member] = members(store, 1)
    ticket = commit(store, member).ticket

    assert claim(store, "one", ticket="older") is None
    assert claim(store, "one", ticket=ticket) == [member]


def test_writes_enqueue_nothing_while_a_flusher_is_at_work(store):
    """Also where nobody had scheduled it: it looks at what is pending before it lets go."""
    first, second = members(store, 2)
    commit(store, first)
    store._wire.call("DEL", partition_keys(0).scheduled)
    assert [first] == claim(store)

    assert "" == commit(store, second).ticket


def test_the_owner_of_a_lease_goes_on(store):
    """A flusher at work is not overtaken by a ticket that was issued as its own note was evicted."""
    [member] = members(store, 1)
    commit(store, member)
    ticket = commit(store, member).ticket
    assert claim(store, "owner", ticket=ticket) == [member]
    store._wire.call("DEL", partition_keys(0).scheduled)
    assert commit(store, member).ticket

    assert claim(store, "owner", ticket=ticket) == [member]


def test_release_asks_for_another_task_while_members_are_pending(store):
    """No wake-up is lost: a write that came during the flush is flushed by the next task."""
    first, second = members(store, 2)
    version = commit(store, first).version
    claim(store)
    assert not commit(store, second, delay_ms=40_000).ticket  # the flusher that works will see it
    settle(store, first, version)

    hint = store.pending.release(0, "t")

    assert hint is not None
    assert (0, True) == (hint.partition, 30_000 < hint.delay_ms <= 40_000)
    assert claim(store, "u", ticket=hint.ticket) == []


def test_a_claim_that_finds_nothing_due_lets_go_in_the_same_step(store):
    """It says when the next task is wanted, as `release` does; who comes with its ticket may claim."""
    first, second = members(store, 2)
    version = commit(store, first).version
    assert [first] == claim_or_release(store)
    assert [first] == claim_or_release(store)  # it is due still: kept, and renewed
    assert claim(store, "other") is None
    commit(store, second, delay_ms=40_000)
    settle(store, first, version)

    released = claim_or_release(store)

    assert (0, True) == (released.hint.partition, 30_000 < released.hint.delay_ms <= 40_000)
    assert commit(store, second, delay_ms=40_000).ticket == ""  # that task is on its way
    assert claim(store, "other", ticket=released.hint.ticket) == []


def test_a_claim_that_finds_nothing_pending_asks_for_no_task(store):
    """The next write does; and where another flusher is at work, nothing is let go of."""
    assert Released(None) == claim_or_release(store)
    [member] = members(store, 1)
    assert commit(store, member).ticket
    claim(store, "owner")
    settle(store, member, newest(store, member).entry.version)

    assert claim_or_release(store) is None

    assert claim(store, "other") is None


def test_release_of_an_empty_partition(store):
    """When nothing is pending nobody is asked for, and the next write asks again."""
    [member] = members(store, 1)
    version = commit(store, member).version
    claim(store)
    settle(store, member, version)

    assert store.pending.release(0, "t") is None

    assert commit(store, member).ticket


def test_release_waits_at_least_as_long_as_asked(store):
    """A backoff holds for what is overdue too."""
    [member] = members(store, 1)
    commit(store, member)
    claim(store)

    hint = store.pending.release(0, "t", UntilNext(700))

    assert hint is not None
    assert 700 == hint.delay_ms


def test_only_the_owner_releases(store):
    """A flusher whose lease was lost does not take it from its successor."""
    [member] = members(store, 1)
    commit(store, member)
    claim(store, "owner")

    assert store.pending.release(0, "former") is None

    assert claim(store, "other") is None


def test_no_other_task_is_wanted_before_the_one_that_is_due_late(store):
    """What `release` asks for is on its way until it runs, however late that is."""
    [member] = members(store, 1)
    commit(store, member, delay_ms=50_000)
    claim(store)

    hint = store.pending.release(0, "t")

    assert hint is not None
    assert hint.delay_ms + 1_000 < store._wire.call("PTTL", partition_keys(0).scheduled)


def test_a_lease_is_renewed_by_its_owner(store):
    """With each batch, for its whole life."""
    claim(store, lease_ms=5_000)

    claim(store, lease_ms=50_000)

    of = partition_keys(0)
    assert all(5_000 < ttl <= 50_000 for ttl in store._wire.calls((("PTTL", of.lease), ("PTTL", of.scheduled))))


def test_what_a_clock_has_left_behind_is_due(store):
    """Nobody has asked for so late a time: a task is wanted now, it is claimed, swept, and its attempts count."""
    [member] = members(store, 1)
    commit(store, member)
    of = partition_keys(0)
    store.pending.record_sending(0, {member: newest(store, member).entry})
    behind = store.now_ms() + 2 * store.pending.longest_wait_ms
    store._wire.call("ZADD", of.pending, behind, member)

    assert 0 == store.pending.release(0, "t").delay_ms
    store._wire.call("DEL", of.scheduled)
    assert store.pending.sweep(0, overdue_ms=60_000)[1] is not None
    store._wire.call("DEL", of.scheduled)
    assert [member] == claim(store)
    assert 1 == postpone(store, 0, [Outcome(newest(store, member), Result.UNCLEAR)], others=True)[0].attempts


def test_sweep_steps_in_only_where_nobody_will(store):
    """A partition is swept when members are overdue and no flush task is on its way or at work."""
    [member] = members(store, 1)
    commit(store, member)
    of = partition_keys(0)
    assert (1, None) == store.pending.sweep(0, overdue_ms=0)  # a task is on its way
    claim(store)
    store._wire.call("DEL", of.scheduled)
    assert (1, None) == store.pending.sweep(0, overdue_ms=0)  # at work
    store._wire.call("DEL", of.lease)
    assert (1, None) == store.pending.sweep(0, overdue_ms=60_000)  # not overdue

    count, hint = store.pending.sweep(0, overdue_ms=0)

    assert (1, 0) == (count, hint.partition)
    assert (1, None) == store.pending.sweep(0, overdue_ms=0)  # now one is on its way
    assert claim(store, ticket=hint.ticket) == [member]
