"""Latencies of reads by their source, as a host has counted them, and what they were in between two looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

#: Reads of a source by the upper bound of the time that they took, seconds; `math.inf` for the longest.
Buckets = Mapping[float, int]
#: The reads of a host since it counts, by source, a `reading.read.Source`; those that it counts.
FiguresOfHost = Callable[[], Mapping[str, Buckets]]


def nothing_known() -> Mapping[str, Buckets]:
    """The figures of a host that counts nothing."""
    return {}


def between(before: Mapping[str, Buckets], now: Mapping[str, Buckets]) -> dict[str, Buckets]:
    """The reads in between; all of those of a source that begins to count, or has begun anew."""
    found: dict[str, Buckets] = {}
    for source, buckets in now.items():
        earlier = before.get(source, {})
        came = {bound: count - earlier.get(bound, 0) for bound, count in buckets.items()}
        found[source] = buckets if any(count < 0 for count in came.values()) else came
    return found


def percentile(buckets: Buckets, percent: float) -> float | None:
    """The time that so many percent of the reads did not take longer than, seconds; `None` where there were none.

    Within a bucket times are taken to lie evenly. Of the longest it is only known that they passed the last bound.
    """
    total = sum(buckets.values())
    if not total:
        return None
    wanted, passed, lower = total * percent / 100, 0, 0.0
    for bound, count in sorted(buckets.items()):
        if count and passed + count >= wanted:
            return lower if bound == inf else lower + (bound - lower) * (wanted - passed) / count
        passed, lower = passed + count, bound if bound < inf else lower
    return lower
