"""What is remembered of right entries, the budget, and figures made of counts."""

from __future__ import annotations

import time

import pytest

from writebehind.consistency.budget import MOST_WAIT_S, Budget
from writebehind.consistency.observer import FLUSH_S, KEEP_S, LEASE_MS
from writebehind.consistency.tally import (
    CHANGES,
    ENTRIES,
    MOST_UNLISTED,
    UNOBSERVED_S,
    Tally,
    figures,
    is_observed,
)
from writebehind.consistency.verified import Verified, is_of
from writebehind.tallies import families
from writebehind.tallies.apart import ToldApart
from writebehind.tallies.families import OTHER

APART, NEAR = (True, True, True), (True, False, False)


def test_what_is_verified_is_known_until_it_changes_or_is_taken():
    """One header of a document is known, no other one, and none after a change was reported."""
    verified = Verified(1 << 4)
    verified.add("users/s:a", b"1")
    assert verified.has("users/s:a", b"1")
    assert not verified.has("users/s:a", b"2")
    known = verified.take("users/s:a")
    assert is_of(known, "users/s:a", b"1")
    assert not is_of(known, "users/s:a", b"2")
    assert not verified.has("users/s:a", b"1")


def test_documents_of_one_place_displace_each_other():
    """However many there are, no document is taken for another one."""
    verified = Verified(1 << 2)
    for number in range(100):
        verified.add(f"users/s:{number}", b"1")
    known = [number for number in range(100) if verified.has(f"users/s:{number}", b"1")]
    assert 0 < len(known) <= 4
    verified.clear()
    assert not any(verified.has(f"users/s:{number}", b"1") for number in range(100))


@pytest.fixture
def ticks(monkeypatch) -> dict[str, float]:
    """Clocks of this thread that go on as a test says, seconds."""
    told = {"monotonic": 0.0, "thread_time": 0.0}
    for clock in ("monotonic", "thread_time"):
        monkeypatch.setattr(time, clock, lambda clock=clock: told[clock])
    return told


def test_the_budget_has_work_waited_for(ticks):
    """After some work the wait is as long as that is of the part that may be used, and shorter as time passes."""
    budget = Budget(0.01)
    ticks["thread_time"] += 0.05
    ticks["monotonic"] += 0.1
    assert pytest.approx(4.9) == budget.wait_s()
    assert pytest.approx(0.05) == budget.used_s
    ticks["monotonic"] += 3
    assert pytest.approx(1.9) == budget.wait_s()


def test_the_budget_counts_this_threads_work():
    """By the clock of the CPU that it has had, however long that took."""
    budget = Budget(0.001)
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert budget.wait_s() > 0
    assert 0.05 <= budget.used_s < 5


def test_a_costly_step_is_paid_in_full_and_a_sleep_is_not(ticks):
    """All CPU time is waited for; a machine that slept while MongoDB was asked ends no looks for minutes."""
    budget = Budget(0.009)
    with budget.waiting():
        ticks["monotonic"] += 45
    assert 0 < budget.wait_s() <= MOST_WAIT_S
    ticks["monotonic"] += MOST_WAIT_S
    assert 0 == budget.wait_s()
    ticks["thread_time"] += 3
    ticks["monotonic"] += 3
    owed_s = budget.wait_s()
    assert 300 < owed_s < 3 / 0.009
    ticks["monotonic"] += owed_s
    assert 0 == budget.wait_s()
    assert KEEP_S + FLUSH_S < LEASE_MS / 1000 <= UNOBSERVED_S


def test_figures_are_of_now_while_somebody_looks():
    """Not once nobody has for some seconds, or ever; nor while MongoDB is away, which nobody can look at."""
    assert is_observed(UNOBSERVED_S, is_mongodb_away=False)
    assert not is_observed(UNOBSERVED_S + 1, is_mongodb_away=False)
    assert not is_observed(None, is_mongodb_away=False)
    assert not is_observed(0.5, is_mongodb_away=True)


def test_mongodb_is_not_pressed(ticks):
    """A slow MongoDB is waited for in a bounded part of the time, however little CPU that takes."""
    budget = Budget(0.01)
    with budget.waiting():
        ticks["monotonic"] += 0.2
    assert budget.wait_s() > 0.5


def test_figures_are_fractions_by_window_collection_and_source():
    """Looks are added up in total, of each collection and of each source; what is apart decides the interval."""
    tally = Tally()
    tally.right("users", ENTRIES, APART, 98)
    tally.right("users", ENTRIES, NEAR, 100)
    tally.right("posts", CHANGES, APART)
    for at in range(3):
        tally.wrong("posts", CHANGES, APART, at)
    told = figures(tally.total)
    assert {"looks": 200, "apart": 200, "wrong": 1, "ratio": 0.995} == {
        name: told["windows"]["1"][name] for name in ("looks", "apart", "wrong", "ratio")
    }
    assert 100 == told["windows"]["60"]["apart"]
    assert told["windows"]["60"]["ratio_from"] < told["windows"]["1"]["ratio_from"] < 0.995
    assert told["windows"]["1"]["nines"] == pytest.approx(2.30103)
    assert (198, 0) == (told["collections"]["users"]["10"]["looks"], told["collections"]["users"]["10"]["wrong"])
    assert (2, 1) == (told["sources"]["changes"]["10"]["looks"], told["sources"]["changes"]["10"]["wrong"])


def test_figures_of_nothing_claim_nothing():
    """Where nobody has looked there is no fraction, and it may be anything; what other hands count is left out."""
    told = figures({"users entries ² looks": 5, "x": 1, "users entries 7 looks": 3, "users entries 1 sold": 3})
    one = told["windows"]["1"]
    assert (0, None, 0.0, 1.0, None) == (
        one["looks"],
        one["ratio"],
        one["ratio_from"],
        one["ratio_to"],
        one["nines"],
    )
    assert {} == told["collections"]


def test_all_right_is_no_claim_of_certainty():
    """Where all was right so far the interval says how many nines there are at least."""
    tally = Tally()
    tally.right("users", ENTRIES, APART, 3_700)
    one = figures(tally.total)["windows"]["1"]
    assert (1.0, None) == (one["ratio"], one["nines"])
    assert one["nines_from"] == pytest.approx(3.0, abs=0.01)


def test_collections_that_are_counted_by_name_are_bounded():
    """However many collections clients name, so many are told apart, and those of the settings in any case."""
    tally = Tally(listed={"users"})
    for number in range(2 * MOST_UNLISTED):
        tally.right(f"c{number}", ENTRIES, APART)
    tally.right("users", ENTRIES, APART)
    told = figures(tally.total)["collections"]
    assert MOST_UNLISTED + 2 == len(told)
    assert (MOST_UNLISTED, 1) == (told[OTHER]["1"]["looks"], told["users"]["1"]["looks"])


def test_figures_of_many_observers_are_bounded():
    """Each may have counted others by name, and so may other hands; the total has them all."""
    names = [f"c{number}" for number in range(2 * families.MOST_UNLISTED)]
    counts = {
        f"{name} {ENTRIES} 1 looks": 1 for name in [*names, "users", "zoo", "*", "no collection/", "x" * 200]
    }
    counts |= {f"users source{n} 1 looks": 1 for n in range(200)} | {f"users {ENTRIES} 1 looks more": 1}

    told = figures(counts, ToldApart({"users", "zoo"}))

    assert families.MOST_UNLISTED + 3 == len(told["collections"])
    assert {"users", "zoo", OTHER} <= told["collections"].keys()
    assert {ENTRIES} == told["sources"].keys()
    looks = [one["1"]["looks"] for one in told["collections"].values()]
    assert 2 * families.MOST_UNLISTED + 4 == sum(looks) == told["windows"]["1"]["looks"]
