"""Kept dead letters, on MongoDB: replayed, bounded, on the command line, and found by reconciling."""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.conftest import again, flush_all
from writebehind import Pipeline
from writebehind.collection import BulkOperation
from writebehind.documents.entry import Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import RequestError, TooManyDeadLettersError
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.operations.drain import drain
from writebehind.operations.repartition import NotDrainedError, repartition
from writebehind.redis.keys import partition_keys
from writebehind.redis.letters import MOST_KEPT
from writebehind.redis.pending import Burial
from writebehind.writing.writer import Written


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
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
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
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    for n in range(MOST_KEPT - 1):
        lose(yielding, "ada", n)
    yielding.collection("users").put("ada", {"n": "pending"})

    lose(yielding, "ada", MOST_KEPT)

    assert MOST_KEPT == yielding.dead_letters.count()
    assert {f"{MOST_KEPT}"} == {str(yielding.status()["dead_letters_by_collection"]["users"])}


def test_redis_is_not_divided_anew_over_a_kept_letter(yielding, monkeypatch):
    """It counts as what only Redis has: draining tells of it, and repartitioning refuses."""
    monkeypatch.setattr("writebehind.operations.idle.SAMPLE_EVERY_S", 0.0)
    yielding.check()
    lose(yielding, "ada", 1)

    assert 1 == drain(yielding, timeout_s=5).dead_letters
    with pytest.raises(NotDrainedError, match="1 dead letter is left"):
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
