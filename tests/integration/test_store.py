"""The contract of the atomic steps: the same on fakeredis, on Valkey and, where it is installed, on Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from tests.commits import commit_one
from tests.waiting import wait_until
from writebehind.documents.durability import Durability
from writebehind.documents.entry import ABSENT, DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import ConfigurationError
from writebehind.flushing import attempts
from writebehind.flushing.attempts import postpone
from writebehind.mongodb.outcomes import Outcome, Result, Write
from writebehind.redis.cache import Filled
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial, Contest, Reissue, Settled
from writebehind.redis.store import Commit, CommitRequest, CommitStatus, Store
from writebehind.redis.wire import Wire

PARTITIONS = 4
TTL_MS = 60_000


@pytest.fixture
def store(wire: Wire) -> Store:
    return Store(wire, partitions=PARTITIONS, max_pending=3, tombstone_ttl_ms=90_000)


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


def is_pending(store: Store, member: str) -> bool:
    pending = partition_keys(store.partition_of(member)).pending
    return store._wire.call("ZSCORE", pending, member) is not None


def ttl_ms(store: Store, member: str) -> int:
    return store._wire.call("PTTL", partition_keys(store.partition_of(member)).entry(member))


# commit -----------------------------------------------------------------------------------------------


def test_a_commit_is_what_readers_see(store):
    """A committed entry is read back byte for byte, with the version that was acknowledged."""
    [member] = members(store, 1)
    entry = document("ada")

    done = commit(store, member, entry)

    found, ttl = store.cache.get(member)
    assert (CommitStatus.OK, "", True) == (done.status, done.previous, bool(done.ticket))
    assert (done.version, entry.etag, entry.body, -1) == (found.version, found.etag, found.body, ttl)


def test_versions_grow_even_when_the_clock_steps_back(store):
    """Every version is larger than the one before in its partition, whatever the clock says."""
    [member] = members(store, 1)
    first = commit(store, member).version
    future = first + 10**12
    store._wire.call("SET", partition_keys(0).clock, future)

    assert [future + 1, future + 2] == [commit(store, member).version for _ in range(2)]


def test_a_version_is_the_time_of_redis_in_microseconds(store):
    """A version tells when the write was acknowledged."""
    [member] = members(store, 1)
    before = store.now_ms()

    version = commit(store, member).version

    assert before <= version // 1000 <= store.now_ms()


def test_pending_entries_have_no_ttl(store):
    """A write to a clean entry takes its TTL away: what is pending must not expire."""
    [member] = members(store, 1)
    settle(store, member, commit(store, member).version)
    assert 0 < ttl_ms(store, member) <= TTL_MS

    commit(store, member)

    assert ttl_ms(store, member) == -1


def test_a_hot_document_is_due_by_its_first_write(store):
    """Later writes do not put off the flush that the first one asked for."""
    [member] = members(store, 1)
    commit(store, member, delay_ms=0)
    commit(store, member, delay_ms=60_000)

    assert claim(store) == [member]


def test_an_urgent_write_brings_the_flush_forward(store):
    """A write that waits for MongoDB does not wait for the coalescing of those before it."""
    [member] = members(store, 1)
    commit(store, member, delay_ms=60_000)
    assert claim(store) == []

    commit(store, member, delay_ms=0)

    assert claim(store) == [member]


@pytest.mark.parametrize(
    ("before", "condition", "expected"),
    [
        (None, "", CommitStatus.OK),
        (None, "*", CommitStatus.UNKNOWN),
        (None, document("a").etag, CommitStatus.UNKNOWN),
        (document("a"), "*", CommitStatus.FAILED),
        (document("a"), document("a").etag, CommitStatus.OK),
        (document("a"), document("b").etag, CommitStatus.FAILED),
        (DELETED, "*", CommitStatus.OK),
        (DELETED, document("a").etag, CommitStatus.FAILED),
        (ABSENT, "*", CommitStatus.OK),
        (ABSENT, document("a").etag, CommitStatus.FAILED),
    ],
)
def test_conditions(store, before, condition, expected):
    """A conditional write happens exactly when its condition holds; a missing entry decides nothing."""
    [member] = members(store, 1)
    if before is not None:
        commit(store, member, before)
    entry_before, _ = store.cache.get(member)

    done = commit(store, member, document("c"), condition=condition)

    assert expected == done.status
    if expected is not CommitStatus.OK:
        assert (entry_before, 0) == (store.cache.get(member)[0], done.version)


def test_the_cap_refuses_new_members_only(store):
    """Over the cap a partition takes no new member, but still takes writes to those that are pending."""
    first, *others, extra = members(store, 4)
    for member in (first, *others):
        commit(store, member)

    refused = commit(store, extra)

    assert (CommitStatus.FULL, None) == (refused.status, store.cache.get(extra)[0])
    assert CommitStatus.OK == commit(store, first).status
    assert CommitStatus.OK == commit(store, members(store, 1, partition=1)[0]).status


def test_one_flush_task_per_window(store):
    """Only the first write of a window asks for a flush task."""
    first, second = members(store, 2)

    asked = [bool(commit(store, member).ticket) for member in (first, second, first)]

    assert [True, False, False] == asked


def test_an_urgent_write_does_not_wait_for_a_late_task(store):
    """A flush task that was asked for by less urgent writes is replaced by one that comes in time."""
    slow, soon, urgent = members(store, 3)
    late = commit(store, slow, delay_ms=60_000).ticket
    assert not commit(store, soon, delay_ms=59_500).ticket  # soon enough

    in_time = commit(store, urgent).ticket

    assert in_time
    assert claim(store, ticket=late) is None
    assert claim(store, ticket=in_time) == [urgent]


def test_many_commits_in_one_go(store):
    """Several commits in one round trip are answered each by itself, in their order."""
    first, second = members(store, 2)
    requests = [
        CommitRequest(first, document("a").payload, 0),
        CommitRequest(first, document("b").payload, 0, "*"),
        CommitRequest(second, DELETED.payload, 0),
    ]

    statuses = [one.status for one in store.commit_many(requests, Durability.BUFFERED, wait_ms=0)]

    assert [CommitStatus.OK, CommitStatus.FAILED, CommitStatus.OK] == statuses


# claim, settle, release -------------------------------------------------------------------------------


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
    assert claim(store, "one", lease_ms=50) == [member]
    assert claim(store, "two") is None

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
    before = store._wire.call("ZSCORE", partition_keys(0).pending, due)
    older = commit(store, put_off).version
    commit(store, put_off)
    settle(store, put_off, older, delay_ms=60_000)

    assert 2 == store.pending.bring_forward(0, [put_off, due, clean])

    assert {put_off, due} == set(claim(store))
    assert before == store._wire.call("ZSCORE", partition_keys(0).pending, due)


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


def test_the_owner_of_a_lease_goes_on(store):
    """A flusher at work is not overtaken by a ticket that was issued as its own note was evicted."""
    [member] = members(store, 1)
    commit(store, member)
    ticket = commit(store, member).ticket
    assert claim(store, "owner", ticket=ticket) == [member]
    store._wire.call("DEL", partition_keys(0).scheduled)
    assert commit(store, member).ticket

    assert claim(store, "owner", ticket=ticket) == [member]


def test_settle_drops_the_entry_where_it_is_not_to_be_kept(store):
    """With a TTL of 0 the entry goes at once."""
    [member] = members(store, 1)

    settle(store, member, commit(store, member).version, ttl_ms=0)

    assert (None, -2) == store.cache.get(member)


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

    hint = store.pending.release(0, "t", least_delay_ms=700)

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
    """Nobody has asked for so late a time: it is claimed, swept, and its attempts count."""
    [member] = members(store, 1)
    commit(store, member)
    of = partition_keys(0)
    store.pending.record_sending(0, {member: newest(store, member).entry})
    behind = store.now_ms() + 2 * store.pending.longest_wait_ms
    store._wire.call("ZADD", of.pending, behind, member)
    store._wire.call("DEL", of.scheduled)

    assert store.pending.sweep(0, overdue_ms=60_000)[1] is not None
    store._wire.call("DEL", of.scheduled)
    assert [member] == claim(store)
    assert 1 == postpone(store, 0, [Outcome(newest(store, member), Result.UNCLEAR)], others=True)[0].attempts


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


def test_what_redis_refuses_is_no_full_redis(valkey_wire):
    """A fault of ours is told as what it is."""
    store = Store(valkey_wire, partitions=4, max_pending=10, tombstone_ttl_ms=60_000)
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "t", life_ms=5_000)

    with pytest.raises(ResponseError, match="invalid expire"):
        store.loads.fill(member, "t", document("a"), ttl_ms=0)


# bury -------------------------------------------------------------------------------------------------


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


def test_a_new_write_revives_a_dead_letter(store):
    """A new version has a new chance, and the old reason is forgotten."""
    [member] = members(store, 1)
    version = f"{commit(store, member).version:016d}"
    store.pending.bury(member, version, version.encode() + b"why")

    commit(store, member, document("b"))

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

    assert not store.loads.fill(member, "slow", document("old"), ttl_ms=TTL_MS)


# postpone ---------------------------------------------------------------------------------------------


def test_what_is_postponed(store, monkeypatch):
    """What was not taken is due later, ever later, and is given up after so many attempts that count."""
    monkeypatch.setattr(attempts, "DELAY_MS", 1_000)
    monkeypatch.setattr(attempts, "POSTPONED_MS", 3_000)
    monkeypatch.setattr(attempts, "ATTEMPTS", {Result.UNCLEAR: 2})
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    one, other, gone = members(store, 3)
    pending = partition_keys(0).pending
    for member in (one, other, gone):
        commit(store, member)
        store.pending.record_sending(0, {member: newest(store, member).entry})
    late = [Outcome(newest(store, member), Result.UNCLEAR) for member in (one, other, gone)]
    commit(store, other)  # has a newer version by now
    settle(store, gone, late[2].write.entry.version)

    for attempt, others, result, delay_s in (
        (1, False, Result.UNCLEAR, 1),
        (2, True, Result.UNCLEAR, 2),
        (3, True, Result.REFUSED, 3),
    ):
        store._wire.call("ZADD", pending, 1, one)
        done = postpone(store, 0, late, others=others)
        assert [(attempt, result), (0, Result.UNCLEAR), (0, Result.UNCLEAR)] == [
            (left.attempts, left.result) for left in done
        ]
        due_s = float(store._wire.call("ZSCORE", pending, one)) / 1000
        assert delay_s - 0.9 < due_s - store.now_ms() / 1000 <= delay_s

    assert 3 == postpone(store, 0, late[:1], others=True)[0].attempts  # it is not due yet, so that does not count
    assert is_pending(store, other)
    assert not is_pending(store, gone)
    anew = Outcome(newest(store, other), Result.UNCLEAR)
    assert 0 == postpone(store, 0, [anew], others=True)[0].attempts  # what was sent is another version
    store.pending.record_sending(0, {other: anew.write.entry})
    assert 1 == postpone(store, 0, [anew], others=True)[0].attempts


def newest(store: Store, member: str) -> Write:
    entry, _ = store.cache.get(member)
    return Write(DocumentId.from_member(member), entry)


# reissue ----------------------------------------------------------------------------------------------


def send(store: Store, member: str) -> None:
    """Note that MongoDB is given what is pending now."""
    entry, _ = store.cache.get(member)
    store.pending.record_sending(0, {member: entry})


def test_a_newer_write_is_not_decided_about_for_an_older_one(store):
    """A flusher that was paused asks about the version that it had read, which is not what is pending."""
    [member] = members(store, 1)
    version = commit(store, member, document("old")).version
    newer = commit(store, member, document("new")).version

    assert Contest.OVER is store.pending.outdo(member, f"{version:016d}", newer + 10**12)
    assert Contest.OVER is store.pending.outdo(member, f"{version:016d}", newer - 1)
    assert newer == newest(store, member).entry.version


def test_what_is_not_pending_is_not_outdone(store):
    """What MongoDB has by now keeps its version, whatever another flusher has seen there."""
    [member] = members(store, 1)
    version = commit(store, member).version
    settle(store, member, version)

    assert Contest.OVER is store.pending.outdo(member, f"{version:016d}", version + 10**15)

    assert version == store.cache.get(member)[0].version


def test_what_redis_has_issued_is_newer_although_its_clock_stepped_back(store):
    """What it may have issued is told by the last version, and not by the time alone."""
    member, other = members(store, 2)
    store._wire.call("SET", partition_keys(0).clock, 4_000_000_000_000_000)
    version = commit(store, member).version
    last = commit(store, other).version

    assert Contest.LOST is store.pending.outdo(member, f"{version:016d}", last)
    assert Contest.REISSUED is store.pending.outdo(member, f"{version:016d}", last + 1)


def test_what_is_written_once_more(store):
    """What MongoDB was given gets the next version, which no write gets after it; nothing else changes."""
    [member, other] = members(store, 2)
    version = commit(store, member).version
    send(store, member)

    assert [Reissue.REISSUED, Reissue.SETTLED] == store.pending.reissue_many([member, other])

    entry, ttl_ms = store.cache.get(member)
    assert (version + 1, document("a"), -1) == (entry.version, replace(entry, version=0), ttl_ms)
    assert is_pending(store, member)
    assert version + 1 < commit(store, other).version
    assert [Reissue.UNSENT] == store.pending.reissue_many([member])


def test_what_mongodb_was_not_given_yet(store):
    """It is written after the change in any case, and keeps its version."""
    [member] = members(store, 1)
    commit(store, member)
    send(store, member)
    version = commit(store, member, document("b")).version

    assert [Reissue.UNSENT] == store.pending.reissue_many([member])

    assert version == store.cache.get(member)[0].version


def test_what_is_settled_is_not_written_once_more(store):
    """MongoDB has it, and readers are to see what somebody else has made of it."""
    [member] = members(store, 1)
    version = commit(store, member).version
    send(store, member)
    settle(store, member, version)

    assert [Reissue.SETTLED] == store.pending.reissue_many([member])

    assert version == store.cache.get(member)[0].version


def test_versions_are_not_issued_twice(store):
    """After a clock that stands still, too."""
    [member, other] = members(store, 2)
    future = 4_000_000_000_000_000
    store._wire.call("SET", partition_keys(0).clock, future)
    assert future + 1 == commit(store, member).version
    send(store, member)

    store.pending.reissue_many([member])

    assert future + 3 == commit(store, other).version


@pytest.mark.parametrize("how", ["settled", "buried", "pending"])
def test_how_long_it_is_known_what_was_sent(store, how):
    """The newest version that was sent, for as long as something is pending."""
    [member] = members(store, 1)
    commit(store, member)
    older, _ = store.cache.get(member)
    version = commit(store, member, DELETED).version
    send(store, member)
    store.pending.record_sending(0, {member: older})  # by a flusher that was paused
    noted = store._wire.call("HGET", partition_keys(0).sent, member).decode().split(" ")
    assert (f"{version:016d}X", "") == (noted[0], noted[2])
    assert store.now_ms() - 60_000 < int(noted[1]) <= store.now_ms()

    if how == "settled":
        settle(store, member, version)
    elif how == "buried":
        store.pending.bury(member, f"{version:016d}", b"why")
    else:
        commit(store, member)
        settle(store, member, version)
        send(store, member)
        entry, _ = store.cache.get(member)
        noted = store._wire.call("HGET", partition_keys(0).sent, member).decode().split(" ")
        assert (entry.header, f"{version:016d}X") == (noted[0], noted[2])

    assert (how == "pending") == store._wire.call("EXISTS", partition_keys(0).sent)


# Lost entries -----------------------------------------------------------------------------------------


def test_a_lost_entry_is_buried(store):
    """A pending member whose entry is gone does not stop its partition."""
    [member] = members(store, 1)
    commit(store, member)
    store._wire.call("DEL", partition_keys(0).entry(member))

    assert store.pending.bury(member, "", b"lost")

    assert not is_pending(store, member)


# Reading ----------------------------------------------------------------------------------------------


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


def test_nothing_is_left_of_a_deletion_whose_audit_is_over(store):
    """Above the clock a document that is settled ends it, with the time at which it was settled."""
    [member] = members(store, 1)
    of = partition_keys(0)
    settle(store, member, commit(store, member, DELETED).version)
    version = commit(store, member).version
    store._wire.call("SET", of.clock, 5)

    settle(store, member, version)

    assert 0 == store._wire.call("EXISTS", of.deleted, of.deleted_at)


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

    assert not store.loads.fill(member, "slow", document("old"), ttl_ms=TTL_MS)

    assert before == store.cache.get(member)[0]


def filled(store: Store, member: str, name: str = "old") -> Entry:
    """An entry that MongoDB has as well."""
    assert store.loads.get_or_lease(member, "first", life_ms=5_000).may_load
    assert Filled.FILLED is store.loads.fill(member, "first", document(name), ttl_ms=TTL_MS)
    return document(name)


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


# Sweep and status -------------------------------------------------------------------------------------


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


def test_the_number_of_partitions_is_fixed(store, wire):
    """A process that would divide the documents differently is told so."""
    store.check_partitions()
    store.check_partitions()

    with pytest.raises(ConfigurationError, match="WRITEBEHIND_PARTITIONS=4"):
        Store(wire, partitions=5, max_pending=1, tombstone_ttl_ms=1).check_partitions()


def test_nothing_is_left_behind_without_a_ttl(store):
    """After a document came and went, only its partition's clock and the audit of deletions stay for good."""
    [member] = members(store, 1)
    store.loads.get_or_lease(member, "t", life_ms=5_000)
    for entry in (document("a"), DELETED):
        version = commit(store, member, entry).version
        claim(store)
        settle(store, member, version)
        store.pending.release(0, "t")

    of = partition_keys(0)
    lasting = {key.decode() for key in store._wire.call("KEYS", "*") if store._wire.call("PTTL", key) == -1}
    assert {of.clock, of.deleted, of.deleted_at} == lasting
