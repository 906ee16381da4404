"""The collections that have figures of their own: the same in all processes, and clients cannot make them many."""

from __future__ import annotations

import pytest

from tests.integration.conftest import full
from writebehind.redis import keys
from writebehind.redis.shared.labels import Labels
from writebehind.tallies.families import MOST_UNLISTED


def test_who_comes_first_stays(store):
    """Until there is no room, for whoever asks, and whatever the order of names; what comes then is not added."""
    one, other = Labels(store._wire), Labels(store._wire)
    assert ["zoo", "ape"] == one.told_apart(["zoo", "ape"])
    assert ["zoo", "ape", "bee"] == other.told_apart(["bee", "ape"])
    many = [f"c{number}" for number in range(2 * MOST_UNLISTED)]
    told = one.told_apart(many)
    assert ["zoo", "ape", "bee", *many[: MOST_UNLISTED - 3]] == told
    assert told == other.told_apart(["ant", *reversed(many)]) == Labels(store._wire).told_apart([])
    assert MOST_UNLISTED == store._wire.call("ZCARD", keys.LABELS)


@pytest.mark.parametrize("wire", ["valkey"], indirect=True)
def test_a_full_redis_takes_no_name(store):
    """Those that it has are told."""
    store.labels.told_apart(["ape"])
    with full(store._wire):
        assert ["ape"] == store.labels.told_apart(["bee"])
    assert ["ape", "bee"] == store.labels.told_apart(["bee"])
