"""Draining, and dividing Redis anew."""

from __future__ import annotations

import json
import threading
import time

import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.cli import cli
from writebehind.drain import drain
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.keys import PARTITIONS, partition_keys
from writebehind.repartition import NotDrainedError, Repartitioned, repartition


@pytest.fixture
def run(settings, monkeypatch):
    """The command line on the servers of this test."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: str):
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    return invoke


def stored(pipeline: Pipeline, collection: str = "slow") -> dict[str, int]:
    return {one["_id"]: one["n"] for one in pipeline.sink._database[collection].find()}


def put(pipeline: Pipeline, count: int, n: int = 0) -> dict[str, int]:
    for at in range(count):
        pipeline.collection("slow").put(f"u{at}", {"n": n + at})
    return {f"u{at}": n + at for at in range(count)}


def test_everything_is_flushed_now(pipeline):
    """What is not due for a minute is in MongoDB at once, and progress is told."""
    expected = put(pipeline, 300)
    seen: list[int] = []

    drained = drain(pipeline, timeout_s=30, report=seen.append)

    assert (300, 0, 0, "") == (drained.persisted, drained.pending, drained.dead_letters, drained.error)
    assert expected == stored(pipeline)
    assert (300, 0) == (seen[0], seen[-1])


def test_while_others_write(pipeline):
    """Documents that are written again and again meanwhile are drained too, once the writers pause."""
    over = threading.Event()

    def write() -> None:
        for n in range(100_000):
            put(pipeline, 20, n)
            if over.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: pipeline.status()["pending"] == 20, "the writer to begin")
    timer = threading.Timer(0.5, over.set)
    timer.start()
    drained = drain(pipeline, timeout_s=30)
    writer.join()
    drained = drain(pipeline, timeout_s=30) if pipeline.status()["pending"] else drained

    assert 0 == drained.pending
    assert {one: pipeline.collection("slow").get(one)["n"] for one in stored(pipeline)} == stored(pipeline)


def test_another_flusher_is_waited_for(pipeline):
    """A partition that a flusher owns is drained when its lease is over."""
    expected = put(pipeline, 50)
    for partition in range(4):
        pipeline.store.claim(partition, "other", lease_ms=700, limit=0)

    assert 0 == drain(pipeline, timeout_s=30).pending
    assert expected == stored(pipeline)


def test_the_time_is_over(pipeline):
    """What another flusher owns for longer than the limit is left, and said to be."""
    put(pipeline, 50)
    for partition in range(4):
        pipeline.store.claim(partition, "other", lease_ms=60_000, limit=0)
    began = time.monotonic()

    drained = drain(pipeline, timeout_s=0.5)

    assert (0, 50) == (drained.persisted, drained.pending)
    assert time.monotonic() - began < 10


def test_the_command(run, pipeline):
    """The command says what it did, as JSON too."""
    put(pipeline, 10)
    ended = run("drain", "--json")
    assert (0, 10, 0) == (ended.exit_code, (said := json.loads(ended.stdout))["persisted"], said["pending"])
    assert "0 persisted" in run("drain").stdout


def test_mongodb_is_away(run, pipeline, monkeypatch):
    """Without MongoDB the command ends in time, with 1 and the reason, and nothing is lost."""
    put(pipeline, 10)
    monkeypatch.setenv("MONGODB_URL", "mongodb://127.0.0.1:1/")
    monkeypatch.setenv("WRITEBEHIND_MONGODB_TIMEOUT_MS", "200")

    ended = run("drain", "--timeout", "1")

    assert 1 == ended.exit_code
    assert "10 documents are still pending after 1 s" in ended.stderr
    assert "127.0.0.1:1" in ended.stderr
    assert 10 == pipeline.status()["pending"]


# Repartitioning ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Nobody else uses this Redis, so nobody has to be waited for."""
    monkeypatch.setattr("writebehind.repartition.SAMPLE_EVERY_S", 0.0)


@pytest.fixture
def drained(pipeline, settings) -> Pipeline:
    """A pipeline with documents and a deletion, of which nothing is pending; nobody waits for its time-out."""
    pipeline.settings = settings.model_copy(update={"redis_timeout_ms": 1})
    pipeline.check()
    put(pipeline, 100)
    pipeline.collection("slow").delete("u0")
    drain(pipeline, timeout_s=30)
    return pipeline


def again(pipeline: Pipeline, partitions: int) -> Pipeline:
    settings = pipeline.settings.model_copy(update={"partitions": partitions})
    return Pipeline(settings, wire=pipeline.store.wire, client=pipeline._client)


@pytest.mark.parametrize("after", [1, 3, 7])
def test_documents_are_as_before(drained, after):
    """All documents are read as before, versions go on growing, and nothing of the old division is left."""
    wire = drained.store.wire
    ahead = drained.store.now_ms() * 1000 + 10**12
    wire.call("SET", partition_keys(2).clock, ahead)

    done = repartition(drained, after)

    assert (4, after) == (done.before, done.after)
    assert done.dropped == 100
    assert str(after).encode() == wire.call("GET", PARTITIONS)
    pipeline = again(drained, after)
    slow = pipeline.collection("slow")
    assert [None, *({"_id": f"u{n}", "n": n} for n in range(1, 100))] == [slow.get(f"u{n}") for n in range(100)]
    assert all(slow.put(f"u{n}", {}).version > ahead for n in range(20))
    deletions = [pipeline.store.deletions(one, before_ms=1 << 52, limit=-1) for one in range(after)]
    assert ["slow/s:u0"] == [member for found in deletions for member in found]
    assert pipeline.store.partition_of("slow/s:u0") == next(at for at, found in enumerate(deletions) if found)
    keys = [key.decode() for key in wire.call("KEYS", "wb:{*")]
    assert [] == [key for key in keys if int(key[4 : key.index("}")]) >= after]


def test_no_stale_copy_comes_back(drained):
    """A copy of before is not seen when the number is changed back."""
    repartition(drained, 9)
    nine = again(drained, 9)
    nine.collection("slow").put("u5", {"n": "new"})
    drain(nine, timeout_s=30)

    repartition(nine, 4)

    assert {"_id": "u5", "n": "new"} == again(drained, 4).collection("slow").get("u5")


def test_it_refuses(drained):
    """While something is pending or dead, or a worker alive, nothing is changed, and it is said what to do."""
    letter = drained.store
    drained.collection("slow").put("late", {})
    with pytest.raises(NotDrainedError, match="1 documents are pending: run `writebehind drain` first"):
        repartition(drained, 8)
    drained.store.bury("slow/s:late", drained.store.get("slow/s:late")[0].version_digits, b"{}")
    with pytest.raises(NotDrainedError, match="1 dead letters: replay"):
        repartition(drained, 8)
    letter.worker_alive("worker@here")
    with pytest.raises(NotDrainedError, match=r"stop the workers first.*worker@here"):
        repartition(drained, 8)
    assert b"4" == drained.store.wire.call("GET", PARTITIONS)


def test_a_write_that_slips_in(drained, monkeypatch):
    """A write of a process that did not know yet stops it, and the number is as before."""

    def slip_in(_: float) -> None:
        drained.store.wire.call("ZADD", partition_keys(0).pending, 0, "slow/s:late")

    monkeypatch.setattr("writebehind.repartition.time.sleep", slip_in)
    with pytest.raises(NotDrainedError, match="pending"):
        repartition(drained, 8)
    assert b"4" == drained.store.wire.call("GET", PARTITIONS)


@pytest.mark.parametrize("step", ["_carry_over", "_drop_clean", "_drop_keys_of_partitions"])
def test_it_is_interrupted(drained, monkeypatch, step):
    """After a crash at any step no process takes writes, and running it again finishes it."""

    class CrashError(Exception):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(f"writebehind.repartition.{step}", crash)
        with pytest.raises(CrashError):
            repartition(drained, 8)
    for partitions in (4, 8):
        with pytest.raises(ConfigurationError, match="writebehind repartition 8"):
            again(drained, partitions).check()
        with pytest.raises(RedisUnavailableError, match="number of partitions"):
            again(drained, partitions).collection("slow").put("u1", {})
    with pytest.raises(ConfigurationError, match="from 4 to 8 partitions was interrupted"):
        repartition(drained, 16)

    assert 8 == repartition(drained, 8).after
    slow = again(drained, 8).collection("slow")
    assert [None, {"_id": "u1", "n": 1}] == [slow.get("u0"), slow.get("u1")]


def test_the_same_number(drained):
    """Nothing is done, and no cached document dropped, where nothing is to be changed."""
    assert Repartitioned(4, 4, 0) == repartition(drained, 4)
    assert drained.store.get("slow/s:u1")[0].exists


def test_the_repartition_command(run, drained, monkeypatch):
    """The command says what became of the number, and what to set."""
    monkeypatch.setenv("WRITEBEHIND_REDIS_TIMEOUT_MS", "1600")
    ended = run("repartition", "6")
    assert (0, True) == (ended.exit_code, "4 partitions became 6: set WRITEBEHIND_PARTITIONS=6" in ended.stdout)
    assert "there are 6 partitions already" in run("repartition", "6").stdout
    assert {"before": 6, "after": 5, "dropped": 0} == json.loads(run("repartition", "5", "--json").stdout)
