"""Popularity of documents by Zipf's law, in groups of ranks that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Ranks that have a group of their own, and by how much the ranks of a later group differ.
_ALONE, _SPREAD = 200, 1.05


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that are accessed equally often.

    Attributes:
        documents: number of them.
        part: part of all accesses that each of them has.
    """

    documents: float
    part: float


def zipf(documents: int, skew: float) -> Sequence[Group]:
    """Groups of so many documents, of which the k-th most popular is accessed in proportion to k to the -skew."""
    groups, first = [], 1
    while first <= documents:
        last = first if first <= _ALONE else min(documents, math.ceil(first * _SPREAD))
        groups.append((last - first + 1, _weight(first - 0.5, last + 0.5, skew) if last > first else first**-skew))
        first = last + 1
    whole = sum(weight for _, weight in groups)
    return [Group(count, weight / count / whole) for count, weight in groups]


def _weight(start: float, end: float, skew: float) -> float:
    """The integral of x to the -skew."""
    if math.isclose(skew, 1):
        return math.log(end / start)
    return float(end ** (1 - skew) - start ** (1 - skew)) / (1 - skew)
