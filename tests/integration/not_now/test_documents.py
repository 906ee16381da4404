"""One document that MongoDB does not take, for no known reason: it blocks nobody, and is not given up at once."""

from __future__ import annotations

from contextlib import suppress

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import AutoReconnect, OperationFailure

from tests.integration.not_now.conftest import PARTITION, attempt, commit, letters, names
from tests.refusals import only
from writebehind.flushing import attempts
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.mongodb.breaker import BreakerState
from writebehind.mongodb.columns import Columns
from writebehind.mongodb.outcomes import AllRefusedError, Outcome, Result, Write
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script


@pytest.mark.parametrize(
    "error",
    [
        TypeError("no such type"),
        KeyError("k"),
        RecursionError("too deep"),
        MemoryError("too much"),
        OverflowError("int too large"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        InvalidDocument("cannot encode"),
        OperationFailure("unheard of", 424242),
        OperationFailure("BSONObj size is invalid", 22),
        AutoReconnect("connection closed"),
        {"code": 424242, "errmsg": "unheard of"},
    ],
    ids=str,
)
def test_one_document_that_nothing_takes(pipeline, stored, server, error):
    """Whatever one document makes a batch raise, the others are persisted; it becomes a letter with the reason."""
    poison, *others = names(pipeline, 8)
    for name in [*others[:3], poison, *others[3:]]:
        commit(pipeline, name)
    server.refuses = only(poison, error)

    summary = attempt(pipeline)

    assert len(others) == summary.persisted
    assert set(others) == {one["_id"] for one in stored.find()}
    for _ in range(3):
        attempt(pipeline)
    assert {poison} == letters(pipeline).keys()
    said = error["errmsg"] if isinstance(error, dict) else str(error)
    assert said in letters(pipeline)[poison]
    assert (0, BreakerState()) == (pipeline.status()["pending"], pipeline.breaker.state())


@pytest.mark.parametrize("step", ["_write", "_resolve", "record"])
def test_a_step_that_fails_for_one_document(pipeline, stored, monkeypatch, step):
    """Not only MongoDB: whatever step fails for one document, a fault of our own too, fails for no other."""
    poison, *others = names(pipeline, 8)
    for name in [*others[:3], poison, *others[3:]]:
        commit(pipeline, name)
    batches = pipeline.flusher._batches
    owner = batches if step.startswith("_") else batches._recorder
    original = getattr(owner, step)
    monkeypatch.setattr(batches._recorder, "is_told", lambda _: True)  # so that they are looked at one by one

    def fail(*arguments: object, **named: object) -> object:
        if f"'{poison}'" in repr(arguments):
            raise LookupError("a fault of our own")
        return original(*arguments, **named)

    monkeypatch.setattr(owner, step, fail)
    for _ in range(4):
        attempt(pipeline)

    assert {poison} == letters(pipeline).keys()
    assert "LookupError: a fault of our own" in letters(pipeline)[poison]
    assert set(others) <= {one["_id"] for one in stored.find()}
    assert 0 == pipeline.status()["pending"]


@pytest.mark.parametrize("step", ["_noted", "_write", "record_plain"])
def test_a_step_that_fails_for_columns(pipeline, stored, monkeypatch, step):
    """Documents that cannot be sent or recorded in columns are, one by one."""
    ids = names(pipeline, 8)
    for name in ids:
        commit(pipeline, name)
    batches = pipeline.flusher._batches
    owner = batches if step.startswith("_") else batches._recorder
    original = getattr(owner, step)

    def fail(*arguments: object, **named: object) -> object:
        if any(isinstance(one, Columns) for one in arguments):
            raise LookupError("a fault of our own")
        return original(*arguments, **named)

    monkeypatch.setattr(owner, step, fail)
    assert 8 == attempt(pipeline).persisted

    assert set(ids) == {one["_id"] for one in stored.find()}
    assert ({}, 0) == (letters(pipeline), pipeline.status()["pending"])


@pytest.mark.parametrize("value", [b"", b"x", b"not a version at all, and no kind", b"0000000000000009?"])
def test_an_entry_that_cannot_be_read(pipeline, stored, value):
    """An entry that other hands have made unreadable becomes a letter; its neighbours go on, in the same batch."""
    poison, *others = names(pipeline, 8)
    member = commit(pipeline, poison)
    for name in others:
        commit(pipeline, name)
    for at, name in enumerate([*others[:5], poison, *others[5:]]):
        pipeline.store._wire.call("ZADD", partition_keys(PARTITION).pending, at, f"users/s:{name}")
    pipeline.store._wire.call("SET", pipeline.store.cache.key(member), value)
    pipeline.store._wire.call("HSET", partition_keys(PARTITION).sent, member, value)

    assert 1 == pipeline.flusher.flush(PARTITION).batches

    assert {poison} == letters(pipeline).keys()
    assert set(others) == {one["_id"] for one in stored.find()}
    assert 0 == pipeline.status()["pending"]


def test_what_was_noted_cannot_be_read(pipeline, stored):
    """A note of what was sent that makes no sense is replaced."""
    [ada] = names(pipeline, 1)
    member = commit(pipeline, ada)
    pipeline.store._wire.call("HSET", partition_keys(PARTITION).sent, member, "nonsense")

    assert 1 == pipeline.flusher.flush(PARTITION).persisted


@pytest.mark.parametrize("name", ["a..b", "logs.", "$cmd", "system.x", "system.views"])
def test_a_collection_that_cannot_be(pipeline, stored, name):
    """What was acknowledged under an impossible name becomes a letter, and its partition goes on."""
    [poison] = names(pipeline, 1, name)
    [ada] = names(pipeline, 1)
    commit(pipeline, poison, name)
    commit(pipeline, ada)

    summary = attempt(pipeline)

    assert (1, 1) == (summary.persisted, summary.buried)
    assert [ada] == [one["_id"] for one in stored.find()]
    assert (0, BreakerState()) == (pipeline.status()["pending"], pipeline.breaker.state())


@pytest.mark.parametrize("takes_writes", [False, True])
def test_one_document_alone(pipeline, server, monkeypatch, takes_writes):
    """Without another document to compare with, a write that changes nothing tells whether it is the document."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)
    server.refuses = lambda _: {"code": 424242}
    monkeypatch.setattr(pipeline.sink, "_takes_writes", lambda _: takes_writes)

    for _ in range(5):
        attempt(pipeline)

    assert takes_writes is (ada in letters(pipeline))


def test_a_document_that_is_disturbed_without_end(pipeline, server):
    """A document that others change at each attempt becomes a letter after some, and blocks nobody."""
    hot, ada = names(pipeline, 2)
    commit(pipeline, hot)
    server.refuses = only(hot, {"code": 112, "errmsg": "WriteConflict"})
    for _ in range(3):
        commit(pipeline, ada)
        assert 1 == attempt(pipeline).persisted

    assert {hot: "WriteConflict"} == letters(pipeline)
    assert 3 == next(pipeline.dead_letters.all(Filter())).letter.attempts


def test_a_new_version_has_a_new_chance(pipeline, stored, server):
    """Attempts are counted per version: what was written anew is tried as often."""
    poison, ada = names(pipeline, 2)
    server.refuses = only(poison, {"code": 424242})
    for _ in range(3):
        commit(pipeline, poison)
        for _ in range(2):
            commit(pipeline, ada)
            attempt(pipeline)
    assert {} == letters(pipeline)
    server.refuses = lambda _: None
    attempt(pipeline)

    assert {poison, ada} == {one["_id"] for one in stored.find()}


def test_delays_grow_and_a_drain_does_not_count(pipeline, server, monkeypatch):
    """Each attempt doubles the delay until the next; a drain tries what is not due once, which does not count."""
    monkeypatch.setattr(attempts, "ATTEMPTS", {Result.UNCLEAR: 4, Result.DISTURBED: 4})
    monkeypatch.setattr(attempts, "DELAY_MS", 60_000)
    monkeypatch.setattr(attempts, "POSTPONED_MS", 150_000)
    monkeypatch.setattr(pipeline.store.pending, "longest_wait_ms", 300_000)
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    poison, ada = names(pipeline, 2)
    member = commit(pipeline, poison)
    pending = partition_keys(PARTITION).pending
    server.refuses = only(poison, {"code": 424242})
    for delay_s in (60, 120, 150):
        commit(pipeline, ada)
        attempt(pipeline)
        seconds, _ = pipeline.store._wire.call("TIME")
        due = pipeline.store._wire.call("ZSCORE", pending, member)
        assert delay_s - 10 < float(due) / 1000 - int(seconds) < delay_s + 2
        if delay_s == 120:
            sent = server.sent
            pipeline.flusher.drain(PARTITION, budget_s=5)
            assert sent + 1 == server.sent
            assert due == pipeline.store._wire.call("ZSCORE", pending, member)
            assert {} == letters(pipeline)


def test_what_waits_for_another_attempt_is_still_ours(pipeline, server, stored):
    """The count of attempts does not hide from the listener what MongoDB was given."""
    [ada] = names(pipeline, 1)
    member = commit(pipeline, ada)
    server.refuses = lambda _: {"code": 424242}
    attempt(pipeline)

    known = pipeline.applier._known([member])[member]

    assert known.sent is not None
    assert known.version == known.sent.entry.version


@pytest.mark.parametrize(("together", "halved"), [(1, False), (2, True)])
def test_one_document_alone_makes_no_batch_smaller(pipeline, users, monkeypatch, together, halved):
    """That MongoDB refuses one document, for a reason that is not known, says nothing of how many it takes."""
    partition = pipeline.store.partition_of("users/s:u0")
    names = [f"u{n}" for n in range(50) if pipeline.store.partition_of(f"users/s:u{n}") == partition]
    for name in names[:together]:
        users.put(name, {})
    size = pipeline.flusher._batches.size.size

    def refuse(_: str, writes: list[Write], **__: float) -> list[Outcome]:
        raise AllRefusedError([Outcome(one, Result.UNCLEAR, 1, "no") for one in writes])

    monkeypatch.setattr(pipeline.flusher._batches._sink, "write", refuse)
    with suppress(FlushInterruptedError):
        pipeline.flusher.flush(partition)

    assert (size // 2 if halved else size) == pipeline.flusher._batches.size.size


def test_attempts_are_counted_while_a_document_leaves_for_a_moment(wire):
    """What is noted of a deletion in between keeps the counts of the version that is pending, and of no other."""
    of, header = partition_keys(0), "1795667550502687D" + "0" * 32
    members = ("users/s:ada", "users/s:bob", "users/s:eve")
    wire.call("HSET", of.sent, "users/s:ada", f"{header} 1795667550502  12 7", "users/s:bob", f"{header} 5 x 3 2")
    vacating, deletion = script("record_vacating"), "1795667550502686X"
    wire.run(vacating, (of.sent,), ("users/s:ada", header, deletion))
    wire.run(vacating, (of.sent,), ("users/s:bob", "1795667550502688D", deletion))
    wire.run(vacating, (of.sent,), ("users/s:eve", header, deletion))

    ada, bob, eve = (one.decode().split(" ") for one in wire.call("HMGET", of.sent, *members))
    assert ([header, deletion, "12", "7"], ["1795667550502688D", deletion], [header, deletion]) == (
        [ada[0], *ada[2:]],
        [bob[0], *bob[2:]],
        [eve[0], *eve[2:]],
    )
