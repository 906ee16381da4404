"""What clients have spent of their rates in several processes adds up in Redis."""

from __future__ import annotations

import pytest

from writebehind.redis.keys import SPENT
from writebehind.redis.shared import spending
from writebehind.redis.shared.spending import KEPT_MS, LONGEST_MS, Spent

#: What a test may take between two looks at the clock, ms.
MEANWHILE_MS = 5_000


def note(store, *spent: Spent) -> list[float]:
    return list(store.spending.note(spent))


def test_what_one_has_spent_adds_to_what_others_have(store):
    """A client has all back when all of it is paid for."""
    [first] = note(store, Spent("a", 0, 60_000))
    second, other = note(store, Spent("a", 0, 60_000), Spent("b", 0, 90_000))

    assert 60_000 == first
    assert 120_000 - MEANWHILE_MS < second <= 120_000
    assert 90_000 == other


def test_what_was_spent_over_some_time_was_paid_for_meanwhile(store):
    """Who spends as much as comes back has all back, and the next process that tells the same adds to it."""
    assert [0] == note(store, Spent("a", 1_000, 1_000))
    [left] = note(store, Spent("a", 1_000, 1_000))

    assert 1_000 - MEANWHILE_MS < left <= 1_000


def test_nobody_is_kept_waiting_for_ever(store):
    """There is a longest time, and what lies ahead of it is from before a clock stepped back."""
    assert [LONGEST_MS] == note(store, Spent("a", 0, 100 * LONGEST_MS))
    store._wire.call("ZADD", SPENT, 10 * store._wire.now_ms(SPENT), "a")

    assert [60_000] == note(store, Spent("a", 0, 60_000))


def test_who_has_all_back_is_forgotten(store):
    """What is kept for those who have does not grow, and ends with those who come."""
    note(store, Spent("a", KEPT_MS + MEANWHILE_MS, 0), Spent("b", 0, 60_000))

    assert [b"b"] == store._wire.call("ZRANGE", SPENT, 0, -1)
    assert 0 < store._wire.call("PTTL", SPENT) <= 2 * LONGEST_MS


def test_those_are_kept_that_have_spent_most(store, monkeypatch):
    """However many clients there are, Redis has room for them."""
    monkeypatch.setattr(spending, "MOST_CLIENTS", 3)

    note(store, *(Spent(f"{number}", 0, 60_000 + 1_000 * number) for number in range(8)))

    assert [b"5", b"6", b"7"] == store._wire.call("ZRANGE", SPENT, 0, -1)


@pytest.mark.parametrize("count", [0, 1_203])
def test_however_many_are_told_each_has_its_answer(store, count):
    """They go to Redis in portions."""
    assert list(range(count)) == note(store, *(Spent(f"{number}", 0, number) for number in range(count)))
