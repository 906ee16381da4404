"""What is to be seen of an installation."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError

from tests.commits import commit_one
from tests.integration.redis.conftest import PARTITIONS
from writebehind.documents.entry import Entry
from writebehind.redis import keys
from writebehind.redis.commits import CommitRequest
from writebehind.redis.shared.persisted import REMEMBERED_S
from writebehind.redis.shared.workers import REMEMBERED_MS, WORKER_LIFE_MS
from writebehind.redis.unsettled import SAMPLED


def test_status_counts(store):
    """The backlog has every partition's pending and dead members, and those that are due first and last."""
    first, second = [one for one in (f"users/s:{n}" for n in range(100)) if store.partition_of(one) == 0][:2]
    later = next(one for one in (f"slow/s:{n}" for n in range(100)) if store.partition_of(one) == 0)
    payload = Entry.loaded(b"ada", 0).payload
    commit_one(store, CommitRequest(first, payload, 0))
    commit_one(store, CommitRequest(later, payload, 60_000))
    store.pending.bury(second, f"{commit_one(store, CommitRequest(second, payload, 0)).version:016d}", b"why")

    status = store.metrics.backlog()

    assert PARTITIONS == len(status)
    assert (2, 1, first) == (status[0].pending, status[0].dead, status[0].head[0])
    assert 59_000 < status[0].tail_ms - status[0].head[1] < 70_000
    assert (0, 0, None, None) == (status[1].pending, status[1].dead, status[1].head, status[1].tail_ms)


def test_counters_and_rate(store):
    """Counters add up, and the present rate is that of the last ten seconds."""
    store.metrics.count({"persisted": 30, "batches": 1}, persisted=30)
    store.metrics.count({"persisted": 30, "batches": 1}, persisted=30)

    assert {"persisted": 60, "batches": 2} == {name: n for name, n in store.metrics.counters().items() if n}
    assert 60 / 11 <= store.metrics.activity().persisted.per_second <= 60 / 10


def test_a_flush_is_counted_in_one_round_trip(store, wire, monkeypatch):
    """All that came of it; and the rate also where other hands have made a counter no number."""
    store.metrics.count({"batches": 1}, persisted=3)  # Redis knows the step by now
    sent, exchange = [], store.metrics._wire.exchange
    monkeypatch.setattr(store.metrics._wire, "exchange", lambda some: sent.append(some) or exchange(some))
    store.metrics.count({"persisted": 3, "batches": 1}, persisted=3)
    assert 1 == len(sent)

    wire.call("HSET", keys.COUNTERS, "batches", "x")
    store.metrics.count({"persisted": 3, "batches": 1}, persisted=3)
    assert {"persisted": 6} == {name: n for name, n in store.metrics.counters().items() if n}
    assert 9 == sum(store.metrics.activity().persisted.by_second.values())


def test_the_rate_is_counted_in_a_full_redis(store, monkeypatch):
    """Which takes no counters: no flush fails for that."""
    store.metrics.count({}, persisted=3)  # Redis knows the step by now
    exchange = store.metrics._wire.exchange
    full = OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'.")
    with monkeypatch.context() as patched:
        patched.setattr(store.metrics._wire, "exchange", lambda some: [*exchange(some[:1]), full])
        store.metrics.count({"batches": 1}, persisted=3)
    assert "batches" not in store.metrics.counters()
    assert 6 == sum(store.metrics.activity().persisted.by_second.values())


def test_a_flush_is_counted_in_a_new_server(store, wire):
    """Which does not know the step yet: once."""
    wire.call("SCRIPT", "FLUSH")
    store.metrics.count({"batches": 1}, persisted=3)
    assert (1, 3) == (
        store.metrics.counters()["batches"],
        sum(store.metrics.activity().persisted.by_second.values()),
    )


def test_workers_are_alive_for_a_while(store):
    """A worker is known by its heartbeats."""
    store.workers.record_proof("flush@here")
    store.workers.record_proof("flush@here")

    assert ["flush@here"] == store.workers.alive()


def test_names_of_workers_that_are_long_gone_are_forgotten(store, wire):
    """One that was heard of within a week is remembered."""
    long_ago, lately = store.now_ms() - REMEMBERED_MS - 1, store.now_ms() - REMEMBERED_MS + 60_000
    wire.call("ZADD", keys.WORKERS, long_ago, "gone", lately, "away")

    store.workers.record_proof("flush@here")

    assert [b"away", b"flush@here"] == wire.call("ZRANGE", keys.WORKERS, 0, -1)


def test_runs_of_periodic_tasks(store):
    """The last run of each task is known: when it was, what it did, or why it failed."""
    assert (None, {}) == (store.metrics.since_run("sweep"), store.metrics.runs())
    with store.metrics.record_run("sweep") as outcome:
        outcome(enqueued=2)
    with pytest.raises(ValueError, match="no"), store.metrics.record_run("audit"):
        raise ValueError("no")

    assert 0 <= store.metrics.since_run("sweep") < 10
    runs = {name: run.as_dict(run.at_ms + 500) for name, run in store.metrics.runs().items()}
    assert 0 <= runs["sweep"].pop("seconds") < 10
    assert {"seconds_ago": 0.5, "outcome": {"enqueued": 2}, "error": None} == runs["sweep"]
    assert "ValueError: no" == runs["audit"]["error"]


def test_bytes_that_are_pending(store, wire):
    """As many as the entries take; of a partition with many of them about as many, by some of each."""
    sizes = {}
    for number in range(PARTITIONS * SAMPLED * 2):
        member = f"users/s:{number}"
        sizes[member] = len(Entry.loaded(b"x" * 100, 0).value)
        commit_one(store, CommitRequest(member, Entry.loaded(b"x" * 100, 0).payload, 0, cap=1_000))
        counts = {one.partition: one.pending for one in store.metrics.backlog()}
        assert sum(sizes.values()) == store.unsettled.pending_bytes(counts)
    assert min(counts.values()) > SAMPLED
    assert 0 == store.unsettled.pending_bytes(dict.fromkeys(range(PARTITIONS), 0))


def test_queues_are_consumed_by_workers_that_do_something(store):
    """The telling alone proves nothing: of a worker that has done nothing for long no queue is consumed."""
    store.workers.record_proof("flush@here", ["flush"])
    store.workers.record_consumed("flush@here", ["refresh"], ago_s=1)
    store.workers.record_consumed("idle@here", ["maintenance"], ago_s=WORKER_LIFE_MS / 1000 + 1)

    assert {"flush": ["flush@here"], "refresh": ["flush@here"]} == store.workers.consumers()
    assert ["flush@here"] == store.workers.alive()


def test_a_worker_holds_a_task_for_as_long_as_it_says_so(store, wire):
    """One whose pool is full is at work, and busy once it has proven nothing for long."""
    for name in ("full@here", "some@here", "dead@here"):
        store.workers.record_proof(name, ["flush"])
        store.workers.record_held(name, full_s=None if name == "some@here" else 40)
    assert (3, []) == (len(store.workers.alive()), store.workers.look().busy)

    now = store.now_ms()
    for name in ("full@here", "some@here", "dead@here"):
        wire.call("ZADD", keys.WORKERS, now - 20_000, name)
    wire.call("ZADD", keys.HOLDING, now - WORKER_LIFE_MS - 1, "dead@here")
    assert (["full@here"], ["full@here", "some@here"]) == (store.workers.alive(), store.workers.look().holding)
    (busy,) = store.workers.look().busy
    assert ("full@here", ("flush",)) == (busy.worker, busy.queues)
    assert 40 <= busy.seconds < 45
    assert {"some@here", "dead@here"} == {one.worker for one in store.workers.look().silent}

    store.workers.record_held("full@here", full_s=None)
    assert ([], ["full@here", "some@here"]) == (store.workers.alive(), store.workers.look().holding)
    store.workers.record_free("full@here")
    store.workers.gone("some@here")
    assert [] == store.workers.look().holding


def test_what_is_persisted_is_known_by_the_second(store, wire):
    """Of the last minute, also of one flush that goes on for long; and nothing of it stays for ever."""
    now_s = wire.now_ms() // 1000
    wire.call("HSET", keys.FLUSHED, now_s - 500, 7, now_s + 500, 7, now_s - 20, 300, "x", 1)
    store.metrics.count({}, persisted=3)
    store.metrics.count({}, persisted=4)

    found = store.metrics.activity().persisted.by_second
    assert 300 == found.pop(now_s - 20)
    assert (7, True) == (sum(found.values()), all(now_s <= at <= now_s + 60 for at in found))
    assert {now_s - 20, *found} == set(map(int, wire.call("HKEYS", keys.FLUSHED)))
    assert 0 < wire.call("TTL", keys.FLUSHED) <= REMEMBERED_S


@pytest.mark.parametrize(
    "spoil", [("SET", keys.FLUSHED, "x"), ("LPUSH", keys.FLUSHED, "x")], ids=lambda one: one[0]
)
def test_what_other_hands_put_there_begins_anew(store, wire, spoil):
    """Counting goes on, and no flush fails for it."""
    wire.call(*spoil)
    store.metrics.count({}, persisted=3)
    assert 3 == sum(store.metrics.activity().persisted.by_second.values())
