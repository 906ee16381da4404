"""Claims of unique values: what writes, settles and replays make of them, whoever dies or is overtaken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import bson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.unique_fields.conftest import after_once, lasting, name_of
from writebehind import Pipeline
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.raw_bson import split_version
from writebehind.errors import RedisUnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.redis.derived.aliases import MOST_FIRST, Claim
from writebehind.redis.scripts import script


def before_once(monkeypatch, target: object, method: str, step: Callable[[], object]) -> None:
    """Do something between what was before this call and the call: once."""
    original = getattr(target, method)

    def delayed(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(target, method, original)
        step()
        return original(*args, **kwargs)

    monkeypatch.setattr(target, method, delayed)


def die(*_: object) -> None:
    raise KeyboardInterrupt


def cut_off(*_: object) -> None:
    raise RedisUnavailableError("cut off")


def write_without_claims(users, pipeline: Pipeline, name: str, document: dict) -> None:
    """A write after whose commit Redis breaks off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.store.aliases, "claim", cut_off)
        with pytest.raises(RedisUnavailableError):
            users.put(name, document)


def test_a_claim_of_a_newer_write_stands(pipeline, users):
    """No older write changes it, be it that its writer is late or that it is settled."""
    users.put("u1", {"username": "ada"})
    write = (users.id("u1"), users.read("u1").entry)
    newer = users.put("u1", {"username": "ada", "age": 36})
    claim = Claim("users/username=s:ada", "users/s:u1", newer.version)
    for late in (pipeline.lookups.written, pipeline.lookups.settled):
        late([write], users.settings)
        assert [claim] == pipeline.store.aliases.claims([claim.name])
    assert not pipeline.store.aliases.let_go(replace(claim, version=write[1].version), ttl_ms=1_000)
    assert [claim] == pipeline.store.aliases.claims([claim.name])


def test_very_many_claims(pipeline, users, asked):
    """A lookup reads a few of them only, and yet finds whoever has the value, behind those who have it no more."""
    assert name_of(users, "ada") is None  # which is remembered
    name, count = "users/username=s:ada", 5 * MOST_FIRST
    users.put("first", {"username": "ada"})
    asked.clear()
    [claim] = pipeline.store.aliases.claims([name])
    key = pipeline.store.aliases._keys(name)[2]
    for n in range(count):
        pipeline.store._wire.call("ZADD", key, claim.version + n + 1, f"users/s:gone{n}")

    assert MOST_FIRST + 1 >= len(pipeline.store.aliases.get(name).members)
    assert "first" == name_of(users, "ada")
    users.put("last", {"username": "ada"})
    pipeline.store._wire.call("ZADD", key, claim.version + count + 1, "users/s:last")
    assert "last" == name_of(users, "ada")
    assert [] == asked


def test_former_values_are_not_kept(pipeline, users):
    """A document that is renamed again and again while MongoDB is away claims no more than its last value."""
    for n in range(20):
        users.put("u1", {"username": f"name {n}"})
    assert ["aliasclaims:users/username=s:name 19", "claimed:users/s:u1"] == lasting(pipeline)
    users.delete("u1")
    assert [] == lasting(pipeline)


def test_a_document_settled_before_its_values_are_claimed(pipeline, users, monkeypatch):
    """A flusher may be faster than the writer: nothing is left without TTL, and the document is found."""
    assert name_of(users, "ada") is None
    before_once(monkeypatch, pipeline.lookups, "written", lambda: flush_all(pipeline))
    users.put("u1", {"username": "ada"})
    assert [] == lasting(pipeline)
    assert "u1" == name_of(users, "ada")


def test_claims_of_two_writers_of_one_document(pipeline, other, users, monkeypatch):
    """A writer that claims after a newer one leaves nothing behind, be it for the same value or another one."""
    for newer in ({"username": "ada", "age": 36}, {"username": "countess"}):
        before_once(
            monkeypatch,
            pipeline.lookups,
            "written",
            lambda newer=newer: other.collection("users").put("u1", newer),
        )
        users.put("u1", {"username": "ada"})
        found = {"ada", "countess"} & {name for name in ("ada", "countess") if name_of(users, name)}
        assert {newer["username"]} == found
        assert [f"aliasclaims:users/username=s:{newer['username']}", "claimed:users/s:u1"] == lasting(pipeline)
        flush_all(pipeline)
        assert [] == lasting(pipeline)


def test_a_writer_that_was_overtaken_misleads_nobody(pipeline, other, users, monkeypatch):
    """A document that another one has taken a value over from does not claim it afterwards, however late."""

    def takes_over() -> None:
        other.collection("users").put("u1", {"username": "x"})
        other.collection("users").put("u2", {"username": "ada"})

    before_once(monkeypatch, pipeline.lookups, "written", takes_over)
    users.put("u1", {"username": "ada"})
    assert ["u2", "u2"] == [name_of(users, "ada") for _ in range(2)]
    flush_all(pipeline)
    assert ("u2", []) == (name_of(users, "ada"), lasting(pipeline))


@pytest.mark.parametrize("look", [1, 2])
def test_a_value_that_comes_back(pipeline, users, monkeypatch, look):
    """A reader that saw a document without the value does not hide that it was given to it again."""
    users.put("u1", {"username": "x"})
    flush_all(pipeline)
    users.put("u1", {"username": "ada"})
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "written", lambda *_: None)  # its writer is slow
        users.put("u1", {"username": "x"})
    follow, looks = pipeline.lookups._follow, []

    def slow(*wanted: object) -> object:
        found = follow(*wanted)
        looks.append(found)
        if len(looks) == look:
            users.put("u1", {"username": "ada"})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "_follow", slow)
        after_once(patch, pipeline.sink, "find_by", lambda: flush_all(pipeline))
        name_of(users, "ada")  # began before
    assert looks[look - 1] is None
    assert "u1" == name_of(users, "ada")


def test_two_documents_with_one_value(users):
    """The one that was written last is found; when it gives the value up, it is the other one."""
    users.put("u1", {"username": "ada"})
    users.put("u2", {"username": "ada"})
    assert "u2" == name_of(users, "ada")
    users.put("u2", {"username": "x"})
    assert "u1" == name_of(users, "ada")


def test_a_writer_that_dies_before_it_claims(pipeline, users, monkeypatch):
    """Its write was not acknowledged, but stands; nothing stays for good."""
    users.put("u1", {"username": "ada"})
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "written", lambda *_: None)
        users.put("u1", {"username": "countess"})
    assert name_of(users, "ada") is None
    flush_all(pipeline)
    assert ([], None, "u1") == (lasting(pipeline), name_of(users, "ada"), name_of(users, "countess"))


@pytest.mark.parametrize("asked", ["before", "meanwhile"])
def test_a_write_whose_values_were_not_claimed(pipeline, users, monkeypatch, asked):
    """Redis broke off, so it may have happened: it is found once MongoDB has it, whoever asked before that.

    Who asked meanwhile may be answered by what MongoDB had then, and nothing of that stays.
    """
    if asked == "before":
        assert name_of(users, "ada") is None
    write_without_claims(users, pipeline, "u1", {"username": "ada"})
    if asked == "before":
        flush_all(pipeline)
    else:
        after_once(monkeypatch, pipeline.sink, "find_by", lambda: flush_all(pipeline))
        assert name_of(users, "ada") in {None, "u1"}
    assert ["u1", "u1"] == [name_of(users, "ada") for _ in range(2)]
    assert [] == lasting(pipeline)


def test_a_flusher_that_dies_before_it_releases_claims(pipeline, users, monkeypatch):
    """What it has settled is found, though nobody flushes it once more and it was not claimed either."""
    assert name_of(users, "ada") is None
    write_without_claims(users, pipeline, "u1", {"username": "ada"})
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "settled", die)
        with pytest.raises(KeyboardInterrupt):
            flush_all(pipeline)
    assert 0 == pipeline.status()["pending"]
    assert "u1" == name_of(users, "ada")


def test_what_settling_costs(pipeline, monkeypatch):
    """One command, and another for each unique value, in the same round trip."""
    trips: list[list[tuple]] = []
    exchange = pipeline.store._wire.exchange
    for collection in ("users", "others"):  # the steps are known to the server
        pipeline.collection(collection).put("u0", {"username": "eve"})
    flush_all(pipeline)
    monkeypatch.setattr(pipeline.store._wire, "exchange", lambda some: trips.append(list(some)) or exchange(some))
    for collection, cost in (("users", 2), ("others", 1)):
        pipeline.collection(collection).put("u1", {"username": "ada"})
        trips.clear()
        flush_all(pipeline)
        settle = script("settle").sha1
        assert [cost] == [len(some) for some in trips if any(settle in one for one in some)]


def test_a_kept_letter_that_is_replayed(config, valkey_wire, mongo_client):
    """It is found by its value from the answer on, although nobody had it for a while, and that is known."""
    theirs = {"users": config.collections["users"].model_copy(update={"on_conflict": "theirs"})}
    pipeline = Pipeline(config.model_copy(update={"collections": theirs}), wire=valkey_wire, client=mongo_client)
    users, stored = pipeline.collection("users"), mongo_client[config.mongodb_database]["users"]
    users.put("u1", {"username": "x"})
    flush_all(pipeline)
    users.put("u1", {"username": "ada"})
    stored.update_one({"_id": "u1"}, {"$set": {"username": "theirs"}})
    after = Entry.loaded(*split_version(bson.encode(stored.find_one())))
    pipeline.applier.apply([OutsideChange(users.id("u1"), "update", pipeline.store.now_ms() + 5_000, after)])
    [letter] = pipeline.dead_letters.all(Filter())
    users.put("u1", {"username": "third"})
    flush_all(pipeline)
    assert name_of(users, "ada") is None
    assert pipeline.dead_letters.replay([letter], conflicts=True)
    assert ("u1", None) == (name_of(users, "ada"), name_of(users, "third"))
    flush_all(pipeline)
    assert ("u1", "ada", []) == (name_of(users, "ada"), stored.find_one()["username"], lasting(pipeline))


def test_a_refused_letter_that_is_replayed(pipeline, users, stored):
    """So is one of a write whose values were not claimed."""
    stored.create_index("number", unique=True, sparse=True)
    stored.insert_one({"_id": "u0", "number": 1})
    assert name_of(users, "ada") is None
    write_without_claims(users, pipeline, "u1", {"username": "ada", "number": 1})
    flush_all(pipeline)
    pipeline.dead_letters.replay(pipeline.dead_letters.all(Filter()))
    assert "u1" == name_of(users, "ada")
    stored.delete_one({"_id": "u0"})
    flush_all(pipeline)
    assert ("u1", []) == (name_of(users, "ada"), lasting(pipeline))


def test_what_a_write_costs(pipeline, users, monkeypatch):
    """Two round trips to Redis, and a third where a value is given up."""
    trips: list[int] = []
    calls = pipeline.store._wire.exchange
    users.put("u0", {"username": "eve"})  # the steps are known to the server
    users.put("u0", {"username": "eva"})
    monkeypatch.setattr(pipeline.store._wire, "exchange", lambda some: trips.append(len(some)) or calls(some))
    for document, cost in (({"username": "ada"}, 2), ({"username": "ada", "n": 1}, 2), ({"username": "x"}, 3)):
        trips.clear()
        users.put("u1", document)
        assert cost == len(trips)


def test_the_newest_claim_is_followed_first_and_none_in_vain_twice(valkey_wire):
    """Who has followed all of them asks MongoDB, with the right to do so."""
    keys, step = ("{k}:alias", "{k}:load", "{k}:claims"), script("get_or_lease_alias")
    valkey_wire.call("ZADD", "{k}:claims", 1, "older", 2, "newer")

    kind, state, _, members = valkey_wire.run(step, keys, ("t", 5_000, ""))

    assert (b"alias", [b"newer", b"older"]) == (kind, members)
    assert [b"load"] == valkey_wire.run(step, keys, ("t", 5_000, state))
    assert [b"wait"] == valkey_wire.run(step, keys, ("u", 5_000, state))
    assert 1 == valkey_wire.run(script("fill_derived"), keys[:2], ("t", "newer", 5_000))
    assert 0 == valkey_wire.call("EXISTS", "{k}:load")


def test_the_claim_of_a_dead_letter_stands(valkey_wire):
    """MongoDB does not have it, though it is not pending any more when its values are noted."""
    keys, step = ("{k}:claimed", "{k}:pending", "{k}:dead"), script("record_claims")
    valkey_wire.call("HSET", "{k}:dead", "users/s:a", "0000000000000005{}")

    assert [b"4", b"0"] == valkey_wire.run(step, keys, ("users/s:a", 5, "0", "users/name=s:x"))

    assert b"5" == valkey_wire.call("ZSCORE", "{k}:claimed", "users/name=s:x")


def test_a_late_writer_makes_no_claim_older(valkey_wire):
    """The newer write has claimed all its values: only what is older than that is released."""
    keys, name = ("{k}:claimed", "{k}:pending", "{k}:dead"), "users/name=s:x"
    valkey_wire.call("ZADD", "{k}:pending", 1, "users/s:a")
    valkey_wire.call("ZADD", "{k}:claimed", 9, name)

    assert [b"8", b"0"] == valkey_wire.run(script("record_claims"), keys, ("users/s:a", 5, "0", name))

    assert b"9" == valkey_wire.call("ZSCORE", "{k}:claimed", name)
