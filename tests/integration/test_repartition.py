"""Dividing Redis anew: nothing is lost, also when it is interrupted anywhere, or somebody writes all the same."""

from __future__ import annotations

import json
import threading
from dataclasses import fields
from types import SimpleNamespace

import bson
import pytest

import writebehind.operations.repartition
from tests.commits import NO_CLOCKS, commit_one
from tests.integration.conftest import again, drained_with, put
from tests.tiers import long
from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.documents.entry import Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.operations.drain import drain
from writebehind.operations.repartition import NotDrainedError, Repartitioned, repartition
from writebehind.reading.read import Source
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import PARTITIONS, PartitionKeys, partition_keys
from writebehind.redis.scripts import script
from writebehind.writing.receipts import ReceiptState
from writebehind.writing.written import Written


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Nobody else uses this Redis, so nobody has to be waited for."""
    monkeypatch.setattr("writebehind.operations.idle.SAMPLE_EVERY_S", 0.0)


@pytest.fixture
def drained(pipeline) -> Pipeline:
    """A pipeline of which nothing is pending."""
    return drained_with(pipeline, 100)


@pytest.mark.parametrize("after", [1, 3, 7])
def test_documents_are_as_before(drained, after):
    """All documents are read as before, versions go on growing, and nothing of the old division is left."""
    wire = drained.store._wire
    counted = drained.status()["totals"]
    ahead = drained.store.now_ms() * 1000 + 10**12
    wire.call("SET", partition_keys(2).clock, ahead)

    done = repartition(drained, after)

    assert (4, after) == (done.before, done.after)
    assert done.dropped == 100
    assert str(after).encode() == wire.call("GET", PARTITIONS)
    pipeline = again(drained, after)
    assert (counted, 101) == (pipeline.status()["totals"], counted["acknowledged"])
    slow = pipeline.collection("slow")
    assert [None, *({"_id": f"u{n}", "n": n} for n in range(1, 100))] == [slow.get(f"u{n}") for n in range(100)]
    assert all(slow.put(f"u{n}", {}).version > ahead for n in range(20))
    deletions = [pipeline.store.deletions.before(one, 1 << 52, limit=-1) for one in range(after)]
    assert ["slow/s:u0"] == [member for found in deletions for member in found]
    assert pipeline.store.partition_of("slow/s:u0") == next(at for at, found in enumerate(deletions) if found)
    keys = [key.decode() for key in wire.call("KEYS", "wb:{*")]
    outside = [key for key in keys if int(key[4 : key.index("}")]) >= after]
    assert [partition_keys(one).counts for one in range(after, 4)] == sorted(outside)


@pytest.mark.parametrize("after", [1, 3, 8])
def test_a_write_that_is_repeated_counts_once(drained, after):
    """Its receipt is where its document is by then; that of a document with a new id where its key is."""
    slow, names = drained.collection("slow"), [f"u{n}" for n in range(40)]

    def write(users: Collection) -> list[Written]:
        done = [users.put(name, {"n": 1}, key=name) for name in names]
        done += [users.create({"n": 2}, key=f"new {name}") for name in names]
        owned = [IdempotencyKey.of(f"of one {name}", [b"n"], "an owner") for name in names]
        return done + [users.create({"n": 2}, key=one) for one in owned]

    written = write(slow)
    drain(drained, timeout_s=30)
    repartition(drained, after)
    repeated = write(again(drained, after).collection("slow"))

    assert [(one.id, one.version) for one in written] == [(one.id, one.version) for one in repeated]
    now = again(drained, after)
    assert {ReceiptState.PERSISTED} == {now.receipt(name, collections=["slow"]).state for name in names}


def test_no_stale_copy_comes_back(drained):
    """A copy of before is not seen when the number is changed back."""
    repartition(drained, 9)
    nine = again(drained, 9)
    nine.collection("slow").put("u5", {"n": "new"})
    drain(nine, timeout_s=30)

    repartition(nine, 4)

    assert {"_id": "u5", "n": "new"} == again(drained, 4).collection("slow").get("u5")


@pytest.mark.parametrize("after", [3, 7])
def test_nothing_of_a_partition_is_forgotten(drained, after):
    """Whatever keys partitions have, those of the old division tell nobody anything in a later one."""
    wire = drained.store._wire
    carried = {"prefix", "clock", "pending", "dead", "deleted", "deleted_at", "counts"}
    carried |= {"receipts", "receipts_at", "fates"}
    of_all = [partition_keys(one) for one in range(4)]
    marked = [getattr(of, one.name) for of in of_all for one in fields(PartitionKeys) if one.name not in carried]
    for of in of_all:
        ways = (of.entry, of.load, of.alias, of.alias_load, of.alias_claims, of.claimed, of.query, of.query_load)
        marked += [way("slow/s:old") for way in ways]
    for key in marked:
        wire.call("DEL", key)
        wire.call("SET", key, "of before", "PX", 600_000)

    repartition(drained, after)

    assert [] == [key for key in marked if wire.call("EXISTS", key)]


def test_it_refuses(drained):
    """While something is pending or dead, or a worker alive, nothing is changed, and it is said what to do."""
    letter = drained.store
    drained.collection("slow").put("late", {})
    with pytest.raises(NotDrainedError, match="1 document is pending: run `writebehind drain` first"):
        repartition(drained, 8)
    drained.store.pending.bury("slow/s:late", drained.store.cache.get("slow/s:late")[0].version_digits, b"{}")
    with pytest.raises(NotDrainedError, match="1 dead letter is left: replay"):
        repartition(drained, 8)
    letter.workers.record_proof("worker@here")
    with pytest.raises(NotDrainedError, match=r"stop the workers first.*worker@here"):
        repartition(drained, 8)
    assert b"4" == drained.store._wire.call("GET", PARTITIONS)


def test_a_write_that_slips_in(drained, monkeypatch):
    """A write of a process that did not know yet stops it, and the number is as before."""

    def slip_in(_: float) -> None:
        drained.store._wire.call("ZADD", partition_keys(0).pending, 0, "slow/s:late")

    monkeypatch.setattr("writebehind.operations.idle.time", SimpleNamespace(sleep=slip_in))
    with pytest.raises(NotDrainedError, match="pending"):
        repartition(drained, 8)
    assert b"4" == drained.store._wire.call("GET", PARTITIONS)


class CrashError(Exception):
    """The process dies here."""


def crash_at(monkeypatch, pipeline: Pipeline, call: int) -> None:
    """Let this thread die instead of asking Redis once more after so many times.

    The process's other threads, such as the one that sends what is hot, ask as before: they are not counted, so
    that the place of the crash is the same in every run.
    """
    wire, asked, this = pipeline.store._wire, iter(range(call)), threading.get_ident()
    calls = wire.exchange

    def ask(commands):
        if threading.get_ident() == this and next(asked, None) is None:
            raise CrashError
        return calls(commands)

    monkeypatch.setattr(wire, "exchange", ask)


def test_it_is_interrupted(drained, monkeypatch):
    """While a change is not finished nobody reads or writes in Redis, and no other change begins."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    four, eight = again(drained, 4), again(drained, 8)
    with monkeypatch.context() as patch:
        crash_at(patch, drained, 20)
        with pytest.raises(CrashError):
            repartition(drained, 8)

    for pipeline in (four, eight):
        with pytest.raises(ConfigurationError, match="writebehind repartition 8"):
            pipeline.check()
        with pytest.raises(RedisUnavailableError, match=r"number is being changed from 4 to 8.*repartition 8`"):
            pipeline.collection("slow").put("u1", {})
        assert Source.BYPASS is pipeline.collection("slow").read("u1").source
    with pytest.raises(ConfigurationError, match=r"changed from 4 to 8.*finish it.*repartition 8`"):
        repartition(drained, 16)


@pytest.mark.parametrize("after", [2, pytest.param(6, marks=long)])
def test_it_may_die_anywhere(drained, monkeypatch, after):
    """Wherever it dies: run again, it finishes, documents are as before, and no deletion is forgotten."""
    wire = drained.store._wire
    ahead = drained.store.now_ms() * 1000 + 10**12
    for call in range(1000):
        wire.call("FLUSHALL")
        # As of an installation that is new: a Redis that has lost all may be behind its own versions in MongoDB.
        drained.sink._database["slow"].delete_many({})
        drained.check()
        put(drained, 12)
        drained.collection("slow").delete("u0")
        drain(drained, timeout_s=30)
        wire.call("SET", partition_keys(3).clock, ahead)
        try:
            with monkeypatch.context() as patch:
                crash_at(patch, drained, call)
                repartition(drained, after)
        except CrashError:
            assert after == repartition(drained, after).after
        else:
            break

        pipeline = again(drained, after)
        slow = pipeline.collection("slow")
        assert all(slow.put(f"w{n}", {}).version > ahead for n in range(12))
        deletions = pipeline.store.deletions.before(pipeline.store.partition_of("slow/s:u0"), 1 << 52, limit=-1)
        assert ["slow/s:u0"] == list(deletions)
        assert [None, *({"_id": f"u{n}", "n": n} for n in range(1, 12))] == [slow.get(f"u{n}") for n in range(12)]
    assert 20 < call < 999


@pytest.mark.parametrize("after", [2, 6])
@pytest.mark.parametrize("step", ["_carry_over", "drop_documents", "_drop_partitions"])
def test_a_write_that_comes_all_the_same(drained, monkeypatch, step, after):
    """A write by a process that was stopped by force just before stops it; drained, it is in MongoDB."""
    real = getattr(writebehind.operations.repartition, step)
    body = bson.encode({"_id": "late", "n": -1})

    def after_a_write(*arguments):
        commit_one(drained.store, CommitRequest("slow/s:late", Entry.loaded(body, 0).payload, 60_000))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"writebehind.operations.repartition.{step}", after_a_write)
        with pytest.raises(NotDrainedError, match="1 document is pending: run `writebehind drain` first"):
            repartition(drained, after)
    with pytest.raises(NotDrainedError, match="pending"):
        repartition(drained, after)
    assert f"moving:4:{after}".encode() == drained.store._wire.call("GET", PARTITIONS)

    assert 1 == drain(drained, timeout_s=30).persisted
    assert after == repartition(drained, after).after
    assert {"_id": "late", "n": -1} == again(drained, after).collection("slow").get("late")


def test_a_process_that_was_forgotten(drained, monkeypatch):
    """A web process of before reads nothing from Redis any more, so that it passes nothing stale for fresh."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    forgotten = again(drained, 4)
    assert Source.HIT is forgotten.collection("slow").read("u1").source
    repartition(drained, 9)
    nine = again(drained, 9)

    for n in range(20):
        forgotten.collection("slow").get(f"u{n}")
        nine.collection("slow").put(f"u{n}", {"n": "new"})
        assert Source.BYPASS is forgotten.collection("slow").read(f"u{n}").source
        assert forgotten.collection("slow").read_many([f"u{n}"])[1]
    assert [] == drained.store._wire.call("KEYS", "wb:{*}:load:*")


def test_two_at_once(drained, monkeypatch):
    """Somebody else who changes the number at the same time is noticed, and nothing is moved."""

    def meanwhile(_: float) -> None:
        drained.store._wire.call("SET", PARTITIONS, "moving:4:5")

    monkeypatch.setattr("writebehind.operations.idle.time", SimpleNamespace(sleep=meanwhile))
    with pytest.raises(ConfigurationError, match="somebody else is changing"):
        repartition(drained, 8)
    assert b"moving:4:5" == drained.store._wire.call("GET", PARTITIONS)


def test_what_stands_where_nobody_looks(drained):
    """What a process with another number of partitions left beyond them has to be drained first."""
    drained.store.assigned.record(9)  # on servers with names: Redis was once divided into so many
    again(drained, 9).store._wire.call("ZADD", partition_keys(7).pending, 0, "slow/s:late")
    with pytest.raises(NotDrainedError, match="in partition 7, although Redis has 4 partitions only"):
        repartition(drained, 8)


def test_a_redis_that_nobody_has_used(drained):
    """The number is recorded, so that a process with another one does not start."""
    drained.store._wire.call("FLUSHALL")
    assert Repartitioned(8, 8, 0) == repartition(drained, 8)
    with pytest.raises(ConfigurationError, match="WRITEBEHIND_PARTITIONS=8"):
        drained.check()


def test_the_same_number(drained):
    """Nothing is done, and no cached document dropped, where nothing is to be changed."""
    assert Repartitioned(4, 4, 0) == repartition(drained, 4)
    assert drained.store.cache.get("slow/s:u1")[0].exists


def test_the_repartition_command(run, drained, monkeypatch):
    """The command says what became of the number, and what to set."""
    monkeypatch.setenv("WRITEBEHIND_REDIS_TIMEOUT_MS", "200")
    monkeypatch.setenv("WRITEBEHIND_CONFIRM_TIMEOUT_MS", "100")
    ended = run("repartition", "6")
    assert (0, True) == (ended.exit_code, "4 partitions became 6: set WRITEBEHIND_PARTITIONS=6" in ended.stdout)
    assert "Redis has 6 partitions already" in run("repartition", "6").stdout
    assert {"before": 6, "after": 5, "dropped": 0} == json.loads(run("repartition", "5", "--json").stdout)


# The atomic steps, on each kind of Redis --------------------------------------------------------------


def test_the_record_is_changed_by_one(wire):
    """Only who has seen the record as it is changes it."""
    wire.call("SET", PARTITIONS, "4")
    assert [0, 1, 0] == [
        wire.run(script("change_record"), (PARTITIONS,), (seen, "moving:4:5")) for seen in ("", "4", "4")
    ]
    assert b"moving:4:5" == wire.call("GET", PARTITIONS)


def test_what_is_carried_over(wire):
    """A clock steps forward only, and a deletion stays the latest that is known."""
    carry, of = script("carry_over"), partition_keys(0)
    keys = (of.clock, of.deleted, of.deleted_at)
    wire.run(carry, keys, (2_000_000_000_000_000, "users/s:a", 7, "users/s:b", 8))
    wire.run(carry, keys, (1_000_000_000_000_000, "users/s:a", 9, "users/s:b", 3))
    assert b"2000000000000000" == wire.call("GET", of.clock)
    assert [b"users/s:b", b"8", b"users/s:a", b"9"] == wire.call("ZRANGE", of.deleted, 0, -1, "WITHSCORES")
    assert 2 == wire.call("ZCARD", of.deleted_at)


@pytest.mark.parametrize("clock", NO_CLOCKS)
def test_a_clock_that_nobody_has_written_is_not_carried_on(wire, clock):
    """The last version that another division has issued takes its place."""
    of = partition_keys(0)
    wire.call("SET", of.clock, clock)
    wire.run(script("carry_over"), (of.clock, of.deleted, of.deleted_at), (1_000_000_000_000_000,))
    assert b"1000000000000000" == wire.call("GET", of.clock)


def test_only_what_expires_is_forgotten(wire):
    """What has no TTL, as it is pending or dead, is never deleted."""
    wire.call("SET", "clean", 1, "PX", 60_000)
    wire.call("SET", "pending", 1)
    assert [1, 0, 0] == wire.run_many(
        script("drop_expiring"), [((key,), ()) for key in ("clean", "pending", "gone")]
    )
    assert [0, 1] == [wire.call("EXISTS", key) for key in ("clean", "pending")]


@pytest.mark.parametrize(
    "command",
    [("reconcile",), ("reconcile", "--all"), ("warm",), ("status",), ("hot-keys",), ("dead-letters", "list")],
)
def test_commands_that_would_look_elsewhere(pipeline, run, monkeypatch, command):
    """A command with another number of partitions would find nothing where it looks, and does not start."""
    pipeline.check()
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", "5")
    with pytest.raises(ConfigurationError, match="in 4 partitions, not in 5: set WRITEBEHIND_PARTITIONS=4"):
        run(*command)


def test_what_is_no_number_of_partitions(pipeline, caplog):
    """Other hands put something else in its place: it is told, the first start records its own number again."""
    pipeline.store._wire.call("SET", PARTITIONS, "many")

    pipeline.check()

    assert pipeline.settings.partitions == pipeline.store.division.recorded().partitions
    assert "other hands put b'many'" in caplog.text
