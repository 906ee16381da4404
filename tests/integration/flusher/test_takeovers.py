"""Flushers of one partition and writers beside them: leases, takeovers, and a worker that is told to stop."""

from __future__ import annotations

import pytest

from tests.flushing import flusher_of, limits
from tests.integration.flusher.conftest import PARTITION, commit, names
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.redis.keys import partition_keys


def test_a_partition_that_is_owned_is_left_alone(pipeline, flusher, hints):
    """Two flush tasks do not work on one partition at the same time."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "other", lease_ms=5_000, limit=1)

    summary = flusher.flush(PARTITION)

    assert (True, 0, []) == (summary.busy, summary.persisted, hints)


def test_a_write_during_the_flush_is_not_settled(pipeline, users, monkeypatch):
    """A write that comes while its document is being written stays pending, and is flushed next."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada, n=1)
    original = pipeline.sink.write
    raced: list[int] = []

    def write(collection, writes, **limit):
        if not raced:
            raced.append(commit(pipeline, ada, n=2))
        return original(collection, writes, **limit)

    monkeypatch.setattr(pipeline.sink, "write", write)
    pipeline.flusher.flush(PARTITION)
    pipeline.flusher.flush(PARTITION)

    assert {"_id": ada, "n": 2, "_v": raced[0]} == users.find_one({})
    assert 0 == pipeline.status()["pending"]


def test_stop_ends_a_flush_after_its_batch(pipeline, users, hints, monkeypatch):
    """A worker that is told to stop finishes its batch and hands the rest back at once."""
    for name in names(pipeline, 6):
        commit(pipeline, name)
    flusher = flusher_of(pipeline, limits(2, 10_000), hints=hints)
    original = pipeline.sink.write

    def write(collection, writes, **limit):
        flusher.stop()
        return original(collection, writes, **limit)

    monkeypatch.setattr(pipeline.sink, "write", write)
    summary = flusher.flush(PARTITION)

    assert (2, 1, 0) == (summary.persisted, len(hints), hints[0].delay_ms)
    pipeline.flusher.flush(PARTITION, ticket=hints[0].ticket)
    assert 6 == users.count_documents({})


def test_a_flusher_that_loses_redis_in_the_middle_lets_go_once_it_is_back(pipeline, users, hints, monkeypatch):
    """Nobody waits for the end of its lease, and what it has not settled is hinted at."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    wire, original = pipeline.store._wire, pipeline.sink.write
    exchange, lost = wire.exchange, [RedisUnavailableError("Redis does not answer")] * 3

    def write(collection, writes, **limit):
        monkeypatch.setattr(wire, "exchange", lambda commands: exchange(commands) if not lost else fail())
        return original(collection, writes, **limit)

    def fail() -> None:
        raise lost.pop()

    monkeypatch.setattr(pipeline.sink, "write", write)
    with pytest.raises(RedisUnavailableError):
        pipeline.flusher.flush(PARTITION)

    assert ([], 0) == (lost, wire.call("EXISTS", partition_keys(PARTITION).lease))
    assert 1 == len(hints)
    pipeline.flusher.flush(PARTITION, ticket=hints[0].ticket)
    assert (1, 0) == (users.count_documents({}), pipeline.status()["pending"])


def test_a_dead_flushers_work_is_taken_over(pipeline, users, hints, mongo_client):
    """What a flusher had claimed when it died is found by the sweep once its lease has run out."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "dead", lease_ms=50, limit=10)
    eager = Pipeline(
        pipeline.settings.model_copy(update={"overdue_ms": 1}),
        hints=hints,
        wire=pipeline.store._wire,
        client=mongo_client,
    )

    wait_until(lambda: eager.maintenance.sweep()["enqueued"], "the sweep to find the partition")
    pipeline.flusher.flush(PARTITION, ticket=hints[-1].ticket)

    assert version == users.find_one({})["_v"]


def test_what_another_flusher_has_settled_is_not_lost(pipeline, users, flusher, monkeypatch, caplog):
    """A member whose entry has gone because another flusher has brought it to MongoDB is no dead letter."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    read = pipeline.store.pending.values

    def late(partition, members):
        monkeypatch.setattr(pipeline.store.pending, "values", read)
        pipeline.store._wire.call("DEL", partition_keys(PARTITION).lease)
        other = flusher_of(pipeline, limits(3, 10_000))
        other.flush(PARTITION)
        pipeline.store._wire.call("DEL", partition_keys(PARTITION).entry(f"users/s:{ada}"))
        return read(partition, members)

    monkeypatch.setattr(pipeline.store.pending, "values", late)
    summary = flusher.flush(PARTITION)

    assert (0, 0) == (summary.buried, pipeline.status()["dead_letters"])
    assert 1 == users.count_documents({"_id": ada})
    assert [] == [record for record in caplog.records if record.levelname == "CRITICAL"]


def test_nothing_is_sent_after_the_lease(pipeline, users, monkeypatch):
    """A flusher that was stopped for longer than its lease sends nothing: others may have overtaken it since."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    flusher = flusher_of(pipeline, limits(9, 200))
    noted = pipeline.store.pending.note_sending

    def stopped(partition, flat, **options):
        links = noted(partition, flat, **options)
        lease = partition_keys(partition).lease
        wait_until(lambda: not pipeline.store._wire.call("EXISTS", lease), "the lease to run out")
        return links

    monkeypatch.setattr(pipeline.store.pending, "note_sending", stopped)
    with pytest.raises(FlushInterruptedError):
        flusher.flush(PARTITION)

    assert 0 == users.count_documents({})
    assert 1 == pipeline.status()["pending"]
