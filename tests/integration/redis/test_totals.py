"""Counts of the atomic steps: each write once, whatever becomes of it, and whoever repeats or spoils something."""

from __future__ import annotations

import re

import pytest

from tests.counts import adds_up
from tests.integration.redis.conftest import commit, document, is_pending, settle
from writebehind.documents.entry import DELETED
from writebehind.redis import keys
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.letters import RawLetter
from writebehind.redis.pending import Settled
from writebehind.redis.scripts import script
from writebehind.redis.shared.totals import AGE_BOUNDS
from writebehind.redis.store import Store

ADA = "users/s:ada"


def counted(store: Store) -> dict[str, int]:
    """All that is not 0, once it is seen to add up."""
    found = store.metrics.counters()
    pending = sum(one.pending for one in store.metrics.backlog())
    assert adds_up(found, pending=pending), found
    return {name: number for name, number in found.items() if number}


def bury(store: Store, version: int, *, drop_entry: bool = False) -> bytes:
    letter = b"%016d{}" % version
    store.pending.bury(ADA, f"{version:016d}", letter, drop_entry=drop_entry)
    return letter


def test_a_write_is_counted_when_it_is_acknowledged_and_when_it_is_settled(store):
    """Once, however often it is settled; a deletion is told from a document."""
    version = commit(store, ADA).version
    assert {"acknowledged": 1} == counted(store)
    for _ in range(3):
        settle(store, ADA, version)
    assert {"acknowledged": 1, "persisted": 1} == counted(store)
    gone = commit(store, ADA, DELETED).version
    settle(store, ADA, gone)
    assert {"acknowledged": 2, "persisted": 1, "deleted": 1} == counted(store)


def test_what_a_later_write_has_replaced_is_coalesced(store):
    """Also where MongoDB has got it meanwhile, which is counted as well."""
    first, _, last = (commit(store, ADA).version for _ in range(3))
    assert {"acknowledged": 3, "coalesced": 2} == counted(store)
    settle(store, ADA, first)
    settle(store, ADA, last)
    assert {"acknowledged": 3, "coalesced": 2, "persisted": 1, "overtaken": 1} == counted(store)


def test_what_came_too_late_for_mongodb_is_counted(store):
    """It was not overtaken in Redis: MongoDB has something newer."""
    first = commit(store, ADA).version
    commit(store, ADA)
    late = Settled(ADA, f"{first:016d}", 1_000, is_superseded=True)
    store.pending.settle(store.partition_of(ADA), [late], delay_ms=0)
    assert {"acknowledged": 2, "coalesced": 1, "superseded": 1} == counted(store)


def test_what_is_not_acknowledged_is_not_counted(store):
    """No condition, no room: no write."""
    commit(store, ADA, condition="0" * 32)
    commit(store, ADA)
    commit(store, ADA, condition="*")
    store._max_pending = 0
    assert "full" == commit(store, "users/s:bob").status
    assert {"acknowledged": 1} == counted(store)


def test_letters_are_counted(store):
    """Buried once; replayed, and persisted; or discarded."""
    version = commit(store, ADA).version
    letter = bury(store, version)
    bury(store, version)
    assert {"acknowledged": 1, "buried": 1} == counted(store)
    for _ in range(2):
        store.letters.replay_many([(RawLetter(ADA, ADA, letter), 0)], only_newest=False)
    assert {"acknowledged": 1, "buried": 1, "replayed": 1} == counted(store)
    bury(store, version)
    for _ in range(2):
        store.letters.discard_many([RawLetter(ADA, ADA, letter)])
    assert {"acknowledged": 1, "buried": 2, "replayed": 1, "discarded": 1} == counted(store)


def test_a_letter_that_mongodb_has_after_all_is_taken_back(store):
    """One flusher has given up what another one has brought to MongoDB."""
    version = commit(store, ADA).version
    bury(store, version)
    settle(store, ADA, version)
    settle(store, ADA, version)
    assert {"acknowledged": 1, "buried": 1, "replayed": 1, "persisted": 1} == counted(store)


def test_letters_are_counted_by_collection_and_reason(store, wire):
    """In the step that makes them, whichever process it is of; and of collections from clients so many."""
    for number in range(2):
        member = f"users/s:{number}"
        version = commit(store, member).version
        letter = b'%016d{"member":"x","reason":"refused","message":"\\"reason\\":\\"lost\\""}' % version
        store.pending.bury(member, f"{version:016d}", letter)
    store.pending.bury(member, f"{version:016d}", letter)  # which is dead already
    assert {("users", "refused"): 2} == store.metrics.totals().letters

    partition = partition_keys(store.partition_of("many/s:a"))
    wire.call("HSET", partition.counts, *(part for n in range(201) for part in (f"letters:c{n}:lost", 1)))
    version = commit(store, "many/s:a").version
    store.pending.bury("many/s:a", f"{version:016d}", b'%016d{"reason":"lost"}' % version)
    letters = store.metrics.totals().letters
    assert (1, 1) == (letters["(other)", "lost"], letters["c200", "lost"])
    assert ("many", "lost") not in letters


def test_a_write_over_a_letter_is_a_write(store):
    """The letter is gone with what it was about."""
    bury(store, commit(store, ADA).version)
    settle(store, ADA, commit(store, ADA).version)
    assert {"acknowledged": 2, "buried": 1, "persisted": 1} == counted(store)


def test_what_is_marked_as_pending_again_is_counted(store, wire):
    """Reconciling has found that MongoDB has lost it."""
    version = commit(store, ADA).version
    settle(store, ADA, version)
    header = wire.call("GETRANGE", store.cache.key(ADA), 0, 48)
    assert store.pending.mark(ADA, header, delay_ms=0)
    assert not store.pending.mark(ADA, header, delay_ms=0)
    settle(store, ADA, version)
    assert {"acknowledged": 1, "persisted": 2, "marked": 1} == counted(store)


@pytest.mark.parametrize("is_at_home_too", [False, True])
def test_what_is_brought_home_is_counted_in_both_partitions(store, wire, is_at_home_too):
    """It has left one, and stands in the other: as long as that had none of the document pending."""
    commit(Store(wire, database="shop", partitions=1, max_pending=9, tombstone_ttl_ms=1), "users/s:1")
    assert 0 != store.partition_of("users/s:1")
    if is_at_home_too:
        commit(store, "users/s:1")
    for _ in range(2):
        store.misplaced.bring_home(0, "users/s:1")
    settle(store, "users/s:1", store.cache.get("users/s:1")[0].version)
    moved = {"let_go": 1} if is_at_home_too else {"let_go": 1, "adopted": 1}
    assert {"acknowledged": 1 + is_at_home_too, "persisted": 1} | moved == counted(store)


def test_a_letter_that_is_brought_home_is_not_discarded(store, wire):
    """It stands at home from then on."""
    other = Store(wire, database="shop", partitions=1, max_pending=9, tombstone_ttl_ms=1)
    version = commit(other, "users/s:1").version
    other.pending.bury("users/s:1", f"{version:016d}", letter := b"%016d{}" % version, drop_entry=True)
    name = f"users@{version:016d}/s:1"
    store.misplaced.bring_letter_home(0, RawLetter("users/s:1", name, letter))
    assert {"acknowledged": 1, "buried": 1} == counted(store)


def test_operations_are_counted_with_what_is_settled(store):
    """They were sent then: what is about to be sent may never be."""
    version = commit(store, ADA).version
    store.pending.record_sending(store.partition_of(ADA), {ADA: document("a")})
    assert "operations" not in counted(store)
    settled = Settled(ADA, f"{version:016d}", 60_000)
    store.pending.settle(store.partition_of(ADA), [settled], delay_ms=0, operations=1)
    assert 1 == counted(store)["operations"]


def test_the_time_until_mongodb_has_a_write_is_counted(store, wire):
    """By the bound that it does not pass; of a clock that was ahead by none, and beyond all with the others."""
    waited_s = (0.0, 0.05, 0.06, 1.0, 59.0, 4_000.0, -9.0)
    settled = script("settle")
    of = partition_keys(0)
    source = settled.source.replace("local now = now_ms()", "local now = 1000000000")
    keys_of = [
        of.pending,
        of.deleted,
        of.deleted_at,
        of.dead,
        of.dead_counts,
        of.sent,
        of.clock,
        of.counts,
        of.traces,
        of.fates,
    ]
    arguments = []
    for number, waited in enumerate(waited_s):
        version = f"{(1_000_000_000 - round(waited * 1000)) * 1000:016d}"
        wire.call("SET", of.entry(f"a/s:{number}"), version + "D")
        wire.call("ZADD", of.pending, 1, f"a/s:{number}")
        keys_of.append(of.entry(f"a/s:{number}"))
        arguments += (f"a/s:{number}", version, 9_999, "")
    wire.call("EVAL", source, len(keys_of), *keys_of, 0, 0, 9_999, *arguments)

    totals = store.metrics.totals()
    took = dict(zip((*AGE_BOUNDS, "more"), totals.ages, strict=True))
    assert {0.05: 3, 0.1: 1, 1.0: 1, 60.0: 1, "more": 1} == {bound: n for bound, n in took.items() if n}
    assert 4_060.11 == totals.age_s
    assert 7 == totals.by_name["persisted"]


def test_the_bounds_are_those_of_the_step():
    """Or times would be counted where nobody looks."""
    pairs = re.findall(r"age <= (\d+) and 'age:(\d+)'|'age:(1000)'", script("settle").source)
    assert all(bound in {name, ""} for bound, name, _ in pairs)
    assert [round(bound * 1000) for bound in AGE_BOUNDS] == [int(name or last) for _, name, last in pairs]


def test_no_step_fails_for_the_counts(store, wire):
    """Other hands have put something else in their place: what was counted is lost, and the writes are not."""
    version = commit(store, ADA).version
    of = partition_keys(store.partition_of(ADA))
    wire.call("DEL", of.counts)
    wire.call("SET", of.counts, "x")
    last = commit(store, ADA).version
    assert last > version
    assert 1 == settle(store, ADA, last)
    assert not is_pending(store, ADA)
    assert 0 == store.metrics.counters()["acknowledged"]
    commit(store, ADA)
    assert {"acknowledged": 1} == counted(store)


@pytest.mark.parametrize("absurd", ["x", "", "-5", "1.5", "1e17", str(10**17), str(2**63 - 1), "9" * 30])
def test_a_count_that_nobody_has_counted_begins_anew(store, wire, caplog, absurd):
    """Redis could add nothing to it, or nobody could tell what it has added; the log says so once."""
    of = partition_keys(store.partition_of(ADA))
    wire.call("HSET", of.counts, "first", absurd, "letters:users:lost", absurd, "strange", "y")
    wire.call("HSET", keys.COUNTERS, "conflicts", absurd, "batches", 3)
    for _ in "12":
        assert {"batches": 3} == counted(store)
    assert {} == store.metrics.totals().letters
    commit(store, ADA)
    store.metrics.count({"conflicts": 1})
    assert {"acknowledged": 1, "batches": 3, "conflicts": 1} == counted(store)
    told = [one.message.partition(" = ")[0] for one in caplog.records if "other hands" in one.message]
    assert {
        f"other hands have put 2 counts into {of.counts} that are none, and begin anew: first",
        f"other hands have put 1 count into {keys.COUNTERS} that are none, and begin anew: conflicts",
    } == set(told)
    assert 2 == len(told)


def test_a_time_that_no_write_has_waited_begins_anew(store, wire):
    """Of so few writes; others keep theirs."""
    settle(store, ADA, commit(store, ADA).version)
    of = partition_keys(store.partition_of(ADA))
    wire.call("HSET", of.counts, "age_ms", 10**17)
    found = store.metrics.totals()
    assert (1, 0) == (sum(found.ages), found.age_s)
    assert not wire.call("HEXISTS", of.counts, "age_ms")


def test_rates_of_what_nobody_has_counted(store, wire):
    """They count as nothing, and the others as they are."""
    store.metrics.count({}, persisted=60)
    now_s = wire.now_ms() // 1000
    absurd = (now_s - 1, "-60000", now_s - 2, 10**17, now_s - 3, "x", now_s - 4, 10**30, "9" * 5_000, 5, -1, 5)
    wire.call("HSET", keys.FLUSHED, *absurd)
    assert 60 / 11 <= store.metrics.activity().persisted.per_second <= 60 / 10
    assert 6 == store.load().drained_per_second


def test_a_full_redis_counts_what_leaves_it(valkey_wire):
    """When it is full, it is drained all the same."""
    store = Store(valkey_wire, database="shop", partitions=1, max_pending=9, tombstone_ttl_ms=1)
    version = commit(store, ADA).version
    valkey_wire.call("DEL", partition_keys(0).counts)
    valkey_wire.call("CONFIG", "SET", "maxmemory", 1)
    try:
        settle(store, ADA, version)
        assert 1 == store.metrics.counters()["persisted"]
    finally:
        valkey_wire.call("CONFIG", "SET", "maxmemory", 0)


def test_partitions_that_are_no_more_go_on_counting(store, wire):
    """What was counted in them is not forgotten when Redis is divided into fewer."""
    for number in range(12):
        store.commit_many([CommitRequest(f"users/s:{number}", document("a").payload, 0, cap=99)])
    store.division.remember_most(4)
    fewer = Store(wire, database="shop", partitions=1, max_pending=9, tombstone_ttl_ms=1)
    assert 12 == fewer.metrics.counters()["acknowledged"]
    store.division.remember_most(2)
    assert b"4" == wire.call("GET", keys.MOST_EVER)
    store.division.remember_most(8)
    assert b"8" == wire.call("GET", keys.MOST_EVER)
