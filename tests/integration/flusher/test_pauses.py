"""Flushing is paused: nothing goes to MongoDB, nothing is lost by it, and it goes on when that is over."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.integration.flusher.conftest import PARTITION, commit, names
from tests.waiting import wait_until
from writebehind import Durability, Pipeline
from writebehind.errors import ConfigurationError, InvalidArgumentError, UnknownCollectionError
from writebehind.operations.drain import drain
from writebehind.operations.pausing import pause, resume
from writebehind.redis.keys import PAUSED, partition_keys
from writebehind.redis.shared import pauses
from writebehind.redis.shared.pauses import ALL, Paused


@pytest.fixture(autouse=True)
def known_at_once(monkeypatch):
    """Each look at pauses asks Redis."""
    monkeypatch.setattr(pauses, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def of_partition(valkey_wire):
    """Scores of what is pending in the partition, by member."""

    def look() -> dict[str, float]:
        flat = valkey_wire.call("ZRANGE", partition_keys(PARTITION).pending, 0, -1, "WITHSCORES")
        return {name.decode(): float(score) for name, score in zip(flat[::2], flat[1::2], strict=True)}

    return look


def in_order(pipeline: Pipeline) -> list[str] | None:
    """Members that a flusher is given that knows of the pauses, and gives them back."""
    paused = pipeline.store.pauses.look()
    members = pipeline.store.pending.claim(PARTITION, "x", lease_ms=9_000, limit=100, paused=paused.collections)
    pipeline.store.pending.release(PARTITION, "x")
    return members


def put_both(pipeline: Pipeline, count: int) -> None:
    """Documents of `slow`, and then of `users`, which are due at once."""
    for collection in ("slow", "users"):
        for name in names(pipeline, count, collection):
            pipeline.collection(collection).put(name, {"n": 1})


def test_everything(pipeline, flusher, users, of_partition, hints):
    """Nothing is claimed, no member is touched, and no write asks for a flush; resumed, it all goes."""
    for name in names(pipeline, 5):
        commit(pipeline, name, n=1)
    before = of_partition()
    pause(pipeline)
    hints.clear()

    assert 0 == flusher.flush(PARTITION).tried
    assert (before, 0) == (of_partition(), users.count_documents({}))
    (hint,) = hints
    assert 4_000 < hint.delay_ms <= 5_000
    commit(pipeline, names(pipeline, 6)[-1], n=1)
    assert [hint] == [*hints]

    done = resume(pipeline)
    assert ([ALL], False) == ([one.collection for one in done.ended], bool(done.paused))
    assert [0] == [one.delay_ms for one in hints if one.partition == PARTITION][1:]
    flusher.flush(PARTITION)
    assert 6 == users.count_documents({})


def test_a_pause_that_is_lost_with_what_waited_is_told_as_such(pipeline, flusher, valkey_wire, caplog):
    """A flusher cannot tell it from one that was ended, and says so."""
    commit(pipeline, names(pipeline, 1)[0], n=1)
    pause(pipeline)
    flusher.flush(PARTITION)
    valkey_wire.call("FLUSHALL")
    flusher.flush(PARTITION)
    (line,) = (one.message for one in caplog.records if "flushing goes on" in one.message)
    assert "Redis has lost its data" in line
    assert "nothing is to be done" not in line


@pytest.mark.parametrize("collection", [None, "users"])
def test_the_end_is_known_at_once(pipeline, flusher, users, settings, monkeypatch, collection):
    """A flush that the end of a pause asks for knows of the end, however short ago its worker saw the pause."""
    commit(pipeline, names(pipeline, 1)[0], n=1)
    with Pipeline(settings) as operator:
        pause(operator, collection)
        assert 0 == flusher.flush(PARTITION).tried
        monkeypatch.setattr(pauses, "LOOK_EVERY_S", 3_600.0)
        resume(operator)
    flusher.flush(PARTITION)
    assert 1 == users.count_documents({})


@pytest.mark.parametrize(("age_s", "waits"), [(1.1, False), (1.9, True)])
def test_nobody_goes_by_what_is_too_old_while_another_thread_asks(pipeline, monkeypatch, age_s, waits):
    """Redis may take its time to answer that one, and a pause is known to all threads within two seconds."""
    monkeypatch.setattr(pauses, "LOOK_EVERY_S", 1.0)
    known = pipeline.store.pauses
    pause(pipeline)
    with ThreadPoolExecutor(1) as threads:
        with known._lock:  # another thread asks
            known._seen = time.monotonic() - age_s, Paused()
            looked = threads.submit(known.look)
            assert waits == bool(wait([looked], 0.3).not_done)
        assert waits == bool(looked.result(10))


def test_a_collection_does_not_hold_up_others(pipeline, flusher, users, of_partition, settings, mongo_client):
    """What waits before them is set aside: pending as it was, as old as it is, and not tried."""
    slow = mongo_client[settings.mongodb_database]["slow"]
    for name in names(pipeline, 250, "slow"):
        pipeline.collection("slow").put(name, {"n": 1})
    drain_early = of_partition()
    wanted = {one: score - 100_000 for one, score in drain_early.items()}
    pipeline.store._wire.call(
        "ZADD", partition_keys(PARTITION).pending, *(p for m, s in wanted.items() for p in (s, m))
    )
    commit(pipeline, names(pipeline, 1)[0], n=1)
    oldest_s = pipeline.status()["oldest_pending_seconds"]
    pause(pipeline, "slow")

    assert 1 == flusher.flush(PARTITION).persisted
    assert (1, 0) == (users.count_documents({}), slow.count_documents({}))
    assert not pipeline.store._wire.call("HLEN", partition_keys(PARTITION).sent)
    status = pipeline.status()
    assert (250, True) == (status["pending"], status["oldest_pending_seconds"] >= oldest_s)
    assert (0.0, None) == (status["overdue_seconds"], status["seconds_until_safe"])
    assert status["not_safe_because"].startswith("paused: flushing of slow is paused until it is resumed")
    commit(pipeline, names(pipeline, 2)[-1], n=1)
    assert 1 == flusher.flush(PARTITION).persisted

    again = names(pipeline, 1, "slow")[0]
    pipeline.collection("slow").put(again, {"n": 2})
    assert {"n": 2} == {k: v for k, v in pipeline.collection("slow").get(again).items() if k == "n"}
    resume(pipeline, "slow")
    assert 250 == flusher.flush(PARTITION).persisted
    assert (250, {}) == (slow.count_documents({}), of_partition())


def test_order_after_a_pause(pipeline):
    """The longest waiting first, as if there had been no pause; those that are paused still stay."""
    put_both(pipeline, 3)
    pipeline.collection("slow")
    members = [f"users/s:{one}" for one in names(pipeline, 3)]
    pipeline.store._wire.call(
        "ZADD", partition_keys(PARTITION).pending, *(p for at, m in enumerate(members) for p in (at + 1_000, m))
    )
    pause(pipeline, "users")
    pause(pipeline, "slow")
    assert [] == in_order(pipeline)
    resume(pipeline, "slow")
    assert not [one for one in in_order(pipeline) or () if one.startswith("users/")]
    resume(pipeline)
    assert members == (in_order(pipeline) or [])[:3]


def test_it_ends_by_itself(pipeline, flusher, users, hints):
    """After the time that was given: the task that waits for it comes then, and nobody needs to resume."""
    commit(pipeline, names(pipeline, 1)[0], n=1)
    pause(pipeline, for_s=1)
    hints.clear()
    flusher.flush(PARTITION)
    assert hints[0].delay_ms <= 1_000
    wait_until(lambda: not pipeline.store.pauses.recorded(), "the end of the pause")
    assert 1 == flusher.flush(PARTITION, ticket=hints[0].ticket).persisted
    assert 1 == users.count_documents({})


def test_set_aside_until_the_time_is_over(pipeline, flusher, users, hints):
    """The same of a collection, and a lost task is found by the sweep."""
    commit(pipeline, names(pipeline, 1)[0], n=1)
    pause(pipeline, "users", for_s=1)
    hints.clear()
    assert 0 == flusher.flush(PARTITION).persisted
    assert hints[0].delay_ms <= 1_000
    wait_until(lambda: not pipeline.store.pauses.recorded(), "the end of the pause")
    pipeline.store._wire.call("DEL", partition_keys(PARTITION).scheduled)
    count, hint = pipeline.store.pending.sweep(PARTITION, overdue_ms=0)
    assert 1 == count
    assert hint is not None
    assert 1 == flusher.flush(PARTITION, ticket=hint.ticket).persisted
    assert 1 == users.count_documents({})


@pytest.mark.parametrize("collection", [None, "users"])
def test_who_waits_for_mongodb_is_answered(pipeline, collection):
    """As while the breaker is open: the write is acknowledged, and said to be less than persisted."""
    pause(pipeline, collection)
    written = pipeline.collection("users").put("ada", {"n": 1}, durability="persisted")
    assert Durability.BUFFERED == written.durability
    resume(pipeline)
    written = pipeline.collection("users").put("ada", {"n": 2}, durability="persisted")
    assert Durability.PERSISTED == written.durability


def test_draining_is_refused(pipeline):
    """In one sentence, as long as anything is pending."""
    pause(pipeline)
    assert 0 == drain(pipeline, timeout_s=5).pending
    commit(pipeline, names(pipeline, 1)[0], n=1)
    with pytest.raises(
        ConfigurationError, match="all collections is paused until it is resumed: nothing is drained"
    ):
        drain(pipeline, timeout_s=5)
    resume(pipeline)
    assert 1 == drain(pipeline, timeout_s=30).persisted


def test_twice_and_not_at_all(pipeline):
    """A second pause gives the first one another end; what is not paused is not resumed."""
    assert not resume(pipeline).ended
    (first,) = pause(pipeline)
    (second,) = pause(pipeline, for_s=60)
    assert (first.since_ms, None) == (second.since_ms, first.left_ms)
    assert 50_000 < second.left_ms <= 60_000
    assert not resume(pipeline, "users").ended
    pause(pipeline, "users")
    assert [ALL, "users"] == [one.collection for one in resume(pipeline).ended]
    with pytest.raises(UnknownCollectionError):
        pause(pipeline, "no name")
    for wrong in (0.5, float("nan"), 31 * 86_400):
        with pytest.raises(InvalidArgumentError):
            pause(pipeline, for_s=wrong)


def test_other_hands(pipeline, valkey_wire, caplog):
    """A note that makes no sense pauses nothing."""
    valkey_wire.call("HSET", PAUSED, ALL, "until tomorrow")
    assert not pipeline.store.pauses.look()
    assert "other hands" in caplog.text
    pause(pipeline, "users")
    assert ["users"] == [one.collection for one in pipeline.store.pauses.look()]


def test_deletions_are_not_audited(pipeline):
    """That would write to MongoDB."""
    pause(pipeline)
    assert {} == pipeline.maintenance.audit_deletions()


def test_the_commands(run, pipeline):
    """Each says what is paused then."""
    assert "nothing was paused" in run("resume").stderr
    assert (
        "flushing of users is paused for 1800 s more\n"
        == run("pause", "--collection", "users", "--for", "30m").stdout
    )
    paused = json.loads(run("pause", "--json").stdout)["paused"]
    assert [None, "users"] == [one["collection"] for one in paused]
    assert "flushing of all collections is paused" in run("status").stdout
    assert "paused" in [json.loads(line)["check"] for line in run("doctor", "--json").stdout.splitlines()]
    done = json.loads(run("resume", "--collection", "users", "--json").stdout)
    assert (["users"], [None]) == tuple([one["collection"] for one in done[it]] for it in ("resumed", "paused"))
    assert "flushing of all collections goes on\n" == run("resume").stdout
    assert [] == json.loads(run("status", "--json").stdout)["paused"]
