"""How often documents go to MongoDB: formulas, held against flushes that are carried out event by event."""

from __future__ import annotations

import pytest

from bench.chain import PACE, simulated
from writebehind.planning.flushes import flushing
from writebehind.planning.popularity import zipf


@pytest.mark.parametrize(
    ("writes", "documents", "skew", "partitions"),
    [
        (10, 10**6, 0.0, 16),
        (300, 2_000, 1.1, 16),
        (8_000, 20_000, 1.1, 16),
        (20_000, 200, 0.0, 1),
        (10**6, 10**8, 1.0, 2_048),
        (10**6, 10**6, 0.8, 2_048),
    ],
)
def test_formulas_are_as_the_chain_of_tasks(writes, documents, skew, partitions):
    """From a trickle to a million writes a second they differ by less than 5 % from flushes by the rules."""
    told = flushing(zipf(documents, skew), writes, 0, partitions, PACE)
    seen = simulated(writes, documents, skew, partitions, most=40_000)
    figures = ("operations", "tasks", "batches", "batch", "pending")
    assert {name: getattr(seen, name) for name in figures} == pytest.approx(
        {name: getattr(told, name) for name in figures}, rel=0.05
    )


def test_a_document_that_is_written_all_the_time_goes_once_in_a_flush_delay():
    """However often it is written."""
    for writes in (1_000, 1_000_000):
        assert 1 == pytest.approx(flushing(zipf(1, 0), writes, 0, 1, PACE).operations, rel=0.02)


def test_new_documents_are_an_operation_each():
    """They are not coalesced, and share bulk writes."""
    flushed = flushing([], 0, 3_200, 16, PACE)
    assert 3_200 == flushed.operations
    assert 3_200 == pytest.approx(flushed.batches * flushed.batch)
    assert flushed.batches < 35


def test_full_batches_follow_each_other():
    """Where more is due than a bulk write takes, there are several; a partition that does not keep up is told."""
    flushed = flushing([], 0, 64_000, 16, PACE)
    assert 1_000 == flushed.batch
    assert 64 == pytest.approx(flushed.batches)
    assert flushed.busy < 1
    assert flushing([], 0, 200_000, 16, PACE).busy > 0.99


def test_nothing_is_flushed_where_nothing_is_written():
    """No load, no tasks."""
    assert (0, 0, 0) == tuple(
        getattr(flushing(zipf(10, 1), 0, 0, 16, PACE), name) for name in ("operations", "tasks", "pending")
    )
