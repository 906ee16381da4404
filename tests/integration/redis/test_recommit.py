"""The atomic step that commits a write again which a failover has lost: what it finds, and what stands."""

from __future__ import annotations

import pytest

from tests.commits import commit_one
from tests.integration.redis.conftest import commit, document, is_pending, members, settle
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.errors import MistypedKeyError
from writebehind.redis.commits import CommitRequest, CommitStatus
from writebehind.redis.keys import partition_keys
from writebehind.redis.receipts import Once, Receipt, answer_of
from writebehind.redis.recent import Recent
from writebehind.redis.recovery import Recommit, Status
from writebehind.redis.unsettled import Fate

IN_AN_HOUR_US = 3_600 * 10**6

KEY = IdempotencyKey.of("key", [b"request"])


def lose(store, member: str) -> Recent:
    """Acknowledge a write, and take out all that Redis has of it, as a failover does."""
    entry = document("lost")
    version = commit(store, member, entry).version
    store._wire.call("FLUSHALL")
    return Recent(member, version, entry.payload)


def attempt(store, lost: Recent, *, is_newest: bool = False, until_us: int | None = None) -> Recommit:
    until_us = store.now_ms() * 1000 + IN_AN_HOUR_US if until_us is None else until_us
    (answer,) = store.recovery.recommit([(lost, until_us)], "token", life_ms=60_000, is_newest=is_newest)
    return answer


def recommit(store, lost: Recent, *, until_us: int | None = None) -> Recommit:
    """Commit it again, as one who has found nothing newer in MongoDB."""
    first = attempt(store, lost, until_us=until_us)
    unknown = not isinstance(first, Exception) and first.status is Status.UNKNOWN
    return attempt(store, lost, is_newest=True, until_us=until_us) if unknown else first


@pytest.fixture
def member(store) -> str:
    return members(store, 1)[0]


def test_it_is_there_again_as_it_was(store, member):
    """With its version, pending and counted; no load takes its place, and a flush is asked for."""
    lost, of = lose(store, member), partition_keys(0)
    store._wire.call("SET", of.load(member), "another's")

    answer = recommit(store, lost)

    assert (Status.RECOMMITTED, 0) == (answer.status, answer.hint.partition)
    entry, _ = store.cache.get(member)
    assert (lost.version, lost.payload) == (entry.version, entry.payload)
    assert is_pending(store, member)
    assert not store._wire.call("EXISTS", of.load(member))
    assert commit(store, member).version > lost.version
    assert [b"1", b"1"] == store._wire.call("HMGET", of.counts, "first", "coalesced")


def lose_keyed(store, member: str) -> tuple[CommitRequest, Recent]:
    """Lose a write that has an idempotency key; what it asked for, and what is known of it."""
    once = Once(KEY, answer_of(member, "e", {"n": 1}))
    request = CommitRequest(member, document("lost").payload, 0, once=once)
    store.recent.there_are_replicas()
    commit_one(store, request)
    [(_, lost)], _ = store.recent.since(0)
    store._wire.call("FLUSHALL")
    return request, lost


def test_it_is_known_by_its_key(store, member):
    """Whoever repeats a write that was lost and is there again gets the answer of the first."""
    request, lost = lose_keyed(store, member)
    ((_, noted),) = lost.receipts

    assert Status.RECOMMITTED is recommit(store, lost).status

    again = commit_one(store, request)
    assert (CommitStatus.REPEATED, lost.version) == (again.status, again.version)
    assert Receipt.parse(noted) == again.receipt


@pytest.mark.parametrize("name", ["dead", "receipts", "receipts_at", "fates"])
def test_write_and_receipt_stand_together(store, member, name):
    """What other hands have put in the way of one leaves neither, and is in the way once."""
    _, lost = lose_keyed(store, member)
    store._wire.call("SET", getattr(partition_keys(0), name), "x")

    answer = recommit(store, lost)

    assert isinstance(answer, MistypedKeyError)
    assert store.cache.get(member)[0] is None
    assert store.receipts.of(member, KEY) is None
    assert Status.RECOMMITTED is recommit(store, lost).status
    assert lost.version == store.receipts.of(member, KEY).receipt.version


def test_a_receipt_comes_back_to_what_is_there(store, member):
    """A write that stands without its receipt, which was lost by itself, gets it back."""
    _, lost = lose_keyed(store, member)
    recommit(store, lost)
    of = partition_keys(0)
    store._wire.call("DEL", *of.of_receipts)

    assert Status.THERE is recommit(store, lost).status
    assert lost.version == store.receipts.of(member, KEY).receipt.version
    settle(store, member, lost.version)
    assert Fate.SETTLED is store.unsettled.fates({member: lost.version})[member][0]


def test_what_a_newer_write_saw_is_known_by_its_key(store, member):
    """A receipt comes back of a write that was not lost in what is newer; one that is there is left as it is."""
    lost = Recent(member, 9, b"", receipts=(("key", b"0000000001000000D"),))
    store.receipts.bring([lost, Recent(member, 9, b"")])
    store.receipts.bring([lost._replace(receipts=(("key", b"0000000005000000D"),))])

    of = partition_keys(0)
    assert [b"0000000001000000D", b"1000"] == store._wire.calls(
        [("HGET", of.receipts, "key"), ("ZSCORE", of.receipts_at, "key")]
    )


def test_without_an_entry_mongodb_decides(store, member):
    """It may have been persisted and dropped, and something newer too."""
    lost = lose(store, member)
    assert Status.UNKNOWN is attempt(store, lost).status
    assert not is_pending(store, member)


def test_what_mongodb_was_asked_before_decides_nothing(store, member):
    """Whoever asks it has the right to load, which another write takes away: its entry may be evicted since."""
    lost = lose(store, member)
    assert Status.UNKNOWN is attempt(store, lost, is_newest=True).status
    settle(store, member, commit(store, member).version)
    store._wire.call("DEL", partition_keys(0).entry(member))

    assert Status.UNKNOWN is attempt(store, lost, is_newest=True).status

    assert (None, False) == (store.cache.get(member)[0], is_pending(store, member))
    assert 0 < store._wire.call("PTTL", partition_keys(0).load(member)) <= 60_000


def test_over_an_older_entry_it_is_counted_as_the_next_write(store, member):
    """An older one that is pending is replaced, as by the commit that was lost."""
    before = commit(store, member)
    lost = Recent(member, before.version + 1, document("lost").payload)

    assert Status.RECOMMITTED is recommit(store, lost).status

    assert lost.version == store.cache.get(member)[0].version
    assert [b"1", b"1"] == store._wire.call("HMGET", partition_keys(0).counts, "first", "coalesced")


def test_what_is_there_is_there(store, member):
    """Doing it again changes nothing, pending or not."""
    lost = lose(store, member)
    recommit(store, lost)
    assert Status.THERE is recommit(store, lost).status
    settle(store, member, lost.version)
    assert Status.THERE is recommit(store, lost).status
    assert not is_pending(store, member)


def test_what_is_kept_beside_a_dead_letter_is_there(store, member):
    """A letter that alone has it is for a person to see to."""
    lost = lose(store, member)
    recommit(store, lost)
    store.pending.bury(member, f"{lost.version:016d}", f"{lost.version:016d}{{}}".encode(), drop_entry=True)
    assert Status.THERE is recommit(store, lost).status
    assert store.cache.get(member)[0] is None


def test_what_is_newer_stands(store, member):
    """A later write is what was acknowledged last."""
    lost = lose(store, member)
    version = commit(store, member).version
    answer = recommit(store, lost)
    assert (Status.SUPERSEDED, version) == (answer.status, answer.newer)
    assert version == store.cache.get(member)[0].version


def test_a_deletion_since_stands(store, member):
    """Also when its entry is gone."""
    lost = lose(store, member)
    store._wire.call("ZADD", partition_keys(0).deleted, lost.version + 1, member)
    assert Status.SUPERSEDED is recommit(store, lost).status
    assert store.cache.get(member)[0] is None


def test_it_comes_too_late_when_deletions_may_be_forgotten(store, member):
    """Or it would bring a document back."""
    lost = lose(store, member)
    assert Status.LATE is recommit(store, lost, until_us=store.now_ms() * 1000 - 1_000).status
    assert store.cache.get(member)[0] is None
