"""The interval of a fraction that was sampled, and nines."""

from __future__ import annotations

from math import comb, log10

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiers import examples
from writebehind.consistency.interval import ALPHA, MANY, interval, nines
from writebehind.consistency.tally import figures


@pytest.mark.parametrize(
    ("wrong", "samples", "low", "high"),
    [
        (0, 10, 0.0, 0.3084971),
        (3, 20, 0.0320709, 0.3789268),
        (1, 100, 0.0002531, 0.0544594),
        (20, 20, 0.8315665, 1.0),
        (5, 10, 0.1870860, 0.8129140),
    ],
)
def test_the_interval_is_that_of_the_tables(wrong, samples, low, high):
    """The limits are those that published tables of Clopper and Pearson have."""
    assert (low, high) == pytest.approx(interval(wrong, samples), abs=1e-6)


@given(st.integers(1, 10**9))
def test_where_all_was_right_so_far_the_end_is_that_of_the_rule_of_three(samples):
    """The end is where so many samples would all be right in 2.5 of 100 cases: about 3.7 of their number."""
    low, high = interval(0, samples)
    assert 0.0 == low
    assert 1 - (ALPHA / 2) ** (1 / samples) == pytest.approx(high, rel=1e-6)
    assert 3 / (samples + 3) < high < 3.7 / samples


@settings(max_examples=examples(50))
@given(st.integers(1, 25), st.floats(0.001, 0.999))
def test_the_interval_misses_the_fraction_in_one_of_twenty_cases_at_most(samples, fraction):
    """Whatever the fraction is, the chance that the interval of a sample does not hold it is at most 5 %."""
    missed = sum(
        comb(samples, wrong) * fraction**wrong * (1 - fraction) ** (samples - wrong)
        for wrong in range(samples + 1)
        if not (found := interval(wrong, samples))[0] <= fraction <= found[1]
    )
    assert missed <= ALPHA + 1e-9


@given(st.floats(0, 1), st.integers(1, 10**7))
def test_the_interval_holds_what_was_seen_and_mirrors_what_was_not(part, samples):
    """It lies within 0 and 1 around the fraction that was seen; that of what is right is its mirror."""
    wrong = part * samples
    low, high = interval(wrong, samples)
    assert 0 <= low <= part + 1e-9
    assert part - 1e-9 <= high <= 1
    other_low, other_high = interval(samples - wrong, samples)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low), abs=1e-6)


@given(st.integers(0, 50), st.integers(51, 10**6))
def test_more_samples_say_more(wrong, samples):
    """With twice the samples and twice the wrong ones the interval is narrower."""
    low, high = interval(wrong, samples)
    lower, higher = interval(2 * wrong, 2 * samples)
    assert higher - lower < high - low


def test_both_ways_of_calculating_agree_where_one_takes_over():
    """The exact limits of many and Wilson's are the same to a hundredth."""
    assert interval(MANY, 10**7) == pytest.approx(interval(MANY + 1e-6, 10**7), rel=0.01)


def test_without_samples_nothing_is_known():
    """The interval of no sample is everything."""
    assert (0.0, 1.0) == interval(0, 0)


@given(st.floats(1e-12, 1))
def test_nines_are_counted_by_what_is_wrong(wrong):
    """One in a thousand is three nines; nothing wrong has none to count."""
    assert -log10(wrong) == nines(wrong)
    assert nines(0) is None


def test_where_all_is_wrong_there_are_no_nines():
    """That is 0, and no negative zero, which would be printed as one; a little more than all is the same."""
    for wrong in (1.0, 1 + 1e-16, 1.000001):
        assert "0.0" == str(nines(wrong))
    assert "0.0" == str(figures({})["windows"]["1"]["nines_from"])
    all_wrong = figures({"users entries 1 looks": 5, "users entries 1 wrong": 5, "users entries 1 apart": 5})
    assert "-" not in str(all_wrong["windows"]["1"])
    all_right = figures({"users entries 1 looks": 5, "users entries 1 apart": 5})["windows"]["1"]
    assert (1.0, 1.0, None) == (all_right["ratio"], all_right["ratio_to"], all_right["nines"])
