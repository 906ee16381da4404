"""The atomic steps of a commit: versions, conditions, when it is due, which flush task it asks for."""

from __future__ import annotations

import pytest

from tests.commits import NO_CLOCKS
from tests.integration.redis.conftest import TTL_MS, claim, commit, document, is_pending, members, settle, ttl_ms
from writebehind.documents.entry import ABSENT, DELETED
from writebehind.redis.commits import CommitRequest, CommitStatus
from writebehind.redis.keys import partition_keys


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


@pytest.mark.parametrize("clock", NO_CLOCKS)
def test_a_clock_at_the_end_of_versions_begins_anew(store, clock):
    """MongoDB compares no version from 2^52 on, so none is issued: the next is the time of Redis."""
    [member] = members(store, 1)
    store._wire.call("SET", partition_keys(0).clock, clock)
    before = store.now_ms() * 1_000

    versions = [commit(store, member).version for _ in range(2)]

    assert before <= versions[0] < versions[1] < before + 10**9
    assert versions[1] == int(store._wire.call("GET", partition_keys(0).clock))


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

    statuses = [one.status for one in store.commit_many(requests)]

    assert [CommitStatus.OK, CommitStatus.FAILED, CommitStatus.OK] == statuses


def test_a_new_write_revives_a_dead_letter(store):
    """A new version has a new chance, and the old reason is forgotten."""
    [member] = members(store, 1)
    version = f"{commit(store, member).version:016d}"
    store.pending.bury(member, version, version.encode() + b"why")

    commit(store, member, document("b"))

    assert is_pending(store, member)
    assert [] == store._wire.call("HKEYS", partition_keys(0).dead)
