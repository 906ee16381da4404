"""What waits for MongoDB: since when, for how long it is due, and until when it is not."""

from __future__ import annotations

import pytest

from tests.commits import commit_one
from writebehind.documents.entry import Entry
from writebehind.history.backlog import Backlog, look
from writebehind.history.turns import Waiting
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import POSTPONED_MS

MEMBERS = ("users/s:1", "users/s:2", "slow/s:1", "slow/s:2")


@pytest.fixture
def began_ms(pipeline) -> int:
    """When documents of two collections were written, which are due at different times."""
    for member in MEMBERS:
        delay_ms = pipeline.collection_settings(member.partition("/")[0]).flush_delay_ms
        commit_one(pipeline.store, CommitRequest(member, Entry.loaded(b"x", 0).payload, delay_ms))
    return pipeline.store.now_ms()


def seen(pipeline, now_ms: int) -> Backlog:
    return look(pipeline.store, pipeline.collection_settings, now_ms)


def test_the_last_one_is_due_after_its_own_flush_delay(pipeline, began_ms):
    """However short that of others is, which are due for long by then."""
    users, slow = (pipeline.collection_settings(one).flush_delay_ms / 1000 for one in ("users", "slow"))
    assert users + 10 < slow
    first = seen(pipeline, began_ms)
    assert len(MEMBERS) == first.pending
    assert slow - 5 < first.due_within_s <= slow
    soon = seen(pipeline, began_ms + round(users * 1000) + 5_000)
    assert 5.0 <= soon.late_s < 25.0
    assert first.due_within_s - users - 5 == pytest.approx(soon.due_within_s, abs=0.002)
    assert 0.0 == seen(pipeline, began_ms + round(slow * 1000) + 1).due_within_s


def test_what_mongodb_did_not_take_is_overdue(pipeline, began_ms):
    """It is due later than it was at first; but it waits since it was sent."""
    member = MEMBERS[0]
    of = partition_keys(pipeline.store.partition_of(member))
    version = pipeline.store.cache.get(member)[0].version_digits
    pipeline._wire.call("HSET", of.sent, member, f"{version}D {began_ms} ")
    pipeline._wire.call("ZADD", of.pending, began_ms + 20_000, member)
    late_s = 19.9 - pipeline.collection_settings("users").flush_delay_ms / 1000
    for other in MEMBERS[1:]:
        pipeline._wire.call("ZREM", partition_keys(pipeline.store.partition_of(other)).pending, other)
    assert late_s == pytest.approx(seen(pipeline, began_ms + 19_900).late_s, abs=0.002)


def test_who_sees_to_a_partition(pipeline, began_ms):
    """A flusher that has claimed it, with the life that its claim has left; or the task that is on its way."""
    pending = pipeline.store.pending
    claimed, other = (pipeline.store.partition_of(one) for one in (MEMBERS[0], MEMBERS[2]))
    assert claimed != other
    pending.claim(claimed, "token", lease_ms=60_000, limit=9, early=True)
    ticket = f"{began_ms + 30_000}:{began_ms}000"
    pipeline._wire.call("SET", partition_keys(other).scheduled, ticket, "PX", 40_000)

    def waiting(now_ms: int) -> dict[int, Waiting]:
        return {one.partition: one for one in seen(pipeline, now_ms).waiting}

    found = waiting(began_ms)
    assert set(map(pipeline.store.partition_of, MEMBERS)) == found.keys()
    assert 30 < found[claimed].claim_left_s <= 60
    assert 30 < found[claimed].task_left_s <= 60  # no other is wanted meanwhile
    assert (None, 30.0) == (found[other].claim_left_s, found[other].task_in_s)
    assert 10 < found[other].task_left_s <= 40
    assert -5.0 == waiting(began_ms + 35_000)[other].task_in_s
    pending.give_back(claimed, "token")
    pipeline._wire.call("DEL", partition_keys(other).scheduled)
    pipeline._wire.call("LPUSH", partition_keys(other).scheduled, "what other hands have put there")
    found = waiting(began_ms)
    assert {(None, None)} == {(found[one].claim_left_s, found[one].task_in_s) for one in (claimed, other)}


def test_a_clock_that_steps_back_leaves_no_endless_wait(pipeline, began_ms):
    """Nothing is due later than the longest flush delay and a try allow: a flush takes such documents at once."""
    ahead = seen(pipeline, began_ms - 10**9)
    assert pipeline.settings.longest_flush_delay_ms / 1000 <= ahead.due_within_s
    assert ahead.due_within_s <= (pipeline.settings.longest_flush_delay_ms + 10 * POSTPONED_MS) / 1000
    assert 0.0 == ahead.late_s


def test_nothing_waits(pipeline):
    """Then nothing is due."""
    none = seen(pipeline, pipeline.store.now_ms())
    assert (0, 0.0, 0.0, 0.0) == (none.pending, none.oldest_s, none.late_s, none.due_within_s)
