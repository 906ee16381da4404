"""The circuit breaker before MongoDB, which all processes share: what opens and closes it."""

from __future__ import annotations

import time

import pytest

from tests.integration.breaker.processes import DOWN
from tests.waiting import wait_until
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb.breaker import FAILURES, BreakerState
from writebehind.redis.keys import BREAKER


@pytest.mark.usefixtures("long_intervals")
def test_failures_open_it_for_all(one, other):
    """After a few failures in one process, none is let through, and all know why."""
    one.fail()

    assert not one.use()
    assert not other.use()
    assert (FAILURES, 0) == (one.asked, other.asked)
    state = other.breaker.state()
    assert ("open", "it is down") == (state.state, state.reason)
    assert abs(time.time() - state.since) < 60
    with pytest.raises(
        MongoUnavailableError, match=r"has failed lately, and nobody asks it for \d+\.\d s: it is down"
    ) as raised:
        other.breaker._enter()
    assert 0 < raised.value.retry_after_s <= 60


@pytest.mark.usefixtures("long_intervals")
def test_it_does_not_close_by_itself(one, wire):
    """While failures are counted they are forgotten after a while; once it is open, only a success closes it."""
    one.fail(FAILURES - 1)
    assert wire.call("PTTL", BREAKER) > 0

    one.fail(1)

    assert -1 == wire.call("PTTL", BREAKER)


@pytest.mark.usefixtures("long_intervals")
def test_probes_are_never_further_apart_than_the_longest_interval(one):
    """However long MongoDB is away."""
    one.fail()
    waits = []
    for _ in range(4):
        one.let_interval_end()
        waits.append(one.fail_as_probe())

    assert [120.0, 240.0, 240.0, 240.0] == waits


def test_a_few_failures_do_not_open_it(one, other):
    """One failure less is no outage, and a success in between begins the count anew."""
    for _ in range(3):
        one.fail(FAILURES - 1)
        assert one.use()
    assert other.use()
    assert BreakerState() == other.breaker.state()


def test_failures_that_are_old_do_not_count(one, monkeypatch):
    """Failures open it only when they come within a window."""
    monkeypatch.setattr(breaker_module, "WINDOW_MS", 50)
    one.fail(FAILURES - 1)
    wait_until(lambda: not one.breaker._shared._wire.call("EXISTS", BREAKER), "the window to be over")
    one.fail(1)

    assert "closed" == one.breaker.state().state


def test_what_is_no_outage_does_not_count(one, other):
    """An operation that met another says nothing about MongoDB."""
    for _ in range(3 * FAILURES):
        assert not one.use(MongoUnavailableError("write conflict"))
    assert other.use()


def test_one_finds_out(one, other):
    """After the interval one is let through and no other until it has said how it went; then all are."""
    one.fail()
    wait_until(lambda: one.breaker.state().retry_after_s == 0, "the interval to be over")

    with other.breaker.guard():
        assert "half-open" == one.breaker.state().state
        assert not one.use()
    wait_until(one.use, "the other's success to be known")
    assert BreakerState() == one.breaker.state()


def test_an_answer_that_helps_nobody_closes_it_too(one, other):
    """A probe that is answered has found out that MongoDB serves, even if not this operation."""
    one.fail()
    wait_until(lambda: one.breaker.state().retry_after_s == 0, "the interval to be over")

    assert not other.use(MongoUnavailableError("write conflict"))
    assert BreakerState() == other.breaker.state()


def test_failed_probes_come_less_often(one):
    """Each probe that fails doubles the time until the next, up to a limit."""
    opened = MongoUnavailableError("it is down", outage=True)
    one.fail(FAILURES - 1)
    one.use(opened)

    assert [0.1, 0.2, 0.3, 0.3] == [opened.retry_after_s, *(one.fail_as_probe() for _ in range(3))]
    assert FAILURES + 3 == one.asked


def test_a_failure_of_before_says_nothing_new(one, other):
    """What was begun before it opened, and fails after, does not keep it open longer."""

    def begin_and_fail() -> None:
        with other.breaker.guard():
            one.fail()
            begun["until"] = one.breaker._shared._wire.call("HGET", BREAKER, "until")
            raise DOWN

    begun: dict[str, bytes] = {}
    with pytest.raises(MongoUnavailableError):
        begin_and_fail()
    assert begun["until"] == one.breaker._shared._wire.call("HGET", BREAKER, "until")
