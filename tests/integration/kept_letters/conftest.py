"""A document with dead letters that hold the only copy, and what may happen to them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.commits import commit_one
from tests.dead_letters import letters_of
from writebehind.documents import codec
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.flushing.dead_letters import DeadLetter, DeadLetters, Filter, Reason
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.scripts import script
from writebehind.redis.store import Store

ADA = DocumentId.of("users", "ada@1234567890123456/é")  # whatever its id looks like
OF = partition_keys(0)


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, database="shop", partitions=1, max_pending=10_000, tombstone_ttl_ms=60_000)


@pytest.fixture
def letters(store, hints) -> DeadLetters:
    return letters_of(store, hints)


def put(store: Store, n: int) -> Entry:
    entry = Entry.loaded(codec.encode({"_id": ADA.value, "n": n}), 0)
    return replace(entry, version=commit_one(store, CommitRequest(ADA.member, entry.payload, 0)).version)


def letter_of(entry: Entry, reason: Reason, **more: int) -> DeadLetter:
    return DeadLetter(ADA.member, reason, 0, "why", entry.version, entry.kind, 1, time.time(), **more)


def conflict(store: Store, entry: Entry, **more: int) -> Entry:
    """Let a pending entry lose: MongoDB has what stands."""
    letter = letter_of(entry, Reason.CONFLICT, **more).dump()
    assert Burial.BURIED is store.pending.bury(ADA.member, entry.version_digits, letter, drop_entry=True)
    return entry


def refuse(store: Store, entry: Entry) -> Entry:
    letter = letter_of(entry, Reason.REFUSED).dump()
    assert Burial.BURIED is store.pending.bury(ADA.member, entry.version_digits, letter)
    return entry


def settle(store: Store, entry: Entry) -> None:
    store.pending.settle(0, [Settled(ADA.member, entry.version_digits, 60_000)], delay_ms=0)


def fill(store: Store, entry: Entry) -> None:
    assert store.loads.get_or_lease(ADA.member, "reader", life_ms=5_000).may_load
    assert store.loads.fill(ADA.member, "reader", entry, ttl_ms=5_000)


def is_counted(store: Store, letters: DeadLetters) -> bool:
    """Whether the counts are what is there."""
    wrong = store._wire.run(script("recount_letters"), (OF.dead, OF.dead_counts), ("0",))
    there = len(list(letters.all(Filter())))
    return not wrong and letters.count() == there == letters.by_collection().get("users", 0)
