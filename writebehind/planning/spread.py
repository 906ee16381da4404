"""Chance: how much more than its share the fullest of several has."""

from __future__ import annotations

import math
from statistics import NormalDist


def _largest_of(count: int) -> float:
    """The largest of so many values, in standard deviations above their mean.

    G. Blom, "Statistical Estimates and Transformed Beta-Variables", 1958.
    """
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def fullest_partition(documents: float, partitions: int) -> float:
    """Documents in the fullest of so many partitions, over which a checksum spreads them."""
    mean = documents / partitions
    return mean + _largest_of(partitions) * math.sqrt(mean * (1 - 1 / partitions))


def fullest_server(partitions: int, servers: int) -> float:
    """The share of the server that has most partitions, where a hash spreads them, to the mean share."""
    return 1 + _largest_of(servers) * math.sqrt((servers - 1) / partitions)
