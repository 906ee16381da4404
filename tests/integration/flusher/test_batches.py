"""Flushes: the batches that they write, and the documents that they leave to the next."""

from __future__ import annotations

from collections.abc import Sequence

import bson

from tests.commits import commit_one
from tests.flushing import flusher_of, limits
from tests.integration.flusher.conftest import PARTITION, commit, delete, names
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.flushing.batches import READ_SLICE
from writebehind.redis import scripts
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys


def test_a_flush_brings_everything_that_is_due(pipeline, users, flusher, hints):
    """After a flush MongoDB has what was acknowledged, nothing is pending, and nobody is asked to come again."""
    ada, bob, zoe = names(pipeline, 3)
    versions = {name: commit(pipeline, name, n=1) for name in (ada, bob)}
    users.insert_one({"_id": zoe})
    delete(pipeline, zoe)

    summary = flusher.flush(PARTITION)

    assert {"partition": 0, "persisted": 2, "deleted": 1, "superseded": 0, "buried": 0} == {
        name: summary.as_dict()[name] for name in ("partition", "persisted", "deleted", "superseded", "buried")
    }
    assert versions == {one["_id"]: one["_v"] for one in users.find()}
    assert 0 == pipeline.status()["pending"]
    assert [] == hints


def test_a_flush_takes_six_round_trips(pipeline, users, flusher, monkeypatch):
    """Claimed, read, noted, settled; let go of by the claim that finds nothing more; and counted."""
    ada, bob = names(pipeline, 2)
    commit(pipeline, ada, n=1)
    flusher.flush(PARTITION)  # Redis knows the steps by now, and this process the pauses
    commit(pipeline, bob, n=1)
    wire = pipeline.store.pending._wire
    sent, exchange = [], wire.exchange
    monkeypatch.setattr(wire, "exchange", lambda some: sent.append([named(one) for one in some]) or exchange(some))

    flusher.flush(PARTITION)

    steps = ["claim"], ["MGET"], ["GET", "record_sending"], ["settle"], ["claim"], ["count_flushed", "HINCRBY"]
    assert [*steps] == [one for one in sent if one != ["HGETALL"]]  # a look at pauses, once a second
    assert 2 == users.count_documents({})


def named(command: Sequence[object]) -> str:
    """A command by its name, a step by its own."""
    return next((one.name for one in scripts.steps() if one.sha1 == command[1]), str(command[0]))


def test_writes_to_one_document_are_coalesced(pipeline, users, flusher):
    """Ten writes to one document become one operation with the last one's content."""
    [ada] = names(pipeline, 1)
    for n in range(10):
        commit(pipeline, ada, n=n)

    summary = flusher.flush(PARTITION)

    assert (1, 1, 9) == (summary.persisted, summary.operations, users.find_one({})["n"])


def test_a_flush_works_in_batches(pipeline, users):
    """More than one batch is flushed in one go."""
    for name in names(pipeline, 7):
        commit(pipeline, name)
    flusher = flusher_of(pipeline, limits(3, 10_000))

    summary = flusher.flush(PARTITION)

    assert (7, 3, 7) == (summary.persisted, summary.batches, users.count_documents({}))


def test_a_flush_that_lasts_is_seen_to_go_on(pipeline, monkeypatch):
    """Each document counts once for the present rate, and does before the flush is over."""
    monkeypatch.setattr("writebehind.flushing.flusher.TOLD_EVERY_S", 0.0)
    metrics, told = pipeline.store.metrics, []
    count = metrics.count
    monkeypatch.setattr(
        metrics, "count", lambda *counts, persisted: (told.append(persisted), count(*counts, persisted=persisted))
    )
    for name in names(pipeline, 7):
        commit(pipeline, name)

    flusher_of(pipeline, limits(3, 10_000)).flush(PARTITION)

    assert [3, 3, 1, 0] == told
    assert 7 == sum(metrics.activity().persisted.by_second.values())


def test_a_batch_is_as_large_as_memory_allows(pipeline, flusher):
    """Small documents are read in several slices, and written in one go."""
    for name in names(pipeline, READ_SLICE + 1):
        commit(pipeline, name)

    summary = flusher.flush(PARTITION)

    assert (READ_SLICE + 1, 1) == (summary.persisted, summary.batches)


def test_what_is_not_due_asks_for_another_flush(pipeline, flusher, hints):
    """A document whose flush delay is not over is left to a later task."""
    early, late = names(pipeline, 2)
    commit(pipeline, early)
    commit(pipeline, late, delay_ms=50_000)

    summary = flusher.flush(PARTITION)

    assert (1, 1) == (summary.persisted, len(hints))
    assert 40_000 < hints[0].delay_ms <= 50_000


def test_what_trickles_in_shares_batches(pipeline, mongo_client):
    """A document goes along with one that is due once half of its flush delay is over, and never before."""
    slow = names(pipeline, 4, "slow")
    of, wire = partition_keys(PARTITION), pipeline.store._wire
    for name, left_ms in zip(slow, (0, 10_000, 29_000, 31_000), strict=True):
        pipeline.collection("slow").put(name, {})
        wire.call("ZADD", of.pending, pipeline.store.now_ms() + left_ms, f"slow/s:{name}")
    [fast] = names(pipeline, 1)
    commit(
        pipeline, fast, delay_ms=10_000
    )  # of a collection whose flush delay is none, so that it has waited enough

    summary = pipeline.flusher.flush(PARTITION)

    assert (3, 1) == (summary.persisted, summary.batches)
    stored = mongo_client[pipeline.settings.mongodb_database]["slow"]
    assert set(slow[:3]) == {one["_id"] for one in stored.find()}
    assert pipeline.status()["pending"] == 2


def test_a_document_goes_along_by_the_delay_of_its_collection(flusher):
    """After half of it, whatever others wait for."""
    assert [True, False] == [flusher._goes_along("slow/s:ada", left_ms) for left_ms in (30_000, 30_001)]


def test_a_document_id_of_every_type(pipeline, settings, mongo_client):
    """Ids keep their type on the way to MongoDB."""
    ids = [DocumentId.of("users", one) for one in ("text", bson.ObjectId(), 42)]
    for one in ids:
        body = bson.encode({"_id": one.value})
        request = CommitRequest(one.member, Entry(0, Kind.DOCUMENT, etag(body), body).payload, 0)
        commit_one(pipeline.store, request)
    for partition in range(settings.partitions):
        pipeline.flusher.flush(partition)

    found = mongo_client[settings.mongodb_database]["users"].find()
    assert {one.value for one in ids} == {one["_id"] for one in found}
