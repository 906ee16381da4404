"""Dead letters that stand in another partition than their own are tried again, or say so, at home."""

from __future__ import annotations

import json

import bson

from tests.commits import commit_one
from tests.integration.misplaced.conftest import ADA, put, reconcile, settle_all
from writebehind import Pipeline
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.flushing.dead_letter import Filter
from writebehind.operations.repartition import repartition
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys


def bury(wrong: Pipeline, n: int, *, drop_entry: bool) -> None:
    """Make a dead letter in a partition of that division."""
    version = commit_one(wrong.store, CommitRequest(ADA, _payload(n), 0)).version
    letter = {"member": ADA, "version": version, "reason": "refused", "code": 1, "message": "no"}
    if drop_entry:
        letter |= {"reason": "conflict"}
    dump = f"{version:016d}{json.dumps(letter)}".encode()
    wrong.store.pending.bury(ADA, f"{version:016d}", dump, drop_entry=drop_entry)


def _payload(n: int) -> bytes:
    return Entry.loaded(bson.encode({"_id": "ada", "n": n}), 0).payload


def test_a_letter_of_another_partition_is_tried_again_at_home(pipeline, wrong, stored):
    """Reconciling brings it home, where MongoDB takes its document."""
    bury(wrong, 1, drop_entry=False)
    assert wrong.store.partition_of(ADA) != pipeline.store.partition_of(ADA)

    reconcile(pipeline)
    settle_all(pipeline)

    assert [1] == [one["n"] for one in stored.find()]
    assert (0, {}) == (pipeline.dead_letters.count(), pipeline.dead_letters.by_collection())


def test_what_is_kept_in_another_partition_can_be_replayed_at_home(pipeline, wrong, stored):
    """The letters of conflicts come home with what is kept, each once, and stay until a person decides."""
    for n in (1, 2):
        bury(wrong, n, drop_entry=True)

    for _ in range(2):
        reconcile(pipeline)
    settle_all(pipeline)

    letters = pipeline.dead_letters.of(DocumentId.from_member(ADA))
    assert [2, {"users": 2}] == [len(letters), pipeline.dead_letters.by_collection()]
    pipeline.dead_letters.replay(letters[:1], conflicts=True)
    settle_all(pipeline)
    assert [2] == [one["n"] for one in stored.find()]


def test_a_letter_without_its_document_says_so_at_home(pipeline, wrong):
    """Its document is lost, which the letter says from the next pass on."""
    bury(wrong, 1, drop_entry=False)
    partition = partition_keys(wrong.store.partition_of(ADA))
    pipeline.store._wire.call("DEL", partition.entry(ADA))

    for _ in range(2):
        reconcile(pipeline)
    settle_all(pipeline)

    assert ["lost"] == [one.letter.reason.value for one in pipeline.dead_letters.all(Filter())]


def test_draining_sees_to_partitions_that_should_not_be(pipeline, displace, stored, monkeypatch):
    """Documents and letters there are brought home, and Redis can be divided anew, as the message says."""
    for name in ("SAMPLE_EVERY_S", "_WAITS"):
        monkeypatch.setattr(f"writebehind.operations.idle.{name}", 0)
    pipeline.check()
    put(pipeline, 1)
    displace(to=11)
    beyond = partition_keys(MOST_PARTITIONS - 1)
    pipeline.store.assigned.record(MOST_PARTITIONS)
    version = put(pipeline, 2)
    of = partition_keys(pipeline.store.partition_of(ADA))
    pipeline.store.pending.bury(ADA, f"{version:016d}", b"%016d{}" % version)
    for name in ("dead", "dead_counts"):
        pipeline.store._wire.call("RENAME", getattr(of, name), getattr(beyond, name))
    pipeline.store._wire.call("RENAME", of.entry(ADA), beyond.entry(ADA))

    settle_all(pipeline)

    assert [2] == [one["n"] for one in stored.find()]
    assert 6 == repartition(pipeline, 6).after


def test_reconciling_sees_to_partitions_that_should_not_be(pipeline, displace, hints):
    """Once in a pass somebody looks there, and asks for a flush."""
    put(pipeline, 1)
    displace(to=11)
    pipeline.store._wire.call("PEXPIRE", partition_keys(11).entry(ADA), 60_000)  # or it is found as an entry
    hints.clear()

    assert {"unscheduled": 1} == reconcile(pipeline)

    assert [11] == [one.partition for one in hints]


def test_so_many_letters_come_home_that_no_write_is_taken(pipeline, wrong, home, monkeypatch):
    """What is kept of a document stays bounded, wherever its letters were, and they are counted at home."""
    monkeypatch.setattr("writebehind.redis.misplaced.MOST_KEPT", 2)
    for n in (1, 2):
        bury(wrong, n, drop_entry=True)

    pipeline.homecoming.of_all_letters(wrong.store.partition_of(ADA))

    assert {"users": 2} == pipeline.dead_letters.by_collection()
    assert 1 == pipeline.store._wire.call("SISMEMBER", partition_keys(home).crowded, ADA)


def test_notes_of_who_waits_elsewhere_are_forgotten(pipeline, wrong):
    """Nobody finds the letters by them, and the sweep would look at them for ever; those at home stay."""
    wrong.store.awaited.add_waiter(ADA, "users/s:bob", "")
    pipeline.store.awaited.add_waiter(ADA, "users/s:eve", "")
    there = wrong.store.partition_of(ADA)

    assert [] == pipeline.store.awaited.some_in(there, count=9)

    of = partition_keys(there)
    assert 0 == pipeline.store._wire.call("EXISTS", of.awaited, of.waiting(ADA))
    assert [ADA] == pipeline.store.awaited.some_in(pipeline.store.partition_of(ADA), count=9)
