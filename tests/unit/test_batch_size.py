"""How large a batch is."""

from __future__ import annotations

import pytest

from writebehind.flushing.batch_size import START, STEP, BatchSize

TARGET_S = 0.5


@pytest.fixture
def batch() -> BatchSize:
    return BatchSize(least=10, most=1000, target_s=TARGET_S)


def test_it_grows_while_mongodb_answers_in_time(batch):
    """Full batches that take less than they may are followed by larger ones, up to the limit."""
    batch.took(START, TARGET_S * 0.9)
    assert START + STEP == batch.size
    for _ in range(100):
        batch.took(batch.size, TARGET_S * 0.9)
    assert 1000 == batch.size


def test_it_grows_fast_while_mongodb_is_fast(batch):
    """Full batches that take next to no time are followed by ones of twice the size."""
    batch.took(START, TARGET_S / 10)
    assert 2 * START == batch.size


def test_a_small_batch_says_nothing(batch):
    """A batch that was not full does not make the next larger."""
    batch.took(START - 1, 0)
    assert START == batch.size


def test_it_shrinks_when_mongodb_slows_or_complains(batch):
    """A batch that took too long, or was not taken, is followed by one of half the size, down to the limit."""
    batch.took(START, TARGET_S * 1.1)
    assert START // 2 == batch.size
    batch.failed()
    assert START // 4 == batch.size
    for _ in range(10):
        batch.failed()
    assert 10 == batch.size
    batch.took(3, TARGET_S * 1.1)
    assert 10 == batch.size


@pytest.mark.parametrize(("least", "most", "size"), [(1, 100, 100), (400, 1000, 400), (7, 7, 7)])
def test_it_starts_within_its_limits(least, most, size):
    """The first batch is no larger and no smaller than allowed."""
    assert size == BatchSize(least=least, most=most, target_s=1).size
