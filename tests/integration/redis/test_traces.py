"""The contexts of traced writes wait in Redis for as long as the writes do, and are in the way of none."""

from __future__ import annotations

import pytest

from tests.commits import commit_one
from tests.integration.conftest import full
from tests.integration.redis.conftest import commit, document, is_pending, members, newest, settle
from writebehind.errors import MistypedKeyError
from writebehind.redis.commits import CommitRequest, CommitStatus
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial
from writebehind.redis.store import Store
from writebehind.tracing.written import CONTEXTS_LIVE_MS, MOST_CONTEXTS

OF = partition_keys(0)


def context(number: int) -> str:
    return f"{number:032x}{number:016x}"


def traced(store: Store, member: str, number: int, text: str = "a") -> int:
    """Write a document under a context; the version."""
    done = commit_one(store, CommitRequest(member, document(text).payload, 0, context=context(number)))
    assert CommitStatus.OK == done.status
    return done.version


def noted(store: Store, member: str) -> list[int]:
    """The numbers of the contexts of a document, as the one who sends it is told of them."""
    entry = newest(store, member).entry
    found = store.pending.record_sending(0, {member: entry}, traced=True).get(member, [])
    assert all(one.trace_id == one.span_id and one.is_remote and one.trace_flags.sampled for one in found)
    return [one.span_id for one in found]


def there(store: Store) -> bool:
    return bool(store._wire.call("EXISTS", OF.traces))


def test_a_write_that_is_not_traced_sends_nothing_for_it(store):
    """No key, no argument, and nothing in Redis."""
    keys, arguments = store._commit_call(CommitRequest("users/s:0", b"X", 0), None)
    assert (11, 8) == (len(keys), len(arguments))

    [member] = members(store, 1)
    commit(store, member)

    assert not there(store)
    assert [] == noted(store, member)


def test_contexts_of_coalesced_writes_wait_together(store):
    """Whoever sends a document is told of all its writes, not of those of others, nor of what has come since."""
    one, other = members(store, 2)
    traced(store, one, 1)
    traced(store, other, 2)
    traced(store, one, 3)
    commit(store, one)
    before = newest(store, one).entry
    traced(store, one, 4)

    assert [1, 3, 4] == noted(store, one)
    told = store.pending.record_sending(0, {other: newest(store, other).entry, one: before}, traced=True)
    assert {other: [2], one: [1, 3]} == {name: [found.span_id for found in some] for name, some in told.items()}
    assert {} == store.pending.record_sending(0, {one: before})


def test_contexts_of_the_last_writes_are_kept(store):
    """A hot document that is written again and again takes no more room."""
    [member] = members(store, 1)
    for number in range(1, MOST_CONTEXTS + 4):
        traced(store, member, number)

    assert list(range(4, MOST_CONTEXTS + 4)) == noted(store, member)


def test_contexts_expire_a_day_after_the_first(store):
    """What nobody takes away does not stay for ever, also where others are noted all the time."""
    one, other = members(store, 2)
    traced(store, one, 1)
    assert CONTEXTS_LIVE_MS - 10_000 < store._wire.call("PTTL", OF.traces) <= CONTEXTS_LIVE_MS
    store._wire.call("PEXPIRE", OF.traces, 50_000)

    traced(store, other, 2)
    settle(store, one, newest(store, one).entry.version)

    assert 0 < store._wire.call("PTTL", OF.traces) <= 50_000


def test_settling_takes_the_contexts_away(store):
    """What MongoDB has is linked to already; of others nothing is lost, and the last one takes the key along."""
    one, other = members(store, 2)
    version = traced(store, one, 1)
    later = traced(store, other, 2)

    settle(store, one, version)
    assert (None, [2]) == (store._wire.call("HGET", OF.traces, one), noted(store, other))

    settle(store, other, later)
    assert not there(store)


def test_settling_an_older_version_leaves_the_contexts_of_later_writes(store):
    """They are for the flush that brings these."""
    [member] = members(store, 1)
    traced(store, member, 1)
    older = traced(store, member, 2)
    traced(store, member, 3)

    settle(store, member, older)

    assert is_pending(store, member)
    assert [3] == noted(store, member)


def test_settling_an_older_version_may_leave_none(store):
    """A later write that is not traced has no context."""
    [member] = members(store, 1)
    older = traced(store, member, 1)
    commit(store, member)

    settle(store, member, older)

    assert not there(store)


def test_a_reissued_version_is_linked_to_its_write(store):
    """It is the same write, under the next version."""
    [member] = members(store, 1)
    traced(store, member, 1)
    noted(store, member)

    store.pending.reissue_many([member])

    assert [1] == noted(store, member)
    settle(store, member, newest(store, member).entry.version)
    assert not there(store)


@pytest.mark.parametrize("drop_entry", [False, True])
def test_burying_takes_the_contexts_away(store, drop_entry):
    """A dead letter is pending no longer."""
    [member] = members(store, 1)
    version = traced(store, member, 1)
    letter = b"%016d{}" % version

    assert Burial.BURIED is store.pending.bury(member, f"{version:016d}", letter, drop_entry=drop_entry)

    assert not there(store)


def test_a_document_that_is_brought_home_leaves_none_behind(store):
    """It is pending at home; the link is lost, and the write is not."""
    [member] = members(store, 1, partition=1)
    traced(store, member, 1)
    here = partition_keys(1)
    for key in ("pending", "traces"):
        store._wire.call("RENAME", getattr(here, key), getattr(OF, key))
    store._wire.call("RENAME", here.entry(member), OF.entry(member))

    assert store.misplaced.bring_home(0, member).is_pending

    assert is_pending(store, member)
    assert not there(store)
    assert not store._wire.call("EXISTS", here.traces)


def test_what_an_older_process_has_left_is_no_context_of_a_new_write(store):
    """A document that becomes pending has the contexts of its writes since."""
    [member] = members(store, 1)
    store._wire.call("HSET", OF.traces, member, "0" * 15 + "1" + context(7))

    traced(store, member, 1)

    assert [1] == noted(store, member)


def test_what_other_hands_have_spoiled_is_ignored(store):
    """The contexts that can be read count."""
    [member] = members(store, 1)
    store._wire.call("HSET", OF.traces, member, "nonsense" + "0" * 15 + "1" + context(7) + "0" * 64 + "\u0663")

    commit(store, member)

    assert [7] == noted(store, member)


def test_another_type_in_their_place_is_in_the_way_of_no_write(store):
    """Writes are acknowledged, settled and buried; whoever asks for the contexts takes it out."""
    one, other = members(store, 2)
    store._wire.call("SET", OF.traces, "x")

    version, buried = traced(store, one, 1), traced(store, other, 2)
    with pytest.raises(MistypedKeyError):
        noted(store, one)
    assert not there(store)

    store._wire.call("SET", OF.traces, "x")
    assert 1 == settle(store, one, version)
    assert not there(store)
    store._wire.call("SET", OF.traces, "x")
    assert Burial.BURIED is store.pending.bury(other, f"{buried:016d}", b"%016d{}" % buried)
    assert not is_pending(store, one)
    assert not is_pending(store, other)


@pytest.mark.parametrize("wire", ["valkey"], indirect=True)
def test_a_full_redis_refuses_the_write_with_its_context(store):
    """What is not acknowledged leaves nothing; what is pending is sent and settled with its contexts."""
    one, other = members(store, 2)
    version = traced(store, one, 1)
    with full(store._wire):
        refused = commit_one(store, CommitRequest(other, document("b").payload, 0, context=context(2)))
        assert CommitStatus.REFUSED == refused.status
        assert None is store._wire.call("HGET", OF.traces, other)
        assert [1] == noted(store, one)
        assert 1 == settle(store, one, version)

    assert not there(store)


def test_a_write_that_is_not_taken_leaves_no_context(store):
    """Its condition does not hold, or the partition is full."""
    [member, *more] = members(store, 4)
    refused = commit_one(store, CommitRequest(member, b"X", 0, "0" * 32, context=context(1)))
    over = commit_one(store, CommitRequest(more[0], b"X", 0, cap=0, context=context(1)))

    assert (CommitStatus.UNKNOWN, CommitStatus.FULL) == (refused.status, over.status)
    assert not there(store)
