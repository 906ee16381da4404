"""A Redis that is given to another MongoDB database on purpose."""

from __future__ import annotations

import threading

import pytest
from pymongo import MongoClient

from tests.commits import commit_one
from tests.integration.conftest import drained_with, stored
from tests.integration.owner.conftest import of, recorded
from writebehind import Pipeline
from writebehind.documents.entry import Entry
from writebehind.errors import (
    ConfigurationError,
    ForeignDatabaseError,
    RedisUnavailableError,
)
from writebehind.operations.adopt import Adopted, adopt
from writebehind.operations.drain import drain
from writebehind.operations.idle import NotDrainedError
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import DATABASE, LISTENER, partition_keys
from writebehind.redis.shared.owner import Owner


@pytest.fixture
def drained(pipeline) -> Pipeline:
    """A pipeline of which nothing is pending."""
    return drained_with(pipeline, 10)


@pytest.fixture
def renamed(drained, mongo_client: MongoClient) -> Pipeline:
    """The same documents in a database of another name, and a process of it."""
    names = drained.settings.mongodb_database, f"{drained.settings.mongodb_database}_b"
    mongo_client[names[1]]["slow"].insert_many(list(mongo_client[names[0]]["slow"].find()))
    return of(drained, names[1])


def test_a_database_that_was_renamed(drained, renamed):
    """Documents are read as before, versions go on growing, the cache is dropped, and the listener begins anew."""
    wire = drained.store._wire
    ahead = drained.store.now_ms() * 1000 + 10**12
    wire.call("SET", partition_keys(2).clock, ahead)
    drained.collection("slow").get("u1")
    wire.call("SET", LISTENER, "{}")

    done = adopt(renamed)

    before, after = drained.settings.mongodb_database, renamed.settings.mongodb_database
    assert Adopted(before, after, dropped=10) == done
    renamed.check()
    slow = renamed.collection("slow")
    assert [None, *({"_id": f"u{n}", "n": n} for n in range(1, 10))] == [slow.get(f"u{n}") for n in range(10)]
    at = next(n for n in range(99) if drained.store.partition_of(f"slow/s:u{n}") == 2)
    assert slow.put(f"u{at}", {}).version > ahead
    assert not wire.call("EXISTS", LISTENER)
    assert all(not renamed.store.deletions.before(one, 1 << 52, limit=-1) for one in range(4))
    with pytest.raises(ForeignDatabaseError):
        drained.check()


def test_it_refuses(drained, renamed):
    """While something is pending or dead, or a worker alive, nothing is changed, and it is said what to do."""
    drained.collection("slow").put("late", {})
    with pytest.raises(NotDrainedError, match="1 document is pending: run `writebehind drain` first"):
        adopt(renamed)
    drained.store.pending.bury("slow/s:late", drained.store.cache.get("slow/s:late")[0].version_digits, b"{}")
    with pytest.raises(NotDrainedError, match="1 dead letter is left: replay"):
        adopt(renamed)
    drained.store.workers.record_proof("worker@here")
    for force in (False, True):
        with pytest.raises(NotDrainedError, match=r"stop the workers first.*worker@here"):
            adopt(renamed, force=force)
    drained.check()


def test_by_force(drained, renamed):
    """What is pending or dead goes to the new database, and it is said how much that is."""
    drained.collection("slow").put("late", {"n": 1})
    drained.collection("slow").put("dead", {"n": 2})
    drained.store.pending.bury("slow/s:dead", drained.store.cache.get("slow/s:dead")[0].version_digits, b"{}")

    done = adopt(renamed, force=True)

    assert (1, 1) == (done.pending, done.dead_letters)
    assert {"_id": "late", "n": 1} == renamed.collection("slow").get("late")
    drain(renamed, timeout_s=30)
    assert 1 == stored(renamed)["late"]
    assert "late" not in stored(drained)
    assert 1 == renamed.status()["dead_letters"]


def test_a_write_that_slips_in(drained, renamed, monkeypatch):
    """A write of a process that did not know yet stops it, and the record is as before."""

    def slip_in(_: Pipeline) -> None:
        commit_one(drained.store, CommitRequest("slow/s:late", Entry.loaded(b"late", 0).payload, 60_000))

    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", slip_in)
    with pytest.raises(NotDrainedError, match="pending"):
        adopt(renamed)
    drained.check()
    assert 1 == drained.status()["pending"]


def test_nobody_writes_meanwhile(drained, renamed, monkeypatch):
    """Neither a process of the old database nor one of the new one, until it is done."""
    refused = []

    def meanwhile(_: Pipeline) -> None:
        for pipeline in (drained, renamed):
            with pytest.raises(RedisUnavailableError, match="is being moved from database") as told:
                pipeline.collection("slow").put("u1", {})
            refused.append(told.value)

    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", meanwhile)
    adopt(renamed)
    assert 2 == len(refused)


def test_two_at_once(drained, renamed, monkeypatch):
    """Somebody else who moves it at the same time is noticed, and nothing is dropped."""

    def meanwhile(_: Pipeline) -> None:
        drained.store._wire.call("SET", DATABASE, Owner("a", "b").record)

    drained.collection("slow").get("u1")
    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", meanwhile)
    with pytest.raises(ConfigurationError, match="somebody else moves this Redis"):
        adopt(renamed)
    assert Owner("a", "b").record == recorded(drained)


class CrashError(Exception):
    """The process dies here."""


def crash_at(monkeypatch, pipeline: Pipeline, call: int) -> None:
    """Let this thread die instead of asking Redis once more after so many times."""
    wire, asked, this = pipeline.store._wire, iter(range(call)), threading.get_ident()
    exchange = wire.exchange

    def ask(commands):
        if threading.get_ident() == this and next(asked, None) is None:
            raise CrashError
        return exchange(commands)

    monkeypatch.setattr(wire, "exchange", ask)


@pytest.mark.parametrize("undo", [False, True])
def test_it_may_die_anywhere(drained, renamed, monkeypatch, undo):
    """Wherever it dies: run again with either name, Redis belongs to that database, and to nobody else."""
    ours, others = (drained, renamed) if undo else (renamed, drained)
    for call in range(1000):
        drained.store._wire.call("SET", DATABASE, Owner(drained.settings.mongodb_database).record)
        try:
            with monkeypatch.context() as patch:
                crash_at(patch, renamed, call)
                adopt(renamed)
        except CrashError:
            adopt(ours)
        else:
            break
        ours.check()
        with pytest.raises(ForeignDatabaseError):
            others.check()
        assert {"_id": "u1", "n": 1} == ours.collection("slow").get("u1")
    assert 10 < call < 999


def test_a_redis_that_nobody_has_used(drained, renamed):
    """The database is recorded, so that a process of another one does not start."""
    drained.store._wire.call("FLUSHALL")
    name = renamed.settings.mongodb_database
    assert Adopted(name, name) == adopt(renamed)
    with pytest.raises(ForeignDatabaseError):
        drained.check()


def test_the_adopt_command(run, drained, monkeypatch):
    """The command says whose Redis it was and is; by force also what goes along."""
    monkeypatch.setenv("WRITEBEHIND_REDIS_TIMEOUT_MS", "200")
    monkeypatch.setenv("WRITEBEHIND_CONFIRM_TIMEOUT_MS", "100")
    before = drained.settings.mongodb_database
    assert f"belongs to database {before!r} already" in run("adopt").stdout

    monkeypatch.setenv("MONGODB_DATABASE", "b")
    assert f"this Redis belonged to database {before!r}, and belongs to 'b' now\n" == run("adopt").stdout

    of(drained, "b").collection("slow").put("late", {})
    monkeypatch.setenv("MONGODB_DATABASE", "c")
    with pytest.raises(NotDrainedError):
        run("adopt")
    told = run("adopt", "--force")
    assert "1 pending document and 0 dead letters of 'b' are in Redis, and go to 'c'" in told.stderr
