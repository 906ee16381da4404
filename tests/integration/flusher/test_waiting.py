"""Writes that wait until MongoDB has them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.flushing import flusher_of, limits
from tests.integration.flusher.conftest import PARTITION, commit, names
from tests.waiting import wait_until
from writebehind import Durability
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Settled


def test_nobody_who_waits_for_mongodb_waits_for_more(pipeline):
    """A write that waits for MongoDB brings what is due along, and not what is due soon."""
    waits, soon = names(pipeline, 2, "slow")
    pipeline.collection("slow").put(soon, {})
    wire, of = pipeline.store._wire, partition_keys(PARTITION)
    wire.call("ZADD", of.pending, pipeline.store.now_ms() + 10_000, f"slow/s:{soon}")
    pipeline.collection("slow").put(waits, {}, durability="persisted")

    assert [f"slow/s:{soon}".encode()] == wire.call("ZRANGE", of.pending, 0, -1)


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


def test_who_waits_in_vain_leaves_a_task(pipeline, hints, monkeypatch, caplog):
    """While MongoDB is away the write is left to a flush task, which comes later; of many, one line says so."""
    [ada] = names(pipeline, 1)
    version = commit(pipeline, ada)

    def away(*_, **__):
        raise MongoUnavailableError("away")

    monkeypatch.setattr(pipeline.sink, "write", away)

    assert {f"users/s:{ada}": b""} == pipeline.flusher.persist({f"users/s:{ada}": version}, timeout_ms=2_000)

    [hint] = hints
    assert (PARTITION, True) == (hint.partition, hint.delay_ms > 0)
    for _ in range(3):
        pipeline.flusher.persist({f"users/s:{ada}": version}, timeout_ms=2_000)
    assert 1 == caplog.text.count("has to wait: away")


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
