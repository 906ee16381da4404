"""Percentiles, from counts of reads."""

from __future__ import annotations

from math import inf

import pytest

from writebehind.history.latencies import between, percentile


@pytest.mark.parametrize(
    ("buckets", "percent", "expected"),
    [
        ({}, 50, None),
        ({1.0: 0, inf: 0}, 50, None),
        ({1.0: 10}, 50, 0.5),
        ({1.0: 10, 2.0: 10}, 50, 1.0),
        ({1.0: 10, 2.0: 10}, 75, 1.5),
        ({2.0: 10, 1.0: 10}, 75, 1.5),
        ({1.0: 0, 2.0: 4}, 50, 1.5),
        ({1.0: 1, inf: 9}, 99, 1.0),
    ],
)
def test_percentiles(buckets, percent, expected):
    """Times lie evenly in a bucket; of the longest only the last bound is known."""
    assert expected == percentile(buckets, percent)


def test_reads_between_two_looks():
    """A source that begins, or a host that has begun anew, counts from there."""
    before = {"hit": {1.0: 5, inf: 1}, "miss": {1.0: 9}}
    now = {"hit": {1.0: 8, inf: 1}, "miss": {1.0: 2}, "stale": {1.0: 4}}
    assert {"hit": {1.0: 3, inf: 0}, "miss": {1.0: 2}, "stale": {1.0: 4}} == between(before, now)
