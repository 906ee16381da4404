"""The collections that have figures of their own: the same in all processes, and clients cannot make them many."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_what_anybody_was_told_stays(store):
    """However many add at the same moment, and each more than there is room for when all have looked."""
    start = threading.Barrier(4)

    def tell(number: int) -> list[str]:
        start.wait()
        return Labels(store._wire).told_apart([f"h{number}-{name}" for name in range(MOST_UNLISTED)])

    for _ in range(10):
        store._wire.call("DEL", keys.LABELS)
        store.labels.told_apart([f"c{number}" for number in range(MOST_UNLISTED - 10)])
        with ThreadPoolExecutor(4) as threads:
            told = [*threads.map(tell, range(4))]
        assert [store.labels.told_apart([])] * 4 == told


@pytest.mark.parametrize("wire", ["valkey"], indirect=True)
def test_a_full_redis_takes_no_name(store):
    """Those that it has are told."""
    store.labels.told_apart(["ape"])
    with full(store._wire):
        assert ["ape"] == store.labels.told_apart(["bee"])
    assert ["ape", "bee"] == store.labels.told_apart(["bee"])
