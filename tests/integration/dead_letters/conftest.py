"""Dead letters in Redis alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.commits import commit_one
from tests.dead_letters import letters_of
from writebehind.documents import codec
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.flushing.dead_letters import DeadLetter, DeadLetters, Reason
from writebehind.redis.commits import CommitRequest
from writebehind.redis.pending import Burial
from writebehind.redis.store import Store

PARTITIONS = 4


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, database="shop", partitions=PARTITIONS, max_pending=10_000, tombstone_ttl_ms=60_000)


@pytest.fixture
def letters(store, hints) -> DeadLetters:
    return letters_of(store, hints)


def document_id(name: str, collection: str = "users") -> DocumentId:
    return DocumentId.of(collection, name)


def put(store: Store, one: DocumentId, **fields: object) -> Entry:
    body = codec.encode({"_id": one.value} | fields)
    entry = Entry.loaded(body, 0)
    return replace(entry, version=commit_one(store, CommitRequest(one.member, entry.payload, 60_000)).version)


def bury(
    store: Store, name: str, collection: str = "users", *, fields: dict | None = None, **changes: object
) -> DeadLetter:
    """Write a document and let it be refused, or lose a conflict; or lose its entry."""
    one = document_id(name, collection)
    entry = put(store, one, **(fields or {"n": 1}))
    if changes.get("kind") is Kind.DELETED:
        entry = replace(
            DELETED, version=commit_one(store, CommitRequest(one.member, DELETED.payload, 60_000)).version
        )
    if changes.get("reason") is Reason.LOST:
        store._wire.call("DEL", store.cache.key(one.member))
        letter = DeadLetter.lost(one.member)
        assert Burial.BURIED is store.pending.bury(one.member, "", letter.dump())
        return letter
    letter = DeadLetter(one.member, Reason.REFUSED, 11000, "dup", entry.version, Kind.DOCUMENT, 2, time.time())
    letter = replace(letter, **changes)
    conflicts = letter.reason is Reason.CONFLICT
    assert Burial.BURIED is store.pending.bury(
        one.member, entry.version_digits, letter.dump(), drop_entry=conflicts
    )
    return letter
