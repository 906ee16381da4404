"""Which bodies a walk reads."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from writebehind.consistency.bodies import SHORT, STEP_BYTES, WALK_BYTES, BodyDraw
from writebehind.redis.unsettled import Shown

TRIES = 20_000


def read(keys: int, size: int) -> float:
    """The part of the bodies of a size that is read in a walk over so many keys."""
    drawn: list[str] = []
    store = SimpleNamespace(
        cache=SimpleNamespace(sizes=lambda members: [size] * len(members)),
        bodies=SimpleNamespace(damaged=lambda members: drawn.extend(members) or set()),
    )
    random.seed(7)
    draw = BodyDraw(store)
    draw.begin(keys, 1_000)
    count = 0
    for _ in range(TRIES):
        is_read = size < draw.short()
        count += is_read
        draw.damaged({"users/s:a": Shown(b"D" * 49, 1_000, unsettled=False, intact=True if is_read else None)})
    return (count + len(drawn)) / TRIES


@pytest.mark.parametrize(("keys", "size"), [(10, 100), (1_000, 4_000), (40_000, 400)])
def test_small_bodies_are_all_read(keys, size):
    """Where all of them are no more than a walk and a step may read, none is left out."""
    assert 1 == read(keys, size)


@pytest.mark.parametrize("size", [1_000, SHORT + 1, 100_000])
@pytest.mark.parametrize("keys", [100_000, 1_000_000])
def test_others_by_their_size(keys, size):
    """Each is read now and then, and a walk reads about as much as it may, however many and large they are."""
    part = read(keys, size)
    assert 0 < part
    assert part * keys * size < 2.5 * WALK_BYTES


def test_a_step_reads_little_in_a_small_cache():
    """A few bodies of 16 MB do not keep the observer from looking at what has changed."""
    assert 0 < read(30, 16_000_000) * 30 * 16_000_000 < 2.5 * STEP_BYTES


def test_nothing_is_read_of_what_is_no_document():
    """What is shorter than a header, or was compared already, is not read again."""
    draw = BodyDraw(SimpleNamespace(cache=None, bodies=None))
    draw.begin(1, 1_000)
    one = Shown(b"D" * 49, 1_000, unsettled=False, intact=True)
    assert set() == draw.damaged({"a": one, "b": one._replace(header=b"0" * 16 + b"X", intact=None)})
