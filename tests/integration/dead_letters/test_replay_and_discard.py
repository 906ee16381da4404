"""Dead letters are shown, tried again, and given up, one by one."""

from __future__ import annotations

import json
from base64 import b64decode

import bson
import pytest

from tests.integration.dead_letters.conftest import bury, document_id, put
from writebehind import times
from writebehind.documents import codec
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import DocumentNotFoundError
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Settled
from writebehind.redis.store import Store


def is_pending(store: Store, one: DocumentId) -> bool:
    return (
        one.member in store.unsettled.among([one.member])
        and not store.metrics.backlog()[store.partition_of(one.member)].dead
    )


def test_a_letter_survives_its_way_to_redis():
    """What is written is read again."""
    letter = DeadLetter("users/s:ada", Reason.CONFLICT, 1, "é", 5, Kind.DELETED, 2, 1.5, over=7)
    assert letter == DeadLetter.parse(letter.dump())


def test_show(letters, store):
    """A letter is shown with its document, as it was acknowledged, and with when and why it was refused."""
    letter = bury(store, "ada")

    shown = json.loads(letters.show(document_id("ada")).as_json())

    assert {"_id": "ada", "n": 1} == shown.pop("document")
    assert {"_id": "ada", "n": 1} == bson.decode(b64decode(shown.pop("bson")))
    assert {
        "collection": "users",
        "id": "ada",
        "reason": "refused",
        "code": 11000,
        "code_name": "DuplicateKey",
        "message": "dup",
        "operation": "put",
        "version": letter.version,
        "acknowledged_at": letter.version / 1e6,
        "acknowledged": times.shown(letter.version / 1e6),
        "failed_at": letter.failed_at,
        "failed": times.shown(letter.failed_at),
        "attempts": 2,
        "trace_id": None,
    } == shown
    with pytest.raises(DocumentNotFoundError, match="users/bob is no dead letter"):
        letters.show(document_id("bob"))


def test_replay(letters, store, hints):
    """A replayed document is pending with the version that it had, a flush task is wanted, and no letter left."""
    ada = document_id("ada")
    letter = bury(store, "ada")
    store.pending.release(store.partition_of(ada.member), "nobody")

    assert {ada.member: letter.version} == letters.replay([letters.show(ada)])

    entry, ttl = store.cache.get(ada.member)
    assert (letter.version, -1) == (entry.version, ttl)
    assert is_pending(store, ada)
    assert [(store.partition_of(ada.member), 0)] == [(hint.partition, hint.delay_ms) for hint in hints]
    assert ({}, 0) == (letters.by_collection(), letters.count())


def test_replays_ask_for_one_task_that_comes_soon(letters, store, hints):
    """One for all of them, and not none because a task comes much later."""
    names = [name for name in map(str, range(40)) if store.partition_of(document_id(name).member) == 0][:3]
    for name in names[:2]:
        bury(store, name)
    store._wire.call("DEL", partition_keys(0).scheduled)
    put(store, document_id(names[2]))

    assert 2 == len(letters.replay(letters.all(Filter())))

    assert 1 == len(hints)


def test_replay_of_what_has_changed(letters, store):
    """A letter that another write has revived, or that was replayed before, is left alone."""
    ada, bob = document_id("ada"), document_id("bob")
    bury(store, "ada")
    bury(store, "bob")
    seen = [letters.show(ada), letters.show(bob)]
    newer = put(store, ada, n=2)
    letters.replay(seen[1:])

    assert {} == letters.replay(seen)
    assert newer.version == store.cache.get(ada.member)[0].version
    assert {} == letters.by_collection()


def test_replay_of_a_conflict(letters, store):
    """The letter's document becomes the newest: over what MongoDB has, and over what is cached of that."""
    ada = document_id("ada")
    body = codec.encode({"_id": "ada", "n": "ours"})
    letter = bury(store, "ada", fields={"n": "ours"}, reason=Reason.CONFLICT)
    store.loads.get_or_lease(ada.member, "reader", life_ms=5_000)
    store.loads.fill(
        ada.member, "reader", Entry.loaded(codec.encode({"_id": "ada"}), letter.version + 5), ttl_ms=5_000
    )
    store._wire.call("SET", partition_keys(store.partition_of(ada.member)).load(ada.member), "late")

    assert {} == letters.replay([letters.show(ada)])
    [version] = letters.replay([letters.show(ada)], conflicts=True).values()

    assert version > letter.version
    entry, ttl = store.cache.get(ada.member)
    assert (version, body, -1) == (entry.version, entry.body, ttl)
    assert is_pending(store, ada)
    store._wire.call("DEL", partition_keys(store.partition_of(ada.member)).entry(ada.member))
    assert not store.loads.fill(ada.member, "late", entry, ttl_ms=5_000).is_stored


def test_replay_of_a_deletion_in_conflict(letters, store):
    """A deletion that MongoDB was ahead of becomes the newest state."""
    bury(store, "ada", reason=Reason.CONFLICT, kind=Kind.DELETED)

    letters.replay([letters.show(document_id("ada"))], conflicts=True)

    assert Kind.DELETED is store.cache.get(document_id("ada").member)[0].kind


def test_what_is_lost_cannot_be_replayed(letters, store):
    """Of a document whose entry is gone there is nothing to try: its letter stays."""
    bury(store, "ada", reason=Reason.LOST)
    letter = bury(store, "bob")
    store._wire.call("DEL", f"wb:{{{store.partition_of('users/s:bob')}}}:entry:users/s:bob")

    assert {} == letters.replay(list(letters.all(Filter())))
    assert {"users": 2} == letters.by_collection()
    assert b"" == letters.show(document_id("bob")).letter.body
    assert letter.version


def test_discard(letters, store):
    """Readers see what MongoDB has from then on: the entry is gone, and nobody's older load is cached."""
    ada = document_id("ada")
    bury(store, "ada")

    assert 1 == letters.discard([letters.show(ada)])

    assert (None, -2) == store.cache.get(ada.member)
    assert store.loads.get_or_lease(ada.member, "reader", life_ms=5_000).may_load
    assert {} == letters.by_collection()


def test_discard_of_what_has_changed(letters, store):
    """A newer write is never discarded with an old letter."""
    ada = document_id("ada")
    bury(store, "ada")
    seen = letters.show(ada)
    newer = put(store, ada, n=2)

    assert 0 == letters.discard([seen])
    assert newer.version == store.cache.get(ada.member)[0].version


def test_discard_of_a_conflict_leaves_what_is_cached(letters, store):
    """What readers see of a conflict is MongoDB's version already."""
    ada = document_id("ada")
    bury(store, "ada", reason=Reason.CONFLICT)
    store.loads.get_or_lease(ada.member, "reader", life_ms=5_000)
    mongodbs = Entry.loaded(codec.encode({"_id": "ada"}), 1 << 50)
    store.loads.fill(ada.member, "reader", mongodbs, ttl_ms=5_000)

    letters.discard([letters.show(ada)])

    assert mongodbs == store.cache.get(ada.member)[0]


def test_a_dead_letter_is_not_invalidated(store):
    """The entry of a dead letter has its only body, and outlives a change that somebody made in MongoDB."""
    bury(store, "ada")

    assert not store.cache.invalidate_many(["users/s:ada"])[0]
    assert store.cache.get("users/s:ada")[0].exists


def test_what_another_flusher_has_settled_is_not_buried(store, letters):
    """Of two flushers, the one that fails says nothing about what the other has brought to MongoDB."""
    ada = document_id("ada")
    entry = put(store, ada)
    settled = Settled(ada.member, entry.version_digits, 60_000)
    store.pending.settle(store.partition_of(ada.member), [settled], delay_ms=0)
    store.pending.bury(ada.member, entry.version_digits, b"{}")

    assert 0 == letters.count()


def test_what_is_buried_and_then_persisted_is_no_letter(store, letters):
    """When one flusher has given a version up and another brings it to MongoDB, it is not dead."""
    ada = document_id("ada")
    letter = bury(store, "ada")
    settled = Settled(ada.member, f"{letter.version:016d}", 60_000)
    store.pending.settle(store.partition_of(ada.member), [settled], delay_ms=0)

    assert (0, {}) == (letters.count(), letters.by_collection())
    assert 0 < store.cache.get(ada.member)[1] <= 60_000
