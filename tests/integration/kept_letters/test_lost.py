"""Dead letters whose document is lost: they say so, once, and stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.kept_letters.conftest import ADA, OF, conflict, fill, is_counted, put, refuse, settle
from writebehind.documents import codec
from writebehind.documents.entry import Entry
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.redis.letters import MOST_KEPT, kept_name
from writebehind.redis.scripts import script


@pytest.mark.parametrize("later", ["write", "settlement"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_letter_whose_document_is_lost(store, letters, later, filled):
    """Where its entry was deleted by hand, a later write knows nothing of it: the letter goes on telling of it."""
    refused = refuse(store, put(store, 1))
    store._wire.call("DEL", OF.entry(ADA.member))
    theirs = Entry.loaded(codec.encode({"_id": ADA.value, "n": 9}), 5)
    if filled:
        fill(store, theirs)
    if later == "write":
        refuse(store, put(store, 2))
    else:
        settle(store, theirs)

    assert refused.version in {one.letter.version for one in letters.all(Filter())}
    assert is_counted(store, letters)


def test_a_lost_letter_is_found_by_its_id(store, letters):
    """At once, beside what was written since: it is listed, shown and given up as it is named."""
    refused = refuse(store, put(store, 1))
    store._wire.call("DEL", OF.entry(ADA.member))
    newer = refuse(store, put(store, 2))

    assert [newer.version, refused.version] == [one.letter.version for one in letters.of(ADA)]
    assert b"" == letters.show(ADA, refused.version).letter.body
    assert 1 == letters.discard([letters.named(ADA, refused.version)])
    assert [newer.version] == [one.letter.version for one in letters.of(ADA)]
    assert is_counted(store, letters)


def test_lost_letters_of_one_document_are_bounded(store, letters):
    """They are among what is kept of it: at the bound no more writes to it are taken."""
    for n in range(MOST_KEPT):
        assert not store._wire.call("SISMEMBER", OF.crowded, ADA.member)
        refuse(store, put(store, n))
        store._wire.call("DEL", OF.entry(ADA.member))
    put(store, MOST_KEPT)

    assert store._wire.call("SISMEMBER", OF.crowded, ADA.member)
    assert MOST_KEPT == len(letters.of(ADA)) == letters.count()


def test_discarding_what_is_lost_leaves_what_is_cached(store, letters):
    """What was filled in place of a refused document is what MongoDB has: it stays."""
    refuse(store, put(store, 1))
    store._wire.call("DEL", OF.entry(ADA.member))
    theirs = Entry.loaded(codec.encode({"_id": ADA.value, "n": 9}), 5)
    fill(store, theirs)

    assert 1 == letters.discard([letters.named(ADA)])

    assert theirs == store.cache.get(ADA.member)[0]


@pytest.mark.parametrize("there", ["the entry", "what is kept", "another letter"])
def test_a_document_that_is_there_again_is_not_lost(store, letters, there):
    """A reconciling pass looks once more in the step that says so: else its letter stays as it is."""
    entry = put(store, 1)
    conflict(store, entry) if there == "what is kept" else refuse(store, entry)
    [found] = letters.all(Filter())
    if there == "another letter":
        store._wire.call("DEL", OF.entry(ADA.member))
        refuse(store, put(store, 2))
    before = sorted(letters.all(Filter()), key=lambda one: one.raw.name)
    lost = replace(found.letter, reason=Reason.LOST).dump()
    keys = (OF.dead, OF.dead_counts, OF.entry(ADA.member), OF.kept(ADA.member), OF.crowded)

    assert 0 == store._wire.run(
        script("mark_letter_lost"), keys, (ADA.member, found.raw.name, found.raw.value, lost, MOST_KEPT)
    )

    assert before == sorted(letters.all(Filter()), key=lambda one: one.raw.name)


@pytest.mark.parametrize("later", ["write", "reconciling pass"])
def test_a_lost_letter_that_is_there_already_counts_once(store, letters, later):
    """As when another one has said before that its document is lost."""
    refused = refuse(store, put(store, 1))
    [found] = letters.all(Filter())
    store._wire.call("HSET", OF.dead, kept_name(ADA.member, refused.version_digits), found.raw.value)
    store._wire.call("HINCRBY", OF.dead_counts, "users", 1)
    store._wire.call("DEL", OF.entry(ADA.member))

    if later == "write":
        put(store, 2)
    else:
        keys = (OF.dead, OF.dead_counts, OF.entry(ADA.member), OF.kept(ADA.member), OF.crowded)
        lost = replace(found.letter, reason=Reason.LOST).dump()
        assert 1 == store._wire.run(
            script("mark_letter_lost"), keys, (ADA.member, found.raw.name, found.raw.value, lost, MOST_KEPT)
        )

    assert 1 == letters.count()
    assert is_counted(store, letters)


def test_what_is_said_to_be_lost_is_bounded_too(store, letters):
    """A document of which so much is kept takes no more writes, whoever has found out."""
    refuse(store, put(store, 1))
    [found] = letters.all(Filter())
    store._wire.call("DEL", OF.entry(ADA.member))
    keys = (OF.dead, OF.dead_counts, OF.entry(ADA.member), OF.kept(ADA.member), OF.crowded)

    assert 1 == store._wire.run(
        script("mark_letter_lost"), keys, (ADA.member, found.raw.name, found.raw.value, found.raw.value, 1)
    )

    assert 1 == store._wire.call("SISMEMBER", OF.crowded, ADA.member)


def test_which_letters_have_no_document(store, letters):
    """Those that have gone meanwhile are none; one that says it already is one if it is not found by its id."""
    put(store, 1)
    store._wire.call("DEL", OF.entry(ADA.member))
    store.pending.bury(ADA.member, "", DeadLetter.lost(ADA.member).dump())
    [found] = letters.all(Filter())
    keys, names = (OF.dead, OF.kept(ADA.member), OF.entry("users/s:gone")), (found.raw.name, "users/s:gone")

    assert [] == store._wire.run(script("find_orphans"), keys, names)
    store._wire.call("DEL", OF.kept(ADA.member))
    assert [found.raw.name.encode()] == store._wire.run(script("find_orphans"), keys, names)


def test_nothing_is_replayed_of_a_document_that_is_lost(valkey_wire):
    """The atomic step says so itself, whoever asks: what is kept of the version is empty."""
    letter, name = b"0000000000000007{}", "users@0000000000000007/s:ada"
    keys = tuple(
        f"{{k}}:{one}"
        for one in [
            "entry",
            "pending",
            "dead",
            "counts",
            "scheduled",
            "clock",
            "load",
            "kept",
            "crowded",
            "deleted",
            "written",
        ]
    )
    valkey_wire.call("HSET", "{k}:dead", name, letter)
    valkey_wire.call("HSET", "{k}:kept", "0000000000000007", "")

    answer = valkey_wire.run(script("replay"), keys, ("users/s:ada", name, letter, "", 0, 10_000, 100))

    assert [b"lost", b"", b""] == answer
    assert 0 == valkey_wire.call("EXISTS", "{k}:entry", "{k}:pending")
