"""A history of dead letters that hold the only copy: nothing takes one away but replaying and discarding it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import bson
import pytest

from tests.commits import commit_one
from tests.dead_letters import letters_of
from tests.integration.kept_letters.conftest import ADA, OF, conflict, fill, is_counted, put, refuse, settle
from writebehind.documents import codec
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.errors import DocumentNotFoundError, RequestError
from writebehind.flushing.dead_letters import DeadLetter, DeadLetters, Filter, Found
from writebehind.redis.commits import CommitRequest
from writebehind.redis.letters import MOST_KEPT, RawLetter, kept_name
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.scripts import script
from writebehind.redis.store import Store


def delete(store: Store) -> Entry:
    return replace(DELETED, version=commit_one(store, CommitRequest(ADA.member, DELETED.payload, 0)).version)


def documents(letters: DeadLetters) -> list[tuple[str, int | None]]:
    """Of every letter the reason, and the number in its document; the newest first."""
    found = sorted(letters.all(Filter()), key=lambda one: one.letter.version, reverse=True)
    return [
        (one.letter.reason.value, bson.decode(one.letter.body)["n"] if one.letter.body else None) for one in found
    ]


def a_write(store: Store) -> None:
    put(store, 2)


def a_deletion(store: Store) -> None:
    delete(store)


def a_write_that_is_settled(store: Store) -> None:
    settle(store, put(store, 2))


def a_write_that_is_refused_and_another(store: Store) -> None:
    refuse(store, put(store, 2))
    put(store, 3)


def a_write_that_is_refused_and_then_settled(store: Store) -> None:
    settle(store, refuse(store, put(store, 2)))


def a_write_that_is_refused_and_discarded(store: Store) -> None:
    refused = refuse(store, put(store, 2))
    letters = letters_of(store)
    assert 1 == letters.discard([letters.show(ADA, refused.version)])


def a_write_that_is_refused_and_replayed(store: Store) -> None:
    refused = refuse(store, put(store, 2))
    letters = letters_of(store)
    assert letters.replay([letters.show(ADA, refused.version)])


def a_fill(store: Store) -> None:
    fill(store, Entry.loaded(codec.encode({"_id": ADA.value, "n": 9}), 1))


def an_invalidation(store: Store) -> None:
    a_fill(store)
    assert store.cache.invalidate_many([ADA.member])[0]


def a_late_settlement(store: Store) -> None:
    """By a flusher that was paused, of what others have made of the letter."""
    [letter] = letters_of(store).of(ADA)
    settle(store, Entry(letter.letter.version, Kind.DOCUMENT))


def another_loss(store: Store) -> None:
    put(store, 2)
    store._wire.call("DEL", OF.entry(ADA.member))
    assert Burial.BURIED is store.pending.bury(ADA.member, "", DeadLetter.lost(ADA.member).dump())


@pytest.mark.parametrize(
    "later",
    [
        a_write,
        a_deletion,
        a_write_that_is_settled,
        a_write_that_is_refused_and_another,
        a_write_that_is_refused_and_then_settled,
        a_write_that_is_refused_and_discarded,
        a_write_that_is_refused_and_replayed,
        a_fill,
        an_invalidation,
        a_late_settlement,
        another_loss,
    ],
)
@pytest.mark.parametrize("what", ["a document", "a deletion", "a loss"])
def test_nothing_takes_a_kept_letter_away(store, letters, what, later):
    """Whatever becomes of the document, the letter stays, with its document byte for byte."""
    entry = delete(store) if what == "a deletion" else put(store, 1)
    if what == "a loss":
        store._wire.call("DEL", OF.entry(ADA.member))
        assert Burial.BURIED is store.pending.bury(ADA.member, "", DeadLetter.lost(ADA.member).dump())
    else:
        conflict(store, entry)
    [before] = letters.all(Filter())

    later(store)

    assert before in list(letters.all(Filter()))
    assert before == replace(letters.show(ADA, before.letter.version), others=())
    assert (b"" if what == "a loss" else entry.body) == before.letter.body
    assert is_counted(store, letters)


def test_a_history_of_one_document(store, letters):
    """Several letters of one document stand side by side, and each is found, and given up, by its version."""
    first, second = (conflict(store, put(store, n)) for n in (1, 2))
    third = refuse(store, put(store, 3))

    assert [("refused", 3), ("conflict", 2), ("conflict", 1)] == documents(letters)
    assert [third.version, second.version, first.version] == [one.letter.version for one in letters.of(ADA)]
    shown = json.loads(letters.show(ADA).as_json())
    assert ({"_id": ADA.value, "n": 3}, [second.version, first.version]) == (
        shown["document"],
        shown["other_versions"],
    )
    assert 1 == bson.decode(letters.show(ADA, first.version).letter.body)["n"]
    with pytest.raises(RequestError, match=f"has 3 dead letters: say of which version: .*{first.version}"):
        letters.named(ADA)
    with pytest.raises(DocumentNotFoundError, match="no dead letter of version 7, but of"):
        letters.named(ADA, 7)

    assert 1 == letters.discard([letters.named(ADA, second.version)])

    assert [("refused", 3), ("conflict", 1)] == documents(letters)
    assert third.version == store.cache.get(ADA.member)[0].version
    assert is_counted(store, letters)


@pytest.mark.parametrize("how", ["replayed", "discarded"])
def test_nothing_is_left_of_a_letter(store, letters, how):
    """Once the last letter of a document is seen to, Redis keeps nothing for it, and takes writes again."""
    for n in range(MOST_KEPT):
        conflict(store, put(store, n))
    assert store._wire.call("SISMEMBER", OF.crowded, ADA.member)

    first, *others = letters.all(Filter())
    if how == "replayed":
        assert letters.replay([first], conflicts=True)
    else:
        assert 1 == letters.discard([first])
    assert not store._wire.call("SISMEMBER", OF.crowded, ADA.member)
    assert MOST_KEPT - 1 == letters.discard(others)

    assert 0 == store._wire.call("EXISTS", OF.kept(ADA.member), OF.crowded, OF.dead)
    assert {} == letters.by_collection()


def test_losses_are_counted_one_by_one(store, letters):
    """Each loss of one document is told, also by who has forgotten the time at which it was acknowledged."""
    for n in range(3):
        put(store, n)
        store._wire.call("DEL", OF.entry(ADA.member))
        store.pending.bury(ADA.member, "", DeadLetter.lost(ADA.member).dump())

    assert 3 == letters.count() == len({one.letter.version for one in letters.of(ADA)})
    assert {(None, None)} == {
        (one.letter.as_dict()["operation"], one.letter.as_dict()["acknowledged_at"]) for one in letters.of(ADA)
    }


def test_what_was_kept_first_stays(store, letters):
    """A version was acknowledged with one document: what other hands make of that version does not replace it."""
    entry = conflict(store, put(store, 1))
    forged = replace(Entry.loaded(codec.encode({"_id": ADA.value, "n": 666}), 0), version=entry.version)
    store._wire.call("SET", OF.entry(ADA.member), forged.value)
    store._wire.call("ZADD", OF.pending, 0, ADA.member)

    conflict(store, forged)

    assert [("conflict", 1)] == documents(letters)
    assert is_counted(store, letters)


@pytest.mark.parametrize("ahead", ["clock", "entry", "deletion", "mongodb"])
def test_a_replayed_version_is_the_newest(store, letters, ahead):
    """Its version is above all that were issued and all that are seen, though the server's clock steps back."""
    future = (time.time_ns() // 1000) + 3_600_000_000
    conflict(store, put(store, 1), **({"over": future} if ahead == "mongodb" else {}))
    if ahead == "clock":
        store._wire.call("SET", OF.clock, future)
    elif ahead == "entry":
        fill(store, Entry.loaded(codec.encode({"_id": ADA.value, "n": 9}), future))
    elif ahead == "deletion":
        store._wire.call("ZADD", OF.deleted, future, ADA.member)

    [version] = letters.replay([letters.named(ADA)], conflicts=True).values()

    assert future < version
    assert (version, 1) == ((now := store.cache.get(ADA.member)[0]).version, bson.decode(now.body)["n"])
    assert version < put(store, 2).version


def test_a_load_before_a_replay_is_not_cached_after_it(store, letters):
    """What a reader has asked MongoDB for is older than what is replayed meanwhile, wherever that is by then."""
    conflict(store, put(store, 1))
    assert store.loads.get_or_lease(ADA.member, "slow", life_ms=5_000).may_load
    letters.replay([letters.named(ADA)], conflicts=True)
    replayed, _ = store.cache.get(ADA.member)
    store.pending.settle(0, [Settled(ADA.member, replayed.version_digits, 0)], delay_ms=0)  # and dropped

    old = Entry.loaded(codec.encode({"_id": ADA.value, "n": 9}), 1)
    assert not store.loads.fill(ADA.member, "slow", old, ttl_ms=5_000).is_stored


def test_replaying_twice_gives_two_versions(store, letters):
    """Two replays in one microsecond, or after a step back of the clock, are told apart."""
    store._wire.call("SET", OF.clock, (time.time_ns() // 1000) + 3_600_000_000)
    versions = []
    conflict(store, put(store, 1))
    for _ in range(2):
        versions += letters.replay([letters.named(ADA)], conflicts=True).values()
        conflict(store, store.cache.get(ADA.member)[0])

    assert versions[0] < versions[1]


@pytest.mark.parametrize("newer", ["pending", "refused"])
def test_a_replay_goes_over_no_newer_write(store, letters, newer):
    """What only Redis has of a later write is not overwritten by an older one, not even where it is named."""
    old = conflict(store, put(store, 1))
    new = put(store, 2)
    if newer == "refused":
        refuse(store, new)

    done = letters.replay([letters.named(ADA, old.version)], conflicts=True)

    assert ({}, {"newer": 1}) == (done, done.left)
    assert new.version == store.cache.get(ADA.member)[0].version
    assert ("conflict", 1) in documents(letters)


def test_only_the_newest_of_many_is_replayed(store, letters):
    """Who replays many gets the last acknowledged state of each document, in whatever order they come."""
    old, new = (conflict(store, put(store, n)) for n in (1, 2))
    found = [letters.show(ADA, one.version) for one in (old, new)]

    done = letters.replay(found, conflicts=True, only_newest=True)

    assert ([ADA.member], {"newer": 1}) == ([*done], done.left)
    assert 2 == bson.decode(store.cache.get(ADA.member)[0].body)["n"]
    assert [("conflict", 1)] == documents(letters)


def test_why_letters_are_left(store, letters):
    """Each letter that is not replayed is counted with its reason."""
    conflict(store, put(store, 1))
    seen: Found = letters.show(ADA)

    assert {"conflict": 1} == letters.replay([seen]).left
    letters.discard([seen])
    assert {"changed": 1} == letters.replay([seen], conflicts=True).left
    another_loss(store)
    assert {"lost": 1} == letters.replay(letters.of(ADA), conflicts=True).left


def test_counts_that_are_wrong(store):
    """One of letters that are all gone, and one that is gone itself: both are told of, and put right."""
    refuse(store, put(store, 1))
    store._wire.call("HDEL", OF.dead_counts, "users")
    store._wire.call("HSET", OF.dead_counts, "pages", 3)
    keys = (OF.dead, OF.dead_counts)

    assert [b"pages", b"users"] == sorted(store._wire.run(script("recount_letters"), keys, ("0",)))
    assert [b"pages", b"users"] == sorted(store._wire.run(script("recount_letters"), keys, ("1",)))

    assert [b"1", b"0"] == store._wire.call("HMGET", OF.dead_counts, "users", "pages")
    assert [] == store._wire.run(script("recount_letters"), keys, ("0",))


@pytest.mark.parametrize("garbage", [b"garbage", b"", b"\xff\xfe", b"0" * 16 + b"[]"])
def test_what_is_kept_is_found_although_its_letter_is_unreadable(store, letters, garbage):
    """Other hands have made it so: another takes its place, by which the document is shown and tried again."""
    entry = conflict(store, put(store, 1))
    name = kept_name(ADA.member, entry.version_digits)
    store._wire.call("HSET", OF.dead, name, garbage)

    assert [("conflict", 1)] == documents(letters)
    assert is_counted(store, letters)

    assert entry.version < letters.replay([letters.show(ADA, entry.version)], conflicts=True)[ADA.member]
    assert 1 == bson.decode(store.cache.get(ADA.member)[0].body)["n"]


def test_a_letter_that_took_the_place_of_an_unreadable_one_stays(store, letters):
    """Whoever has seen the garbage comes late."""
    entry = conflict(store, put(store, 1))
    name = kept_name(ADA.member, entry.version_digits)

    assert not store.letters.mend(RawLetter(ADA.member, name, b"garbage"), b"")

    assert [("conflict", 1)] == documents(letters)
