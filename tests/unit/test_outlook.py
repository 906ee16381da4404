"""When what is acknowledged is safe, and when writes are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.simulated_flushes import PACE, SAMPLE
from writebehind.history.backlog import Backlog
from writebehind.history.outlook import Caps, Outlook, lately, outlook
from writebehind.history.points import Point
from writebehind.history.turns import Waiting
from writebehind.redis.shared.metrics import PartitionStatus
from writebehind.redis.shared.pauses import ALL, Pause, Paused, told
from writebehind.redis.shared.persisted import Persisted

PAUSED, ALL_PAUSED = Paused((Pause("slow", 0),)), Paused((Pause(ALL, 0),))
SLOW, NOBODY = (f"paused: {told(one.as_list())}" for one in (PAUSED, ALL_PAUSED))
CAPS = Caps(max_pending=100, max_memory=0.5)
NOW = 1_010


def points(*, persisted: float | None = 10.0, growth: float = 0.0, memory: float = 0.0) -> list[Point]:
    figures = [{"pending": 100 + growth * at, "used_memory": 200 + memory * at} for at in range(11)]
    more = {} if persisted is None else {"persisted_per_second": persisted}
    return [Point(1_000.0 + at, one | more) for at, one in enumerate(figures)]


def rate(per_second: int, *, until_s: int = 0) -> Persisted:
    """So many were persisted in each second, until so long ago."""
    return Persisted(float(NOW), dict.fromkeys(range(NOW - 60, NOW - until_s), per_second) if per_second else {})


def look(
    some: list[Point],
    sample=SAMPLE,
    *,
    pending=(40, 10),
    dead=0,
    late_s=20.0,
    due_within_s=0.0,
    waiting=(),
    **given,
) -> Outlook:
    partitions = [PartitionStatus(at, one, 0, None) for at, one in enumerate(pending)]
    partitions.append(PartitionStatus(len(pending), 0, dead, None))
    known = {
        "breaker": "closed",
        "mongodb_error": "",
        "is_worked": True,
        "persisted": rate(10),
        "swept_ago_s": 1.0,
    } | given
    backlog = Backlog(partitions, {}, late_s, due_within_s, waiting)
    return outlook(some, sample, CAPS, PACE, backlog=backlog, **known)


def test_what_waits_is_safe_once_as_much_is_persisted():
    """Whatever arrives meanwhile: it is due later. Nobody has to record the history for that."""
    assert 5.0 == look(points()).seconds_until_safe
    assert 5.0 == look(points(growth=50)).seconds_until_safe
    assert 0.0 == look(points(persisted=0.0), pending=[0, 0], late_s=0.0).seconds_until_safe
    assert 25.0 == look([], persisted=rate(2)).seconds_until_safe


def test_nothing_is_safe_before_it_is_due():
    """However fast what is due goes; and what is pending is never safe in no time."""
    assert 60.5 == look([], due_within_s=60.0).seconds_until_safe
    assert 60.6 == look([], due_within_s=60.04).seconds_until_safe
    assert 60.5 == look([], due_within_s=60.0, late_s=0.0, persisted=rate(0)).seconds_until_safe
    assert 0.5 == look([], pending=[1], late_s=0.0, persisted=rate(100_000)).seconds_until_safe
    assert 0.5 == look([], pending=[1], persisted=rate(100_000)).seconds_until_safe


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"breaker": "open"}, "MongoDB does not answer: the breaker is open"),
        ({"breaker": "half-open"}, "MongoDB does not answer: the breaker is half-open"),
        ({"mongodb_error": "no pong", "late_s": 0.0}, "no pong"),
        ({"mongodb_error": "no pong", "breaker": "open"}, "MongoDB does not answer: the breaker is open"),
        (
            {"paused": ALL_PAUSED, "breaker": "open", "late_s": 0.0},
            f"{NOBODY}; MongoDB does not answer: the breaker is open",
        ),
        ({"paused": ALL_PAUSED}, NOBODY),
        ({"paused": PAUSED}, f"{SLOW}; nothing was persisted in the last 61 s, and documents are overdue"),
        ({"paused": PAUSED, "is_worked": False}, f"{SLOW}; no worker is at work on what is pending"),
        ({"paused": PAUSED, "late_s": 0.0}, SLOW),
        ({"is_worked": False}, "no worker is at work on what is pending"),
        ({}, "nothing was persisted in the last 61 s, and documents are overdue"),
        ({"persisted": rate(10, until_s=2)}, "nothing was persisted in the last 2 s, and documents are overdue"),
        ({"persisted": rate(10, until_s=1)}, "nothing was persisted in the last 1 s, and documents are overdue"),
        ({"persisted": None}, "it is not known what is persisted"),
    ],
)
def test_while_nothing_is_persisted_it_is_not_known_when_all_is_safe(given, because):
    """The reason is the one that an operator sees to first."""
    found = look(points(persisted=0.0), **{"persisted": rate(0)} | given)
    assert (None, because) == (found.seconds_until_safe, found.not_safe_because)


def test_what_is_not_overdue_may_wait():
    """Be it that nothing was persisted for long, or that nobody knows: workers need not have begun."""
    for persisted in (rate(0), rate(10, until_s=40), None):
        found = look([], late_s=1.9, due_within_s=0.3, persisted=persisted)
        assert (0.8, "") == (found.seconds_until_safe, found.not_safe_because)


@pytest.mark.parametrize(
    ("waiting", "within_s"),
    [
        (Waiting(7, 20.0, claim_left_s=9.5), 5.0),  # renewed just now: by the rate
        (Waiting(7, 1.9, claim_left_s=4.0), 5.0),  # not overdue
        (Waiting(7, 20.0, claim_left_s=4.0, task_in_s=-9e8, task_left_s=4.0), 4.0 + 5.0 + 0.5),
        (Waiting(7, 20.0, task_in_s=8.0, task_left_s=18.0), 8.0 + 0.5),  # after a backoff
        (Waiting(7, 20.0, task_in_s=-0.9, task_left_s=9.1), 5.0),
        (Waiting(7, 20.0, task_in_s=-4.0, task_left_s=6.0), 6.0 + 5.0 + 0.5),
        (Waiting(7, 20.0), 5.0 + 0.5),
    ],
)
def test_nothing_is_safe_before_somebody_is_at_work_on_each_partition(waiting, within_s):
    """A claim that does not go on, and a task that does not run, have to end; then the sweep comes."""
    others = (Waiting(1, 20.0, claim_left_s=9.9), Waiting(8, -0.5, task_in_s=0.5, task_left_s=10.5))
    assert within_s == look(points(), waiting=(*others, waiting)).seconds_until_safe
    unswept = look(points(), waiting=(waiting, *others), swept_ago_s=None)
    by_the_sweep = within_s not in {5.0, 8.5}
    assert (None if by_the_sweep else within_s) == unswept.seconds_until_safe
    assert by_the_sweep == ("nobody is at work on partition 7" in unswept.not_safe_because)


def test_whoever_has_claimed_a_partition_is_at_work():
    """A drain, or a library, is no worker."""
    at_work, left = Waiting(7, 20.0, claim_left_s=9.5), Waiting(7, 20.0, claim_left_s=8.5)
    assert 5.0 == look(points(), waiting=(at_work,), is_worked=False).seconds_until_safe
    assert "no worker is at work on what is pending" == look([], waiting=(left,), is_worked=False).not_safe_because


def test_an_outage_that_is_over_says_nothing_of_what_comes():
    """Neither when all is safe nor when a cap is met; and no cap is told before 10 s are known since."""

    def after(seconds: int) -> list[Point]:
        away = points(persisted=0.0, growth=50.0)
        away = [Point(one.at - 11, {**one.figures, "breaker": "open"}) for one in away]
        return away + [Point(one.at, {**one.figures, "breaker": "closed"}) for one in points()][: seconds + 1]

    def since(seconds: int) -> Persisted:
        return Persisted(float(NOW), {NOW - one: 10 for one in [*range(1, seconds + 1), 50]})

    found = look(after(10), persisted=since(10))
    assert (5.0, None) == (found.seconds_until_safe, found.seconds_until_cap)
    soon = look(after(3), persisted=since(3))
    assert (5.0, None) == (soon.seconds_until_safe, soon.seconds_until_cap)
    just = look(after(1), persisted=since(1))
    assert (None, "less than 2 s are known of what is persisted") == (
        just.seconds_until_safe,
        just.not_safe_because,
    )
    assert (None, "pending") == ((lasts := look(after(-1), breaker="open")).seconds_until_safe, lasts.cap)


def test_dead_letters_are_not_safe_by_waiting():
    """Where any stands, there is no time at which all is safe, but one at which MongoDB has all the others."""
    found = look(points(), dead=2)
    assert (None, 5.0) == (found.seconds_until_safe, found.seconds_until_drained)
    letters = "2 dead letters, to be replayed or discarded"
    assert f"{letters}; 50 documents pending, one overdue for 20 s" == found.not_safe_because
    assert letters == look(points(), dead=2, late_s=1.0).not_safe_because
    assert (None, 0.0) == (
        (one := look([], dead=1, pending=[0], late_s=0.0)).seconds_until_safe,
        one.seconds_until_drained,
    )
    both = look(points(), dead=1, breaker="open")
    assert (None, None) == (both.seconds_until_safe, both.seconds_until_drained)
    assert both.not_safe_because.startswith("MongoDB does not answer: the breaker is open; 1 dead letter, to be")
    none = {"pending": [0, 0], "late_s": 0.0}
    assert (True, False, False) == tuple(look([], **one).safe for one in (none, none | {"dead": 1}, {}))


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


def test_of_several_servers_the_fullest_is_full_first():
    """It has 200 of 500 bytes, and grows by its part of what all grow by."""
    servers = {name: replace(SAMPLE, used_memory=used) for name, used in {"a": 200, "b": 100, "c": 100}.items()}
    found = look(points(memory=100.0), replace(SAMPLE, servers=servers))
    assert (6.0, "memory") == (found.seconds_until_cap, found.cap)


def test_a_pause_of_one_collection_hides_no_cap():
    """What is paused grows, while the others are persisted each second, or nobody writes these."""
    for persisted in (10.0, 0.0):
        old = {"oldest_pending_seconds": 900.0}
        grows = [Point(one.at, one.figures | old) for one in points(persisted=persisted, growth=0.5)]
        before = [Point(one.at - 11, one.figures) for one in points()]
        since = Paused((Pause("slow", int(grows[0].at * 1000)),))
        found = look(before + grows, late_s=0.0, paused=since, persisted=rate(int(persisted)))
        assert (150.0, "pending") == (found.seconds_until_cap, found.cap)
    assert 150.0 == look(points(persisted=0.0, growth=0.5), late_s=0.0, paused=ALL_PAUSED).seconds_until_cap


def test_what_is_too_short_foretells_no_cap():
    """A system that has just begun, or whose history has: a cap that is met is no matter of the future."""
    young = points(growth=50.0, memory=50.0, persisted=1.0)[:4]
    found = look(young, persisted=rate(2))
    assert (25.0, None, "") == (found.seconds_until_safe, found.seconds_until_cap, found.cap)
    assert (0.0, True) == ((met := look(young, pending=[100, 0])).seconds_until_cap, met.cap == "pending")
    assert (0.0, True) == ((none := look(young, pending=[0, 0], late_s=0.0)).seconds_until_safe, none.safe)


def test_nothing_leaves_while_nothing_is_persisted():
    """A cap is told then by what grows since: soon by documents, which grow evenly, and later by memory."""
    before = [Point(one.at - 10, one.figures) for one in points(persisted=10.0)]
    since = points(persisted=0.0, growth=5.0, memory=100.0)[1:]
    soon, later = look(before + since[:2], breaker="open"), look(before + since, breaker="open")
    assert (15.0, "pending") == (soon.seconds_until_cap, soon.cap)
    assert look(before + since[:1], breaker="open").seconds_until_cap is None
    assert (3.0, "memory") == (later.seconds_until_cap, later.cap)


def test_only_the_last_seconds_count():
    """What was half a minute ago says nothing of now."""
    assert [1_005.0, 1_010.0] == [lately(points(), 1_035.0)[0].at, lately(points(), 1_035.0)[-1].at]
