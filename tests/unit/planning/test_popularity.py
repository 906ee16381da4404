"""Popularity of documents by Zipf's law."""

from __future__ import annotations

import math

import pytest

from writebehind.planning.popularity import zipf


@pytest.mark.parametrize(("documents", "skew"), [(1, 1.0), (7, 0.0), (200, 2.0), (50_000, 0.7), (50_000, 1.0)])
def test_groups_are_as_the_law_has_it(documents, skew):
    """All documents are in a group, and what is expected of all of them is as if each were looked at alone."""
    weights = [rank**-skew for rank in range(1, documents + 1)]
    whole = sum(weights)
    parts = [weight / whole for weight in weights]
    groups = zipf(documents, skew)
    assert documents == sum(group.documents for group in groups)
    assert 1 == pytest.approx(sum(group.documents * group.part for group in groups))
    for draws in (10, 10_000):
        distinct = sum(-math.expm1(-draws * part) for part in parts)
        assert distinct == pytest.approx(
            sum(group.documents * -math.expm1(-draws * group.part) for group in groups), rel=1e-3
        )


def test_a_billion_documents_are_a_few_hundred_groups():
    """The plan does not take longer for more documents."""
    assert len(zipf(10**9, 1.0)) < 1_000
