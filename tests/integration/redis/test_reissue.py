"""The atomic steps for what MongoDB was given and did not take or keep: postponing, and a newer version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.commits import NO_CLOCKS
from tests.integration.redis.conftest import commit, document, is_pending, members, newest, settle
from writebehind.documents.entry import DELETED
from writebehind.flushing import attempts
from writebehind.flushing.attempts import postpone
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Contest, Reissue
from writebehind.redis.store import Store


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


@pytest.mark.parametrize(
    ("beyond", "contest"),
    [(1, Contest.LOST), (2, Contest.OVERWRITTEN), (5, Contest.OVERWRITTEN), (6, Contest.LOST)],
)
def test_what_a_former_primary_has_written_over_is_dropped(store, beyond, contest):
    """Its version is within a lapse: it had what is pending here. Any other may have been there before."""
    [member] = members(store, 1)
    version = commit(store, member).version
    of = partition_keys(0)
    store._wire.call("SET", of.clock, version + 10)
    store._wire.call("RPUSH", of.lapses, "garbage", f"{version + 1} {version + 5} 1", "1 2 3")

    assert contest is store.pending.outdo(member, f"{version:016d}", version + beyond)

    is_over = contest is Contest.OVERWRITTEN
    assert is_over is not is_pending(store, member)
    assert (0 if is_over else 1) == store._wire.call("EXISTS", of.entry(member))
    assert (1 if is_over else 0) == store.metrics.totals().by_name["coalesced"]


def test_garbage_in_the_place_of_lapses_is_in_the_way_of_nothing(store):
    """It is as if there was none."""
    [member] = members(store, 1)
    version = commit(store, member).version
    store._wire.call("SET", partition_keys(0).clock, version + 10)
    store._wire.call("SET", partition_keys(0).lapses, f"{version} {version + 5} 1")

    assert Contest.LOST is store.pending.outdo(member, f"{version:016d}", version + 1)


@pytest.mark.parametrize("clock", NO_CLOCKS)
def test_a_clock_that_nobody_has_written_has_issued_nothing(store, clock):
    """A greater version in MongoDB is not taken for one of this Redis; and the next version is on the clock."""
    member, other = members(store, 2)
    version = commit(store, member).version
    send(store, member)
    store._wire.call("SET", partition_keys(0).clock, clock)

    assert Contest.REISSUED is store.pending.outdo(member, f"{version:016d}", version + 10**14)
    store._wire.call("SETRANGE", partition_keys(0).entry(member), 0, f"{version:016d}")
    assert [Reissue.REISSUED] == store.pending.reissue_many([member])

    assert version + 1 < commit(store, other).version < version + 10**9


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
