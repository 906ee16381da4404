"""From Redis to MongoDB, on real servers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import bson
import pytest
from pymongo import MongoClient

from tests.commits import commit_one
from tests.flushing import flusher_of, limits
from tests.waiting import wait_until
from writebehind import Durability, Pipeline
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.flushing.flusher import READ_SLICE, Flusher, FlushInterruptedError, backoff_ms
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Settled
from writebehind.redis.store import CommitRequest

PARTITION = 0


def names(pipeline: Pipeline, count: int, collection: str = "users") -> list[str]:
    """Ids of documents that share partition 0."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if pipeline.store.partition_of(f"{collection}/s:{number}") == PARTITION:
            found.append(str(number))
        number += 1
    return found


def commit(pipeline: Pipeline, name: str, /, *, delay_ms: int = 0, **fields: object) -> int:
    body = bson.encode({"_id": name, **fields})
    entry = Entry(0, Kind.DOCUMENT, etag(body), body)
    return commit_one(pipeline.store, CommitRequest(f"users/s:{name}", entry.payload, delay_ms)).version


def delete(pipeline: Pipeline, name: str) -> int:
    return commit_one(pipeline.store, CommitRequest(f"users/s:{name}", DELETED.payload, 0)).version


@pytest.fixture
def users(pipeline, settings, mongo_client):
    return mongo_client[settings.mongodb_database]["users"]


@pytest.fixture
def flusher(pipeline) -> Flusher:
    return pipeline.flusher


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


def test_nobody_who_waits_for_mongodb_waits_for_more(pipeline):
    """A write that waits for MongoDB brings what is due along, and not what is due soon."""
    waits, soon = names(pipeline, 2, "slow")
    pipeline.collection("slow").put(soon, {})
    wire, of = pipeline.store._wire, partition_keys(PARTITION)
    wire.call("ZADD", of.pending, pipeline.store.now_ms() + 10_000, f"slow/s:{soon}")
    pipeline.collection("slow").put(waits, {}, durability="persisted")

    assert [f"slow/s:{soon}".encode()] == wire.call("ZRANGE", of.pending, 0, -1)


def test_a_partition_that_is_owned_is_left_alone(pipeline, flusher, hints):
    """Two flush tasks do not work on one partition at the same time."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "other", lease_ms=5_000, limit=1)

    summary = flusher.flush(PARTITION)

    assert (True, 0, []) == (summary.busy, summary.persisted, hints)


def test_a_refused_document_is_buried_alone(pipeline, users, flusher):
    """A document that MongoDB refuses becomes a dead letter with the reason; readers still see it."""
    users.create_index("mail", unique=True)
    first, twin, other = names(pipeline, 3)
    commit(pipeline, first, mail="a@x")
    flusher.flush(PARTITION)
    commit(pipeline, twin, mail="a@x")
    commit(pipeline, other, mail="b@x")

    summary = flusher.flush(PARTITION)

    assert (1, 1) == (summary.persisted, summary.buried)
    assert (0, 1) == (pipeline.status()["pending"], pipeline.status()["dead_letters"])
    letter = pipeline.store._wire.call("HGET", partition_keys(PARTITION).dead, f"users/s:{twin}")
    assert b'"reason":"refused"' in letter
    assert b'"code":11000' in letter
    assert pipeline.store.cache.get(f"users/s:{twin}")[0].exists


def test_a_conflict_keeps_what_mongodb_has(pipeline, users, flusher):
    """When Redis lost a later write that MongoDB has, MongoDB's stands and ours is kept with its body."""
    [ada] = names(pipeline, 1)
    ours = commit(pipeline, ada, n="ours")
    users.insert_one({"_id": ada, "n": "later", "_v": bson.Int64(ours + 1)})

    summary = flusher.flush(PARTITION)

    assert (0, 1, 1) == (summary.persisted, summary.superseded, summary.buried)
    assert "later" == users.find_one({})["n"]
    assert (None, -2) == pipeline.store.cache.get(f"users/s:{ada}")
    letter = pipeline.dead_letters.show(DocumentId.of("users", ada)).letter
    assert ("conflict", {"_id": ada, "n": "ours"}) == (letter.reason, bson.decode(letter.body))


def test_a_lost_entry_does_not_stop_the_others(pipeline, users, flusher, caplog):
    """A pending document whose entry somebody deleted in Redis is reported loudly; its neighbours go on."""
    gone, ada = names(pipeline, 2)
    commit(pipeline, gone)
    commit(pipeline, ada)
    pipeline.store._wire.call("DEL", partition_keys(PARTITION).entry(f"users/s:{gone}"))

    summary = flusher.flush(PARTITION)

    assert (1, 1) == (summary.persisted, summary.buried)
    assert [ada] == [one["_id"] for one in users.find()]
    assert ["CRITICAL"] == [record.levelname for record in caplog.records]


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


def test_nothing_is_settled_while_mongodb_hangs(pipeline, settings, mongo, way_to, users):
    """While MongoDB does not answer everything stays pending; when it is back, everything is persisted."""
    written = {name: commit(pipeline, name) for name in names(pipeline, 20)}
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=300) as client,
    ):
        slow = settings.model_copy(update={"mongodb_timeout_ms": 300})
        tickets: list[str] = []
        wire = pipeline.store._wire
        cut_off = Pipeline(slow, hints=lambda hint: tickets.append(hint.ticket), wire=wire, client=client)
        way.proxy.hang()
        for attempt in (0, 1):
            with pytest.raises(FlushInterruptedError) as interrupted:
                cut_off.flusher.flush(PARTITION, attempt=attempt)
            assert interrupted.value.hint.delay_ms >= 100
            assert 20 == pipeline.status()["pending"]
        way.proxy.flow()
        tickets.append(interrupted.value.hint.ticket)

        def drained() -> bool:
            """Flush as a task does: each leaves a ticket for the next, where that is needed."""
            try:
                cut_off.flusher.flush(PARTITION, ticket=tickets[-1])
            except FlushInterruptedError as error:
                tickets.append(error.hint.ticket)
            return pipeline.status()["pending"] == 0

        wait_until(drained, "the flush after the outage", 30)

    assert written == {one["_id"]: one["_v"] for one in users.find()}


def test_persist_returns_when_mongodb_has_it(pipeline, users, flusher):
    """A write that waits for MongoDB is there when the wait ends."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)

    left = flusher.persist({f"users/s:{ada}": version}, timeout_ms=5_000)

    assert {} == left
    assert version == users.find_one({})["_v"]


def test_persist_waits_for_another_flusher(pipeline, flusher):
    """A write-through takes its turn while another flusher owns the partition."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "other", lease_ms=60_000, limit=1)
    left: list[dict[str, bytes]] = []
    waiting = threading.Thread(
        target=lambda: left.append(flusher.persist({f"users/s:{ada}": version}, timeout_ms=10_000))
    )
    waiting.start()

    pipeline.store.pending.release(PARTITION, "other")
    waiting.join(15)

    assert [{}] == left


def test_persist_gives_up_in_time(pipeline, flusher):
    """A write-through that does not get its turn says so, and the write stays pending."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "other", lease_ms=60_000, limit=1)

    assert {f"users/s:{ada}": b""} == flusher.persist({f"users/s:{ada}": version}, timeout_ms=100)
    assert 1 == pipeline.status()["pending"]


def test_who_has_no_time_to_wait_asks_for_nothing(pipeline, flusher, monkeypatch):
    """What is to be persisted is left to the tasks at once."""
    monkeypatch.setattr(pipeline.store._wire, "exchange", None)

    assert {"users/s:ada": b""} == flusher.persist({"users/s:ada": 5}, timeout_ms=0)


def test_mongodb_is_asked_again_when_that_makes_sense(pipeline, flusher, monkeypatch):
    """After the time that the breaker says, where that is longer than the wait after a failure."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)

    def away(*_, **__):
        raise MongoUnavailableError("no", retry_after_s=30.5)

    monkeypatch.setattr(pipeline.sink, "write", away)

    with pytest.raises(FlushInterruptedError) as interrupted:
        flusher.flush(PARTITION)

    assert 30_000 < interrupted.value.hint.delay_ms <= 30_500


def test_persist_of_a_refused_document(pipeline, users, flusher):
    """A write-through that MongoDB refuses is not said to be persisted."""
    users.create_index("mail", unique=True)
    users.insert_one({"_id": "taken", "mail": "a@x"})
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada, mail="a@x")

    [(member, letter)] = flusher.persist({f"users/s:{ada}": version}, timeout_ms=5_000).items()

    assert (f"users/s:{ada}", version) == (member, DeadLetter.parse(letter).version)
    assert 1 == pipeline.status()["dead_letters"]


def test_persist_of_a_write_that_is_lost(pipeline, users, flusher):
    """A write-through is not said to be persisted where MongoDB has a newer version, which Redis has lost."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)
    users.insert_one({"_id": ada, "_v": version + 1})

    [(member, letter)] = flusher.persist({f"users/s:{ada}": version}, timeout_ms=5_000).items()

    assert (f"users/s:{ada}", "conflict") == (member, DeadLetter.parse(letter).reason)


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


def test_what_another_flusher_has_settled_is_not_lost(pipeline, users, flusher, monkeypatch, caplog):
    """A member whose entry has gone because another flusher has brought it to MongoDB is no dead letter."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    read = pipeline.store.pending.entries

    def late(partition, members):
        monkeypatch.setattr(pipeline.store.pending, "entries", read)
        pipeline.store._wire.call("DEL", partition_keys(PARTITION).lease)
        other = flusher_of(pipeline, limits(3, 10_000))
        other.flush(PARTITION)
        pipeline.store._wire.call("DEL", partition_keys(PARTITION).entry(f"users/s:{ada}"))
        return read(partition, members)

    monkeypatch.setattr(pipeline.store.pending, "entries", late)
    summary = flusher.flush(PARTITION)

    assert (0, 0) == (summary.buried, pipeline.status()["dead_letters"])
    assert 1 == users.count_documents({"_id": ada})
    assert [] == [record for record in caplog.records if record.levelname == "CRITICAL"]


def test_the_audit_drops_what_was_read_meanwhile(pipeline, users, flusher, monkeypatch):
    """A document that a late flusher brought back is gone for readers too, once its deletion is audited."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    [ada] = names(pipeline, 1)
    pipeline.collection("users").delete(ada)
    flusher.flush(PARTITION)
    entry = partition_keys(PARTITION).entry(f"users/s:{ada}")
    users.insert_one({"_id": ada, "n": 1, "_v": bson.Int64(5)})
    pipeline.store._wire.call(
        "SET", entry, b"0000000000000005D" + b"0" * 32 + bson.encode({"_id": ada}), "PX", 60_000
    )

    assert {"audited": 1, "deleted_again": 1} == pipeline.maintenance.audit_deletions()

    assert pipeline.collection("users").get(ada) is None
    assert 0 == users.count_documents({"_id": ada})


def test_one_sweep_audits(pipeline, flusher, monkeypatch):
    """While one sweep audits many deletions others go on without; and what takes too long is left to the next."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    monkeypatch.setattr("writebehind.flushing.deletion_audit.SLICE", 2)
    for name in names(pipeline, 5):
        pipeline.collection("users").delete(name)
    flusher.flush(PARTITION)
    others, delete_older = [], pipeline.sink.delete_older

    def slowly(collection, versions):
        others.append(pipeline.maintenance.audit_deletions())
        return delete_older(collection, versions)

    monkeypatch.setattr(pipeline.sink, "delete_older", slowly)
    with monkeypatch.context() as patch:
        patch.setattr("writebehind.flushing.deletion_audit.MOST_S", 0.0)
        assert 2 == pipeline.maintenance.audit_deletions()["audited"]
    assert 3 == pipeline.maintenance.audit_deletions()["audited"]
    assert [0] * 3 == [one["audited"] for one in others]


def test_nothing_is_sent_after_the_lease(pipeline, users, monkeypatch):
    """A flusher that was stopped for longer than its lease sends nothing: others may have overtaken it since."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    flusher = flusher_of(pipeline, limits(9, 200))
    noted = pipeline.store.pending.record_sending

    def stopped(partition, entries):
        noted(partition, entries)
        lease = partition_keys(partition).lease
        wait_until(lambda: not pipeline.store._wire.call("EXISTS", lease), "the lease to run out")

    monkeypatch.setattr(pipeline.store.pending, "record_sending", stopped)
    with pytest.raises(FlushInterruptedError):
        flusher.flush(PARTITION)

    assert 0 == users.count_documents({})
    assert 1 == pipeline.status()["pending"]


def test_who_waits_for_a_write_waits_for_no_other(pipeline):
    """What is due as well is left to the flush task."""
    first, *others = names(pipeline, 3)
    version = commit(pipeline, first)
    for name in others:
        commit(pipeline, name)
    of = partition_keys(PARTITION)
    pipeline.store._wire.call(
        "ZADD", of.pending, *(p for at, name in enumerate([first, *others]) for p in (at, f"users/s:{name}"))
    )
    flusher = flusher_of(pipeline, limits(1, 10_000))

    assert {} == flusher.persist({f"users/s:{first}": version}, timeout_ms=10_000)

    assert 2 == pipeline.store._wire.call("ZCARD", of.pending)


def test_who_waits_for_a_write_waits_for_a_flusher_at_work(pipeline):
    """Until that lets go of the partition, or its lease is over."""
    [ada] = names(pipeline, 1)
    member, version = f"users/s:{ada}", commit(pipeline, ada)
    pipeline.store.pending.claim(PARTITION, "another", lease_ms=300, limit=1)

    assert {} == pipeline.flusher.persist({member: version}, timeout_ms=10_000)


def test_who_waits_for_a_write_is_not_put_off_by_an_older_one(pipeline, mongo_client, monkeypatch):
    """A hot document is coalesced, and what somebody waits for is persisted although it was being flushed."""
    slow, at_work, go_on = pipeline.collection("slow"), threading.Event(), threading.Event()
    write = pipeline.sink.write

    def waits(*arguments, **options):
        at_work.set()
        assert go_on.wait(10)
        return write(*arguments, **options)

    monkeypatch.setattr(pipeline.sink, "write", waits)
    with ThreadPoolExecutor(2) as threads:
        older = threads.submit(slow.put, "ada", {"n": 1}, durability="persisted")
        assert at_work.wait(10)
        newer = threads.submit(slow.put, "ada", {"n": 2}, durability="persisted")
        wait_until(lambda: slow.get("ada")["n"] == 2, "the newer write")
        go_on.set()

        assert [Durability.PERSISTED] * 2 == [one.result(10).durability for one in (older, newer)]

    assert 2 == mongo_client[pipeline.settings.mongodb_database]["slow"].find_one({"_id": "ada"})["n"]


def test_who_waits_for_a_write_tells_a_flusher_at_work(pipeline):
    """What an older version has put off is due at once, so that whoever owns the partition brings it along."""
    [ada] = names(pipeline, 1)
    pending, member, older = pipeline.store.pending, f"users/s:{ada}", commit(pipeline, ada)
    pending.claim(PARTITION, "another", lease_ms=60_000, limit=1)
    newer = commit(pipeline, ada)
    pending.settle(PARTITION, [Settled(member, f"{older:016d}", 60_000)], delay_ms=60_000)

    with ThreadPoolExecutor(1) as threads:
        left = threads.submit(pipeline.flusher.persist, {member: newer}, timeout_ms=10_000)
        wait_until(lambda: pending.claim(PARTITION, "another", lease_ms=60_000, limit=1), "it to be due")
        pending.release(PARTITION, "another")

        assert {} == left.result(15)


def test_who_waits_is_told_at_once_that_the_flusher_ends(pipeline):
    """A process that ends leaves the write to others, and asks nobody again and again until the time is over."""
    [ada] = names(pipeline, 1)
    member, version = f"users/s:{ada}", commit(pipeline, ada)
    pipeline.flusher.stop()
    began = time.monotonic()

    assert {member: b""} == pipeline.flusher.persist({member: version}, timeout_ms=10_000)

    assert time.monotonic() - began < 5


def test_who_waits_in_vain_leaves_a_task(pipeline, hints, monkeypatch):
    """While MongoDB is away the write is left to a flush task, which comes later."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)

    def away(*_, **__):
        raise MongoUnavailableError("away")

    monkeypatch.setattr(pipeline.sink, "write", away)

    assert {f"users/s:{ada}": b""} == pipeline.flusher.persist({f"users/s:{ada}": version}, timeout_ms=2_000)

    [hint] = hints
    assert (PARTITION, True) == (hint.partition, hint.delay_ms > 0)


def test_who_waits_for_what_is_not_taken_now_does_not_ask_on(pipeline, monkeypatch):
    """It is tried again later, so the answer says at once that MongoDB does not have it."""
    [ada] = names(pipeline, 1)
    member, version = f"users/s:{ada}", commit(pipeline, ada)
    monkeypatch.setattr(
        pipeline.sink, "write", lambda _, writes, **__: [Outcome(one, Result.UNCLEAR) for one in writes]
    )
    claims = []
    claim = pipeline.store.pending.claim
    monkeypatch.setattr(
        pipeline.store.pending,
        "claim",
        lambda *arguments, **options: claims.append(1) or claim(*arguments, **options),
    )
    monkeypatch.setattr("writebehind.flushing.attempts.DELAY_MS", 60_000)

    assert {member: b""} == pipeline.flusher.persist({member: version}, timeout_ms=2_000)

    assert len(claims) <= 3


def test_each_failure_makes_the_next_wait_longer(monkeypatch):
    """Twice as long at most, up to a bound."""
    monkeypatch.setattr("random.randint", lambda _least, most: most)

    assert [200, 400, 800, 1_600, 3_200, 5_000, 5_000] == [backoff_ms(attempt) for attempt in range(7)]
