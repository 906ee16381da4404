"""Counts of looks at what readers see."""

from __future__ import annotations

from tests.integration.conftest import full
from writebehind.redis import keys
from writebehind.redis.shared.samples import MOST_REMEMBERED, REMEMBERED_S


def slots(wire) -> list[str]:
    return [one.decode() for one in wire.call("KEYS", "wb:consistency:*")]


def test_what_is_counted_is_forgotten_a_day_later(store, wire, monkeypatch):
    """Counts and life of both keys come in one step, so that nothing cut in between stays for ever."""
    sent = []
    exchange = wire.exchange
    monkeypatch.setattr(wire, "exchange", lambda commands: sent.append(commands) or exchange(commands))
    store.samples.add({"users entries 1 looks": 3}, [b"one", b"two"])
    store.samples.add({"users entries 1 looks": 4, "users entries 1 wrong": 1})
    monkeypatch.undo()

    assert {("TIME",), ("EVALSHA",), ("SCRIPT",)} >= {tuple(one[0] for one in some) for some in sent}
    assert {"users entries 1 looks": 7, "users entries 1 wrong": 1} == store.samples.counts(seconds=3_600)
    assert [b"two", b"one"] == store.samples.wrong(5)
    for key in (*slots(wire), keys.INCONSISTENT):
        assert REMEMBERED_S - 60 < wire.call("TTL", key) <= REMEMBERED_S


def test_only_the_latest_documents_are_remembered(store):
    """More than so many are not kept."""
    store.samples.add({}, [b"%d" % number for number in range(MOST_REMEMBERED + 5)])

    assert MOST_REMEMBERED == len(store.samples.wrong(MOST_REMEMBERED * 2))


def test_a_count_that_is_no_number_begins_anew(store, wire):
    """Other hands may have put it there; the others of the slot are counted all the same."""
    store.samples.add({"a": 1, "b": 1})
    [slot] = slots(wire)
    wire.call("HSET", slot, "a", "x")
    store.samples.add({"a": 2, "b": 2})

    assert {"a": 2, "b": 3} == store.samples.counts(seconds=300)


def test_a_full_redis_counts_nothing(pipeline):
    """And whoever looks goes on."""
    with full(pipeline.store._wire):
        pipeline.store.samples.add({"a": 1}, [b"one"])

    assert {} == pipeline.store.samples.counts(seconds=300)
