"""The breaker and signs of life: silence alone opens it, and a sign closes what silence has opened."""

from __future__ import annotations

import time

import pytest

from tests.integration.breaker.processes import DOWN
from tests.waiting import wait_until
from writebehind.errors import MongoBusyError, MongoUnavailableError, PipelineClosedError
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb.breaker import FAILURES, BreakerState
from writebehind.mongodb.lookout import Lookout
from writebehind.redis.keys import BREAKER


class Life:
    """A MongoDB that gives a sign of life or none."""

    def __init__(self) -> None:
        self.error: MongoUnavailableError | None = None
        self.pings = 0

    def ping(self, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.pings += 1
        if self.error:
            raise self.error

    def unreachable(self) -> str:
        return ""

    def round_trip_s(self) -> float:
        return 0.0


@pytest.fixture
def life(one, other, monkeypatch) -> Life:
    """The MongoDB of both processes, whose look-outs have no threads."""
    monkeypatch.setattr(Lookout, "_start", lambda _: None)
    life = Life()
    one.breaker.look_at(life)
    other.breaker.look_at(life)
    return life


@pytest.mark.usefixtures("long_intervals")
def test_silence_alone_opens_it(one, other, life):
    """That MongoDB gives no sign of life opens it for all, and only signs of life are asked for from then on."""
    one.breaker._gone("timed out")
    assert ("open", "MongoDB gives no sign of life: timed out") == (
        one.breaker.state().state,
        one.breaker.state().reason,
    )
    one.let_interval_end()
    for process in (one, other):
        assert not process.use()
        assert not process.use()
    assert (0, 0, 0) == (one.asked, other.asked, life.pings)


@pytest.mark.usefixtures("long_intervals")
def test_a_sign_of_life_closes_it(one, other, life):
    """After the interval one process asks for a sign. The interval does not grow, and a sign closes it for all."""
    one.breaker._gone("timed out")
    life.error = DOWN
    for _ in range(3):
        one.let_interval_end()
        assert 60.0 == one.breaker._find_out()
        assert "open" == one.breaker.state().state
    assert other.breaker._find_out() is not None
    assert 3 == life.pings

    life.error = None
    one.let_interval_end()
    assert one.breaker._find_out() is None
    assert other.breaker._find_out() is None
    assert 4 == life.pings
    assert BreakerState() == other.breaker.state()
    assert one.use()
    assert wait_until(other.use, "the other to see it")


@pytest.mark.usefixtures("long_intervals")
def test_a_sign_of_life_does_not_close_what_operations_have_opened(one, life):
    """Where MongoDB answers and takes no writes, only an operation finds out."""
    one.fail()
    one.let_interval_end()
    assert one.breaker._find_out() is None
    assert 0 == life.pings
    assert "open" == one.breaker.state().state
    assert one.use()
    assert "closed" == one.breaker.state().state


@pytest.mark.usefixtures("long_intervals")
def test_silence_after_failures(one, other, life):
    """Where operations have opened it, and MongoDB falls silent then, no caller waits for it in vain any more."""
    one.fail()
    other.breaker._gone("timed out")
    one.let_interval_end()
    assert not one.use()
    assert FAILURES == one.asked
    assert other.breaker._find_out() is None
    assert 1 == life.pings
    assert "closed" == one.breaker.state().state


@pytest.mark.usefixtures("life")
def test_nobody_waits_long_for_what_comes_soon(one, other, monkeypatch):
    """However long a sign of life may take, callers are told to come again in an interval."""
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 240_000)
    one.breaker._gone("timed out")
    one.breaker._shared._wire.call("HSET", BREAKER, "until", int(time.time() * 1000) + 50_000)
    with pytest.raises(MongoUnavailableError) as raised:
        other.breaker._enter()
    assert raised.value.retry_after_s <= 0.1


@pytest.mark.parametrize("error", [MongoBusyError(), PipelineClosedError()])
def test_a_sign_that_could_not_be_asked_for(one, life, error):
    """A process that is closed, or has no connection free, does not close it."""
    one.breaker._gone("timed out")
    one.let_interval_end()
    life.error = error
    one.breaker._find_out()
    assert 1 == life.pings
    assert "open" == one.breaker.state().state
