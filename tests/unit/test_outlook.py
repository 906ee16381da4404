"""When what is acknowledged is safe, and when writes are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from writebehind.history.outlook import Outlook, lately, outlook
from writebehind.history.points import Point
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample

CAPS = Caps(max_pending=100, max_memory=0.5)
SAMPLE = LoadSample(
    misfit="",
    recorded=True,
    pending=(),
    dead={},
    used_memory=200,
    max_memory=1_000,
    evicts=False,
    keys=10,
    expiring=0,
    appendonly=True,
    replicas=0,
    waits_for_disk=True,
    drained_per_second=0.0,
)

#: Nothing that MongoDB does not have.
EMPTY = {"pending": [0, 0], "dead": 0}


def points(*, persisted: float | None = 10.0, growth: float = 0.0, memory: float = 0.0) -> list[Point]:
    figures = [{"pending": 100 + growth * at, "used_memory": 200 + memory * at} for at in range(11)]
    more = {} if persisted is None else {"persisted_per_second": persisted}
    return [Point(1_000.0 + at, one | more) for at, one in enumerate(figures)]


def look(some: list[Point], sample: LoadSample = SAMPLE, **given) -> Outlook:
    known = {"pending": [40, 10], "dead": 0, "breaker": "closed", "is_worked": True, "drained": 0.0} | given
    return outlook(some, sample, CAPS, **known)


def test_what_waits_is_safe_once_as_much_is_persisted():
    """Whatever arrives meanwhile: it is due later."""
    assert 5.0 == look(points()).seconds_until_safe
    assert 5.0 == look(points(growth=50)).seconds_until_safe
    assert 0.0 == look(points(persisted=0.0), pending=[0, 0]).seconds_until_safe
    assert 25.0 == look([], drained=2.0).seconds_until_safe


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"breaker": "open"}, "MongoDB does not answer: the breaker is open"),
        ({"is_worked": False}, "no worker is at work on what is pending"),
        ({}, "nothing was persisted in the last 30 s"),
    ],
)
def test_while_nothing_is_persisted_it_is_not_known_when_all_is_safe(given, because):
    """The reason is the one that an operator sees to first."""
    found = look(points(persisted=0.0), **given)
    assert (None, because) == (found.seconds_until_safe, found.not_safe_because)


def test_an_outage_that_is_over_says_nothing_of_what_comes():
    """Neither when all is safe nor when a cap is met; and nothing is told before 10 s are known since."""

    def after(seconds: int) -> list[Point]:
        away = points(persisted=0.0, growth=50.0)
        away = [Point(one.at - 11, {**one.figures, "breaker": "open"}) for one in away]
        return away + [Point(one.at, {**one.figures, "breaker": "closed"}) for one in points()][: seconds + 1]

    found = look(after(10), drained=0.1)
    assert (5.0, None) == (found.seconds_until_safe, found.seconds_until_cap)
    soon = look(after(3), drained=0.1)
    assert (None, None) == (soon.seconds_until_safe, soon.seconds_until_cap)
    assert "less than 10 s are known of what is persisted" == soon.not_safe_because
    assert (None, "pending") == ((lasts := look(after(-1), breaker="open")).seconds_until_safe, lasts.cap)


def test_dead_letters_are_not_safe_by_waiting():
    """Where any stands, there is no time at which all is safe, but one at which MongoDB has all the others."""
    found = look(points(), dead=2)
    assert (None, 5.0) == (found.seconds_until_safe, found.seconds_until_drained)
    assert "2 dead letters, which a person has to replay or discard" == found.not_safe_because
    assert (None, 0.0) == ((one := look([], dead=1, pending=[0])).seconds_until_safe, one.seconds_until_drained)
    both = look(points(), dead=1, breaker="open")
    assert (None, None) == (both.seconds_until_safe, both.seconds_until_drained)
    assert both.not_safe_because.startswith("MongoDB does not answer: the breaker is open; 1 dead letter, which")
    assert (True, False, False) == tuple(look([], **one).safe for one in (EMPTY, EMPTY | {"dead": 1}, {}))


def test_the_fullest_partition_decides_when_documents_are_refused():
    """It has 40 of 100, and gets four of the five that come each second."""
    found = look(points(growth=5.0))
    assert (15.0, "pending") == (found.seconds_until_cap, found.cap)
    assert (None, "") == (look(points(growth=-5.0)).seconds_until_cap, look(points()).cap)
    assert 0.0 == look(points(), pending=[100, 0]).seconds_until_cap
    assert look(points(growth=0.01)).seconds_until_cap is None  # hours ahead, which half a minute cannot tell


def test_the_memory_of_redis_may_be_the_first_cap():
    """Half of 1,000 bytes may be used: 300 more, at 100 a second; but not where Redis makes room by itself."""
    found = look(points(growth=5.0, memory=100.0))
    assert (3.0, "memory") == (found.seconds_until_cap, found.cap)
    assert "pending" == look(points(growth=5.0, memory=1.0)).cap
    assert "pending" == look(points(growth=5.0, memory=100.0), replace(SAMPLE, max_memory=0)).cap
    assert "pending" == look(points(growth=5.0, memory=100.0), replace(SAMPLE, evicts=True, expiring=5)).cap
    assert 0.0 == look(points(), replace(SAMPLE, used_memory=600)).seconds_until_cap


def test_what_is_too_short_foretells_nothing():
    """A system that has just begun, or whose history has: a cap that is met is no matter of the future."""
    young = points(growth=50.0, memory=50.0, persisted=1.0)[:4]
    found = look(young, drained=None)
    assert (None, None, None, "") == (
        found.seconds_until_safe,
        found.seconds_until_drained,
        found.seconds_until_cap,
        found.cap,
    )
    assert "less than 10 s are known of what is persisted" == found.not_safe_because
    assert 25.0 == look(young, drained=2.0).seconds_until_safe
    assert (0.0, True) == ((met := look(young, pending=[100, 0])).seconds_until_cap, met.cap == "pending")
    assert (0.0, True) == ((none := look(young, pending=[0, 0])).seconds_until_safe, none.safe)


def test_only_the_last_seconds_count():
    """What was half a minute ago says nothing of now."""
    assert [1_005.0, 1_010.0] == [lately(points(), 1_035.0)[0].at, lately(points(), 1_035.0)[-1].at]
