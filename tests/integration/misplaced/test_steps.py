"""The atomic steps that bring a document home: when it is due, what they end, and the clock there."""

from __future__ import annotations

import pytest

from tests.integration.misplaced.conftest import ADA, put
from writebehind.redis.keys import partition_keys


def test_what_comes_home_is_due_at_once_and_ends_loads(pipeline, home, elsewhere, displace, hints):
    """A reader that loads what MongoDB has may not put it in its place, and what was noted of it there goes."""
    put(pipeline, 1)
    displace()
    wire, of, there = pipeline.store._wire, partition_keys(home), partition_keys(elsewhere)
    wire.call("SET", of.load(ADA), "token")
    wire.call("HSET", there.sent, ADA, "noted")

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert [0, 0] == wire.calls((("EXISTS", of.load(ADA)), ("EXISTS", there.sent)))
    assert float(wire.call("ZSCORE", of.pending, ADA)) <= pipeline.store.now_ms()


@pytest.mark.parametrize(("by_us", "follows"), [(-1_000, True), (10**12, False)], ids=["before now", "ahead"])
def test_the_clock_at_home_follows_what_comes(pipeline, home, elsewhere, displace, by_us, follows):
    """So that no number is issued twice; but not one that no clock has come to, which would date all others."""
    put(pipeline, 1)
    displace()
    wire, of = pipeline.store._wire, partition_keys(home)
    version = b"%016d" % (pipeline.store.now_ms() * 1000 + by_us)
    wire.call("SETRANGE", partition_keys(elsewhere).entry(ADA), 0, version)
    wire.call("SET", of.clock, 7)

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert (version if follows else b"7") == wire.call("GET", of.clock)


def test_the_clock_at_home_does_not_step_back(pipeline, home, elsewhere, displace):
    """What comes home may be older than what was issued there since."""
    put(pipeline, 1)
    displace()
    wire, of = pipeline.store._wire, partition_keys(home)
    later = b"%016d" % (pipeline.store.now_ms() * 1000 + 10**6)
    wire.call("SET", of.clock, later)

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert later == wire.call("GET", of.clock)


def test_a_name_somewhere_brings_nothing_forward(pipeline, home, elsewhere):
    """What is pending at home is flushed when it is due there."""
    pipeline.collection("slow").put("ada", {})
    home = pipeline.store.partition_of("slow/s:ada")
    wire = pipeline.store._wire
    due = wire.call("ZSCORE", partition_keys(home).pending, "slow/s:ada")
    other = (home + 1) % pipeline.settings.partitions
    wire.call("ZADD", partition_keys(other).pending, 0, "slow/s:ada")

    pipeline.flusher.drain(other, budget_s=5)

    assert due == wire.call("ZSCORE", partition_keys(home).pending, "slow/s:ada")
