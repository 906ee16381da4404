"""Arithmetic of the benchmarks of many pending documents."""

from __future__ import annotations

import pytest

from bench.backlog import Documents
from bench.scale import beyond, growth
from bench.trickle import least
from writebehind.documents.entry import Entry


def test_growth_is_the_median_of_ratios_within_a_round():
    """A machine that was slow in one round, for both, is not taken for growth."""
    least_of = [(10.0, 20.0), (100.0, 200.0), (10.0, 20.0)]
    assert growth([(11.0, 24.0), (110.0, 240.0), (50.0, 100.0)], least_of) == pytest.approx((1.1, 1.2))


def test_bytes_say_where_they_are_too_many():
    """The figure alone is enough where it is within its limit."""
    assert beyond(200.0, 200) == "   200"
    assert beyond(201.0, 200) == "   201  above 200"


@pytest.mark.parametrize("size", [100, 500, 20_000])
@pytest.mark.parametrize("digits", [6, 10, 23])
def test_documents_have_their_size_and_ids_of_one_length(size, digits):
    """Each has an id of its own, and an entry whose ETag is that of its body."""
    documents = Documents.of(size, digits)
    numbers = range(0, 100_000, 997)
    assert {len(documents.body(number)) for number in numbers} == {size}
    assert {len(documents.name(number)) for number in numbers} == {digits + 1}
    assert len({documents.name(number) for number in numbers}) == len(numbers)
    assert Entry.parse(b"0" * 16 + documents.payload(1)).is_intact


def test_operations_per_write_are_fewer_the_more_is_written():
    """A document alone has one operation for itself and what comes while it waits."""
    assert least(4, 1, 1.0) == pytest.approx(1 / 5)
    assert least(8_000, 20_000, 2.0) < 0.2 < least(4_000, 20_000, 2.0)
    assert least(1e-9, 20_000, 2.0) == pytest.approx(1)
