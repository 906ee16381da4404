"""Dead letters that nobody else has the document of: no write, fill or repair takes one away."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import bson
import pytest

from tests.commits import commit_one
from tests.dead_letters import letters_of
from tests.integration.conftest import again, flush_all
from writebehind import Pipeline
from writebehind.collection import BulkOperation
from writebehind.documents import codec
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import DocumentNotFoundError, RequestError, TooManyDeadLettersError
from writebehind.flushing.dead_letters import DeadLetter, DeadLetters, Filter, Found, Reason
from writebehind.operations.drain import drain
from writebehind.operations.repartition import NotDrainedError, repartition
from writebehind.redis.keys import partition_keys
from writebehind.redis.letters import MOST_KEPT, RawLetter, kept_name
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.scripts import script
from writebehind.redis.store import CommitRequest, Store
from writebehind.writing.writer import Written

ADA = DocumentId.of("users", "ada@1234567890123456/é")  # whatever its id looks like
OF = partition_keys(0)


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, partitions=1, max_pending=10_000, tombstone_ttl_ms=60_000)


@pytest.fixture
def letters(store, hints) -> DeadLetters:
    return letters_of(store, hints)


def put(store: Store, n: int) -> Entry:
    entry = Entry.loaded(codec.encode({"_id": ADA.value, "n": n}), 0)
    return replace(entry, version=commit_one(store, CommitRequest(ADA.member, entry.payload, 0)).version)


def delete(store: Store) -> Entry:
    return replace(DELETED, version=commit_one(store, CommitRequest(ADA.member, DELETED.payload, 0)).version)


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


def documents(letters: DeadLetters) -> list[tuple[str, int | None]]:
    """Of every letter the reason, and the number in its document; the newest first."""
    found = sorted(letters.all(Filter()), key=lambda one: one.letter.version, reverse=True)
    return [
        (one.letter.reason.value, bson.decode(one.letter.body)["n"] if one.letter.body else None) for one in found
    ]


def is_counted(store: Store, letters: DeadLetters) -> bool:
    """Whether the counts are what is there."""
    wrong = store._wire.run(script("recount_letters"), (OF.dead, OF.dead_counts), ("0",))
    there = len(list(letters.all(Filter())))
    return not wrong and letters.count() == there == letters.by_collection().get("users", 0)


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


# Replaying --------------------------------------------------------------------------------------------


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
    assert not store.loads.fill(ADA.member, "slow", old, ttl_ms=5_000)


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


# Losing -----------------------------------------------------------------------------------------------


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


# On MongoDB -------------------------------------------------------------------------------------------


@pytest.fixture
def yielding(pipeline) -> Pipeline:
    """The same, where the changes of others win."""
    theirs = pipeline.settings.collections["users"].model_copy(update={"on_conflict": "theirs"})
    settings = pipeline.settings.model_copy(
        update={"collections": pipeline.settings.collections | {"users": theirs}}
    )
    return Pipeline(settings, wire=pipeline.store._wire, client=pipeline._client)


def lose(pipeline: Pipeline, name: str, n: int) -> int:
    """Write a document, and let the write yield to what MongoDB has; its version."""
    written = pipeline.collection("users").put(name, {"n": n})
    member = f"users/s:{name}"
    letter = DeadLetter(member, Reason.CONFLICT, 0, "theirs", written.version, Kind.DOCUMENT, 0, time.time())
    digits = f"{written.version:016d}"
    assert Burial.BURIED is pipeline.store.pending.bury(member, digits, letter.dump(), drop_entry=True)
    return written.version


@pytest.mark.parametrize("how", ["once more", "over what is newer"])
def test_replaying_many_goes_over_no_later_write(yielding, stored, how):
    """A conflict's letter that was overtaken by writes through the pipeline is left; one by itself is replayed."""
    stored.insert_one({"_id": "ada", "n": 8})
    lose(yielding, "ada", 1)
    lose(yielding, "ada", 2)
    if how == "over what is newer":
        yielding.collection("users").put("ada", {"n": 3})
        flush_all(yielding)
        yielding.store.cache.invalidate_many(["users/s:ada"])[0]

    def replay_all() -> dict[str, int]:
        found = list(yielding.dead_letters.all(Filter(reason="conflict")))
        done = yielding.dead_letters.replay(found, conflicts=True, only_newest=True)
        flush_all(yielding)
        return dict(done.left)

    if how == "once more":
        assert {"newer": 1} == replay_all()
        assert 2 == stored.find_one({"_id": "ada"})["n"]
        assert {"newer": 1} == replay_all()  # a command that runs every hour does not walk back through history
        assert 2 == stored.find_one({"_id": "ada"})["n"]
    else:
        assert {"newer": 2} == replay_all()
        assert 3 == stored.find_one({"_id": "ada"})["n"]


def test_a_document_that_has_too_many(yielding, monkeypatch):
    """At the bound a write to that document is refused, and says why; none is dropped, and others are taken."""
    monkeypatch.setattr("writebehind.redis.load_sample.SAMPLE_EVERY_S", 0.0)
    users = yielding.collection("users")
    versions = [lose(yielding, "ada", n) for n in range(MOST_KEPT)]

    with pytest.raises(TooManyDeadLettersError, match=f"this document of users has {MOST_KEPT} dead letters"):
        users.put("ada", {"n": -1})
    operations = [BulkOperation("put", name, {"n": -1}) for name in ("ada", "bob")]
    assert [TooManyDeadLettersError, Written] == [type(one) for one in users.bulk(operations)]
    assert (
        versions == [one.letter.version for one in yielding.dead_letters.of(DocumentId.of("users", "ada"))][::-1]
    )

    one = yielding.dead_letters.named(DocumentId.of("users", "ada"), versions[0])
    yielding.dead_letters.discard([one])
    users.put("ada", {"n": -1})


def test_a_document_that_has_too_many_and_is_pending(yielding, monkeypatch):
    """What is pending already may be overwritten: it needs no room, and a further letter is kept all the same."""
    monkeypatch.setattr("writebehind.redis.load_sample.SAMPLE_EVERY_S", 0.0)
    for n in range(MOST_KEPT - 1):
        lose(yielding, "ada", n)
    yielding.collection("users").put("ada", {"n": "pending"})

    lose(yielding, "ada", MOST_KEPT)

    assert MOST_KEPT == yielding.dead_letters.count()
    assert {f"{MOST_KEPT}"} == {str(yielding.status()["dead_letters_by_collection"]["users"])}


def test_redis_is_not_divided_anew_over_a_kept_letter(yielding, monkeypatch):
    """It counts as what only Redis has: draining tells of it, and repartitioning refuses."""
    monkeypatch.setattr("writebehind.operations.repartition.SAMPLE_EVERY_S", 0.0)
    yielding.check()
    lose(yielding, "ada", 1)

    assert 1 == drain(yielding, timeout_s=5).dead_letters
    with pytest.raises(NotDrainedError, match="there are 1 dead letters"):
        repartition(yielding, 8)
    partition = yielding.store.partition_of("users/s:ada")
    assert [partition] == yielding.store.division.astray(partition)

    yielding.dead_letters.discard(list(yielding.dead_letters.all(Filter())))
    repartition(yielding, 8)
    assert 0 == again(yielding, 8).dead_letters.count()


def test_one_of_several_on_the_command_line(yielding, run, stored):
    """`--version` names one of the letters of a document; without it a change says which there are."""
    stored.insert_one({"_id": "ada", "n": 8})
    old, new = lose(yielding, "ada", 1), lose(yielding, "ada", 2)

    shown = json.loads(run("dead-letters", "show", "users", "ada").stdout)
    assert (2, new, [old]) == (shown["document"]["n"], shown["version"], shown["other_versions"])
    result = run("dead-letters", "show", "users", "ada", "--version", str(old))
    assert {"_id": "ada", "n": 1} == json.loads(result.stdout)["document"]
    for change in (("replay",), ("discard", "--yes")):
        with pytest.raises(RequestError, match=f"say of which version: {new}, {old}"):
            run("dead-letters", *change, "users", "ada")
        assert 2 == run("dead-letters", *change, "--all", "--version", str(old)).exit_code
    assert "1 replayed; 1 left: 1 newer" in run("dead-letters", "replay", "--reason", "conflict", "--wait").stdout
    assert 2 == stored.find_one({"_id": "ada"})["n"]
    assert "1 discarded" in run("dead-letters", "discard", "users", "ada", "--version", str(old), "--yes").stdout
    assert 0 == yielding.dead_letters.count()


@pytest.mark.parametrize("lost", ["the entry", "the entry, and filled", "what is kept", "overwritten"])
def test_reconciling_tells_of_what_is_lost(yielding, stored, lost):
    """A letter whose document somebody deleted in Redis says so, once; and stays, whatever is written then."""
    stored.create_index("mail", unique=True)
    stored.insert_many([{"_id": "first", "mail": "same"}, {"_id": "ada", "n": 8}])
    users, wire = yielding.collection("users"), yielding.store._wire
    of = partition_keys(yielding.store.partition_of("users/s:ada"))
    if lost == "what is kept":
        version = lose(yielding, "ada", 1)
        wire.call("DEL", of.kept("users/s:ada"))
    else:
        version = users.put("ada", {"mail": "same"}).version
        flush_all(yielding)
        wire.call("DEL", of.entry("users/s:ada"))
        if lost == "the entry, and filled":
            assert 8 == users.get("ada")["n"]
        if lost == "overwritten":
            users.put("ada", {"n": 7})
            flush_all(yielding)

    assert {"orphaned-letter": 1} == yielding.reconciler.make_pass(repair=False).found
    assert {"orphaned-letter": 1} == yielding.reconciler.make_pass().repaired
    assert {} == yielding.reconciler.make_pass().found
    users.put("ada", {"n": 3})
    flush_all(yielding)
    [letter] = yielding.dead_letters.of(DocumentId.of("users", "ada"))
    assert (Reason.LOST, version) == (letter.letter.reason, letter.letter.version)
    assert {"users": 1} == yielding.dead_letters.by_collection()


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
        ]
    )
    valkey_wire.call("HSET", "{k}:dead", name, letter)
    valkey_wire.call("HSET", "{k}:kept", "0000000000000007", "")

    answer = valkey_wire.run(script("replay"), keys, ("users/s:ada", name, letter, "", 0, 10_000, 100))

    assert [b"lost", b"", b""] == answer
    assert 0 == valkey_wire.call("EXISTS", "{k}:entry", "{k}:pending")


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
