"""Draining: everything that is pending is in MongoDB now."""

from __future__ import annotations

import json
import threading
import time

import pytest
from pymongo import MongoClient

from tests.integration.conftest import again, put, stored
from tests.waiting import slowness, wait_until
from writebehind import Pipeline
from writebehind.errors import ConfigurationError
from writebehind.operations.drain import Progress, drain
from writebehind.redis.keys import PARTITIONS


def test_everything_is_flushed_now(pipeline):
    """What is not due for a minute is in MongoDB at once, and progress is told."""
    expected = put(pipeline, 300)
    seen: list[int] = []

    drained = drain(pipeline, timeout_s=30, report=lambda now: seen.append(now.pending))

    assert (300, 0, 0, "") == (drained.persisted, drained.pending, drained.dead_letters, drained.reason)
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
        pipeline.store.pending.claim(partition, "other", lease_ms=700, limit=0)

    assert 0 == drain(pipeline, timeout_s=30).pending
    assert expected == stored(pipeline)


def test_the_time_is_over(pipeline):
    """What another flusher owns for longer than the limit is left, and said to be."""
    put(pipeline, 50)
    for partition in range(4):
        pipeline.store.pending.claim(partition, "other", lease_ms=60_000, limit=0)
    began = time.monotonic()

    drained = drain(pipeline, timeout_s=0.5)

    assert (0, 50) == (drained.persisted, drained.pending)
    assert "4 partitions are being flushed by others" == drained.reason
    assert time.monotonic() - began < 10 * slowness()


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


def test_mongodb_comes_back(settings, valkey_wire, mongo, way_to):
    """While MongoDB hangs it is said why nothing is persisted, and once it answers everything is."""
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=300, socketTimeoutMS=300) as client,
    ):
        changed = settings.model_copy(update={"mongodb_timeout_ms": 300})
        pipeline = Pipeline(changed, wire=valkey_wire, client=client)
        expected = put(pipeline, 50)
        way.proxy.hang()
        reasons: list[str] = []

        def report(now: Progress) -> None:
            if now.reason:
                reasons.append(now.reason)
                way.proxy.flow()

        drained = drain(pipeline, timeout_s=60, report=report)

        assert (50, 0, "") == (drained.persisted, drained.pending, drained.reason)
        assert "MongoDB" in reasons[0]
        assert expected == stored(pipeline)


def test_all_that_redis_holds(run, pipeline, monkeypatch):
    """The command drains as Redis is divided, whatever the settings say; a pipeline of another number refuses."""
    pipeline.check()
    expected = put(pipeline, 50)
    with pytest.raises(ConfigurationError, match="in 4 partitions, not in 2"):
        drain(again(pipeline, 2), timeout_s=5)
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", "2")

    ended = run("drain", "--json")

    assert (0, 50, 0) == (ended.exit_code, (said := json.loads(ended.stdout))["persisted"], said["pending"])
    assert expected == stored(pipeline)


def test_what_stands_where_nobody_looks(pipeline):
    """What a process with another number of partitions left beyond them is drained too."""
    expected = put(again(pipeline, 9), 50)
    pipeline.store._wire.call("DEL", PARTITIONS)  # as one that was stopped by force, and went on later, leaves it
    pipeline.check()

    drained = drain(pipeline, timeout_s=30)

    assert (50, 0) == (drained.persisted, drained.pending)
    assert expected == stored(pipeline)


def test_dead_letters_are_told(run, pipeline):
    """What MongoDB refuses keeps nobody waiting, and is said."""
    put(pipeline, 1)
    version = pipeline.store.cache.get("slow/s:u0")[0].version_digits
    pipeline.store.pending.bury("slow/s:u0", version, b"{}")
    ended = run("drain")
    assert (0, True) == (ended.exit_code, "1 dead letter, which no draining helps" in ended.stdout)
