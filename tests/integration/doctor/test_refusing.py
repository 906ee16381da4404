"""A Redis that answers and takes no writes, as its disk is full: what is only there is still counted."""

from __future__ import annotations

import pytest

from writebehind.errors import RedisNotReadyError
from writebehind.operations.drain import drain
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script


@pytest.fixture
def refusing(patient):
    """A pipeline with two documents pending, whose Redis takes no writes from now on."""
    for name in ("ada", "bob"):
        patient.collection("slow").put(name, {"n": 1})
    patient.store._wire.call("CONFIG", "SET", "min-replicas-to-write", 1)
    yield patient
    patient.store._wire.call("CONFIG", "SET", "min-replicas-to-write", 0)


def test_nothing_pending_is_left_out(refusing):
    """Whoever takes Redis away once the status says that all is safe would lose what is only there."""
    with pytest.raises(RedisNotReadyError):
        refusing.collection("slow").put("eve", {"n": 1})
    figures = refusing.status()
    assert (2, False) == (figures["pending"], figures["safe"])
    assert 2 == sum(one.pending for one in refusing.store.metrics.backlog_answered())


def test_draining_says_that_it_does_not_work(refusing):
    """It is not done while workers can persist nothing."""
    assert 2 == drain(refusing, timeout_s=0.5).pending


def test_a_step_that_the_only_server_refuses_has_no_answer_of_none(refusing):
    """It would be counted as nothing."""
    wire, of = refusing.store._wire, partition_keys(0)
    with pytest.raises(RedisNotReadyError):
        wire.run_many_answered(script("claim_value"), [((of.pending,), ("name", 1))])


def test_a_server_that_says_nothing_of_its_partitions_is_away(refusing, monkeypatch):
    """Though it answers otherwise, as while it loads its data: what is pending there is not known."""
    metrics = refusing.store.metrics
    every = metrics.backlog_answered()
    monkeypatch.setattr(type(metrics), "backlog_answered", lambda _: [one for one in every if not one.pending])
    figures = refusing.status()
    assert [sorted(one.partition for one in every if one.pending)] == [
        one["partitions"] for one in figures["away"]
    ]
    assert not figures["safe"]
    assert figures["seconds_until_safe"] is None
