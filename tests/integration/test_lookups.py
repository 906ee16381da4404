"""Documents by a unique field, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.change_stream.applier import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.raw_bson import split_version
from writebehind.errors import MongoUnavailableError, RedisUnavailableError, RequestError
from writebehind.flushing.dead_letters import Filter
from writebehind.local.embedded import EmbeddedRedis
from writebehind.querying.unique_fields import Alias, aliases_of
from writebehind.reading.read import Source
from writebehind.redis.aliases import Claim
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire, connection_pool

LOOKUP = {"username": "string", "number": "int", "address.city": "string"}


@pytest.fixture
def config(settings) -> Settings:
    users = {"lookup": LOOKUP, "flush_delay_ms": 60_000, "ttl": 600, "negative_ttl": 5}
    values = settings.model_dump() | {"collections": {"users": users, "others": {}}, "partitions": 4}
    return Settings.model_validate(values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def asked(pipeline, other, monkeypatch) -> list[object]:
    """What MongoDB is asked for, by value."""
    values: list[object] = []
    for one in (pipeline, other):
        find_by = one.sink.find_by
        monkeypatch.setattr(
            one.sink, "find_by", lambda *wanted, find_by=find_by: values.append(wanted[2]) or find_by(*wanted)
        )
    return values


def name_of(users, username: str) -> str | None:
    document_id, read = users.look_up("username", username)
    assert (document_id is None) == (not read.entry.exists)
    return None if document_id is None else document_id.text


def alias_key(pipeline: Pipeline, username: str) -> str:
    alias = Alias.of("users", "username", username)
    return partition_keys(pipeline.store.partition_of(alias.name)).alias(alias.name)


def alias_ttl(pipeline: Pipeline, username: str) -> int:
    return pipeline.store._wire.call("PTTL", alias_key(pipeline, username))


def lasting(pipeline: Pipeline) -> list[str]:
    """What lookups keep in Redis without TTL."""
    wire = pipeline.store._wire
    keys = [key.decode() for pattern in ("wb:*:alias*", "wb:*:claimed:*") for key in wire.call("KEYS", pattern)]
    return sorted(key.split(":", 2)[2] for key in keys if wire.call("PTTL", key) == -1)


def before_once(monkeypatch, target: object, method: str, step: Callable[[], object]) -> None:
    """Do something between what was before this call and the call: once."""
    original = getattr(target, method)

    def delayed(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(target, method, original)
        step()
        return original(*args, **kwargs)

    monkeypatch.setattr(target, method, delayed)


def after_once(monkeypatch, target: object, method: str, step: Callable[[], object]) -> None:
    """Do something between this call and what comes after: once."""
    original = getattr(target, method)

    def delayed(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(target, method, original)
        answer = original(*args, **kwargs)
        step()
        return answer

    monkeypatch.setattr(target, method, delayed)


def cut_off(*_: object) -> None:
    raise RedisUnavailableError("cut off")


def write_without_claims(users, pipeline: Pipeline, name: str, document: dict) -> None:
    """A write after whose commit Redis breaks off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.store.aliases, "claim", cut_off)
        with pytest.raises(RedisUnavailableError):
            users.put(name, document)


def test_a_pending_document_is_found(pipeline, users, asked):
    """A document that MongoDB does not have yet is found by its value, and not by the one that it had before."""
    assert name_of(users, "ada") is None
    users.put("u1", {"username": "ada"})
    assert "u1" == name_of(users, "ada")
    users.put("u1", {"username": "countess"})
    assert (None, "u1") == (name_of(users, "ada"), name_of(users, "countess"))
    users.patch("u1", lambda document: document | {"username": "ada"})
    assert ("u1", None) == (name_of(users, "ada"), name_of(users, "countess"))
    assert ["aliasclaims:users/username=s:ada", "claimed:users/s:u1"] == lasting(pipeline)
    users.delete("u1")
    assert name_of(users, "ada") is None


def test_a_bulk_write_is_found(users):
    """So are the documents of a bulk."""
    from writebehind import BulkOperation  # noqa: PLC0415

    users.bulk([BulkOperation("put", f"u{n}", {"username": f"name {n}", "number": n}) for n in range(20)])
    assert [f"u{n}" for n in range(20)] == [name_of(users, f"name {n}") for n in range(20)]
    assert "u7" == users.look_up("number", "7")[0].text


def test_a_rename_that_is_pending_is_seen(pipeline, users, stored):
    """While MongoDB has the old name, the new one leads to the document and the old one to nothing."""
    users.put("u1", {"username": "ada"})
    flush_all(pipeline)
    users.put("u1", {"username": "countess"})
    assert "ada" == stored.find_one({"_id": "u1"})["username"]
    assert (None, "u1") == (name_of(users, "ada"), name_of(users, "countess"))
    users.put("u2", {"username": "ada"})
    assert "u2" == name_of(users, "ada")


def test_aliases_expire_when_mongodb_has_the_document(pipeline, users, asked):
    """Only what is pending stays for good; afterwards MongoDB finds it."""
    users.put("u1", {"username": "ada"})
    assert ["aliasclaims:users/username=s:ada", "claimed:users/s:u1"] == lasting(pipeline)
    flush_all(pipeline)
    assert [] == lasting(pipeline)
    assert 0 < alias_ttl(pipeline, "ada") <= 600_000
    assert ("u1", []) == (name_of(users, "ada"), asked)
    pipeline.store._wire.call("FLUSHALL")
    assert ("u1", ["ada"]) == (name_of(users, "ada"), asked)
    assert ("u1", ["ada"]) == (name_of(users, "ada"), asked)


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
    """Redis broke off, so it may have happened: it is found once MongoDB has it, whoever asked before that."""
    if asked == "before":
        assert name_of(users, "ada") is None
    write_without_claims(users, pipeline, "u1", {"username": "ada"})
    if asked == "before":
        flush_all(pipeline)
    else:
        after_once(monkeypatch, pipeline.sink, "find_by", lambda: flush_all(pipeline))
    assert ["u1", "u1"] == [name_of(users, "ada") for _ in range(2)]
    assert [] == lasting(pipeline)


def test_a_flusher_that_dies_before_it_releases_claims(pipeline, users, monkeypatch):
    """What it has settled is found, though nobody flushes it once more and it was not claimed either."""
    assert name_of(users, "ada") is None
    write_without_claims(users, pipeline, "u1", {"username": "ada"})
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "settled", cut_off)
        with pytest.raises(RedisUnavailableError):
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


def test_a_dead_letter_is_found(pipeline, users, stored):
    """A document that MongoDB refuses is found until that is decided, and its claim is taken back then."""
    stored.create_index("number", unique=True, sparse=True)
    stored.insert_one({"_id": "u0", "number": 1})
    users.put("u1", {"username": "ada", "number": 1})
    flush_all(pipeline)
    [letter] = pipeline.dead_letters.all(Filter())
    assert "u1" == name_of(users, "ada")
    stored.delete_one({"_id": "u0"})
    pipeline.dead_letters.replay([letter])
    assert "u1" == name_of(users, "ada")
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


def test_a_server_that_was_restarted(pipeline, users):
    """It knows no steps any more, and is told them."""
    users.put("u1", {"username": "x"})
    pipeline.store._wire.call("SCRIPT", "FLUSH")
    users.put("u1", {"username": "ada"})
    assert ("u1", None) == (name_of(users, "ada"), name_of(users, "x"))


def test_absence_is_remembered_shortly(pipeline, users, asked):
    """That nobody has a value is asked once; the next write is found all the same."""
    assert [None, None] == [name_of(users, "ada"), name_of(users, "ada")]
    assert ["ada"] == asked
    assert 0 < alias_ttl(pipeline, "ada") <= 5_000
    users.put("u1", {"username": "ada"})
    assert "u1" == name_of(users, "ada")


def test_one_look_however_many_readers(users, other, stored, asked, monkeypatch):
    """Of many readers of two processes, one asks MongoDB, also where there is nothing."""
    stored.insert_one({"_id": "u1", "username": "ada"})
    for name, found in (("ada", "u1"), ("bob", None)):
        with ThreadPoolExecutor(40) as threads:
            answers = threads.map(
                lambda n, name=name: name_of((users, other.collection("users"))[n % 2], name), range(200)
            )
            assert {found} == set(answers)
        assert asked.count(name) == 1


def test_a_write_while_mongodb_is_asked(pipeline, users, monkeypatch):
    """That there is nobody is not remembered when somebody was written meanwhile."""
    find_by = pipeline.sink.find_by

    def written_meanwhile(*wanted):
        found = find_by(*wanted)
        writer = threading.Thread(target=users.put, args=("u1", {"username": "ada"}))
        writer.start()
        writer.join()
        return found

    monkeypatch.setattr(pipeline.sink, "find_by", written_meanwhile)
    assert "u1" == name_of(users, "ada")


def test_changes_by_others(pipeline, users, stored, asked):
    """A value that somebody else has given to a document is found when its alias is forgotten."""
    assert name_of(users, "ada") is None
    body = {"_id": "u1", "username": "ada"}
    stored.insert_one(body)
    pipeline.lookups.outdated("users", [bson.encode(body)], users.settings)
    assert "u1" == name_of(users, "ada")
    users.put("u2", {"username": "bob"})
    pipeline.lookups.outdated("users", [bson.encode({"username": "bob"})], users.settings)
    assert "u2" == name_of(users, "bob")  # MongoDB does not know better


def test_a_change_by_others_while_mongodb_is_asked(pipeline, users, stored, monkeypatch):
    """It is seen, also where a document has given the value up and MongoDB does not know it yet."""
    users.put("u1", {"username": "ada"})
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.lookups, "written", lambda *_: None)  # its writer is slow
        users.put("u1", {"username": "x"})

    def inserted() -> None:
        body = {"_id": "u2", "username": "ada"}
        stored.insert_one(body)
        pipeline.lookups.outdated("users", [bson.encode(body)], users.settings)

    after_once(monkeypatch, pipeline.sink, "find_by", inserted)
    name_of(users, "ada")  # began before
    assert "u2" == name_of(users, "ada")


def test_an_alias_lives_as_long_as_the_entry(pipeline, users, stored, asked):
    """Where the document was read anew since, readers by its value do not miss."""
    stored.insert_one({"_id": "u1", "username": "ada"})
    assert "u1" == name_of(users, "ada")
    pipeline.store._wire.call("PEXPIRE", alias_key(pipeline, "ada"), 5_000)
    assert "u1" == name_of(users, "ada")
    assert 500_000 < alias_ttl(pipeline, "ada") <= 600_000
    assert name_of(users, "bob") is None
    assert name_of(users, "bob") is None
    assert 0 < alias_ttl(pipeline, "bob") <= 5_000
    # Between the look at an alias and the extension, it was found out that nobody has the value.
    pipeline.store._wire.call("SET", alias_key(pipeline, "ada"), "", "PX", 5_000)
    arguments = ("users/s:u1", 600_000)
    assert 0 == pipeline.store._wire.run(script("extend_alias"), (alias_key(pipeline, "ada"),), arguments)


def test_a_stale_document_by_its_value(config, valkey_wire, mongo_client, stored):
    """That a document is old is told, also where its alias had to be looked for."""
    graceful = config.model_dump()
    graceful["collections"]["users"]["stale_while_revalidate"] = 1000
    pipeline = Pipeline(Settings.model_validate(graceful), wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")
    stored.insert_one({"_id": "u1", "username": "ada"})
    users.get("u1")
    valkey_wire.call("PEXPIRE", pipeline.store.cache.key("users/s:u1"), 900_000)
    assert Source.STALE is users.look_up("username", "ada")[1].source


def test_mongodb_away_and_a_stale_document(config, valkey_wire, mongo_client, stored, monkeypatch):
    """With `stale_if_error` a document is found by its value for as long as by its id."""
    graceful = config.model_dump()
    graceful["collections"]["users"]["stale_if_error"] = 1000
    pipeline = Pipeline(Settings.model_validate(graceful), wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")
    stored.insert_one({"_id": "u1", "username": "ada"})
    assert "u1" == name_of(users, "ada")
    valkey_wire.call("PEXPIRE", pipeline.store.cache.key("users/s:u1"), 900_000)
    valkey_wire.call("PEXPIRE", alias_key(pipeline, "ada"), 5_000)

    def fail(*_: object, **__: object) -> None:
        raise MongoUnavailableError("no")

    for way in ("find", "find_by", "find_many", "find_portion"):
        monkeypatch.setattr(pipeline.sink, way, fail)
    assert Source.STALE is users.look_up("username", "ada")[1].source
    assert 800_000 < alias_ttl(pipeline, "ada") <= 900_000


def test_the_one_who_asks_dies(config, valkey_wire, mongo_client, stored, monkeypatch):
    """One of those who wait takes its place; the others go on waiting."""
    hasty = config.model_copy(update={"load_timeout_ms": 500})
    pipelines = [Pipeline(hasty, wire=valkey_wire, client=mongo_client) for _ in range(10)]
    asked: list[object] = []
    for one in pipelines:
        find_by = one.sink.find_by
        monkeypatch.setattr(one.sink, "find_by", lambda *a, find_by=find_by: asked.append(a) or find_by(*a))
    stored.insert_one({"_id": "u1", "username": "ada"})
    name = Alias.of("users", "username", "ada").name
    load = partition_keys(pipelines[0].store.partition_of(name)).alias_load(name)
    valkey_wire.call("SET", load, "dead", "PX", 500)
    with ThreadPoolExecutor(10) as threads:
        found = set(threads.map(lambda one: name_of(one.collection("users"), "ada"), pipelines))
    assert ({"u1"}, 1) == (found, len(asked))


def test_redis_full(config, mongo_client, stored, tmp_path):
    """A Redis that takes no more answers all the same: it is not bypassed."""
    with EmbeddedRedis(tmp_path) as server:
        pipeline = Pipeline(config, wire=Wire(connection_pool(server.url, 5_000)), client=mongo_client)
        users = pipeline.collection("users")
        stored.insert_one({"_id": "u1", "username": "ada"})
        users.put("u1", {"username": "countess"})
        pipeline.store._wire.call("CONFIG", "SET", "maxmemory", 1)
        reads = [users.look_up("username", name) for name in ("countess", "ada", "ada")]
        assert ["u1", None, None] == [one and one.text for one, _ in reads]
        assert Source.BYPASS not in [read.source for _, read in reads]
        for partition in range(4):
            pipeline.flusher.drain(partition, budget_s=5)
        assert (0, []) == (pipeline.status()["pending"], lasting(pipeline))


def test_mongodb_away(users, pipeline, asked, monkeypatch):
    """What Redis knows is found; what it does not know is an error, and may be asked for again at once."""
    users.put("u1", {"username": "ada"})

    def fail(*_: object) -> None:
        raise MongoUnavailableError("no")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "find_by", fail)
        assert "u1" == name_of(users, "ada")
        with pytest.raises(MongoUnavailableError):
            name_of(users, "bob")
    assert name_of(users, "bob") is None


def test_redis_away(config, mongo_client, stored):
    """Without Redis MongoDB is asked, and the answer says so."""
    away = config.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    stored.insert_one({"_id": "u1", "username": "ada"})
    looked_for = Pipeline(away, client=mongo_client).collection("users").look_up
    document_id, read = looked_for("username", "ada")
    assert ("u1", Source.BYPASS) == (document_id.text, read.source)
    document_id, read = looked_for("username", "bob")
    assert (None, Source.BYPASS, False) == (document_id, read.source, read.entry.exists)


def test_what_cannot_be_asked(users):
    """Other fields, and values of other types."""
    with pytest.raises(RequestError, match=r"fields: username, number, address\.city"):
        users.look_up("name", "ada")
    for number in ("x", "1.5", ""):
        with pytest.raises(RequestError, match="type int"):
            users.look_up("number", number)


def test_a_document_with_a_date_that_python_cannot_hold(users):
    """It is written and found, as what it can be looked up by is another field."""
    written = {"username": "ada", "born": DatetimeMS(253_402_300_800_000)}
    users.put("u1", written)
    assert "u1" == name_of(users, "ada")


def test_aliases_of_a_document():
    """Every value of the right type at a listed field, or below it, has an alias; others have none."""
    oid, uuid = ObjectId(), uuid4()
    kinds = {"s": "string", "i": "int", "o": "objectid", "u": "uuid", "a.b": "string"}
    document = {"s": "x y", "i": 5, "o": oid, "u": Binary.from_uuid(uuid), "a": {"b": "é"}}
    names = [alias.name for alias in aliases_of("c", bson.encode(document), kinds)]
    assert ["c/s=s:x y", "c/i=i:5", f"c/o=o:{oid}", f"c/u=u:{uuid}", "c/a.b=s:é"] == names
    wrong = {"s": 5, "i": True, "o": "x", "u": b"x", "a": [{"b": "x"}]}
    assert [] == aliases_of("c", bson.encode(wrong), kinds)
    assert [] == aliases_of("c", bson.encode({"s": "", "a": None}), kinds)
    assert [] == aliases_of("c", bson.encode({"s": "x" * 513}), kinds)
    assert 1 == len(aliases_of("c", bson.encode({"s": "x" * 512}), kinds))
    no_text = bson.encode({"s": "abcd"}).replace(b"abcd", b"ab\xff\xfe")
    assert [] == aliases_of("c", no_text, kinds)


EQUAL = [42, Int64(42), 42.0, Decimal128("42"), Decimal128("4.20E+1")]


def test_numbers_that_are_equal():
    """A number has one alias, whatever its type; one that no 64-bit integer is equal to has none."""
    kinds = {"i": "int"}
    for equal, name in ((EQUAL, "c/i=i:42"), ([0, 0.0, -0.0, Decimal128("-0")], "c/i=i:0")):
        assert {name} == {alias.name for one in equal for alias in aliases_of("c", bson.encode({"i": one}), kinds)}
    for one in (
        42.5,
        float("nan"),
        float("inf"),
        float(1 << 63),
        Decimal128("NaN"),
        Decimal128("1E+30"),
        True,
        "42",
    ):
        assert [] == aliases_of("c", bson.encode({"i": one}), kinds)


@pytest.mark.parametrize("number", EQUAL)
def test_a_number_is_found_by_one_that_is_equal(pipeline, users, stored, number):
    """Whether MongoDB alone has it, or it is pending, or was written and is settled."""
    stored.insert_one({"_id": "u1", "number": number})
    assert "u1" == users.look_up("number", "42")[0].text
    users.put("u2", {"number": number})
    assert "u2" == users.look_up("number", 42.0)[0].text
    users.put("u2", {"number": 43})
    assert "u1" == users.look_up("number", Decimal128("42"))[0].text
    users.put("u1", {"number": number, "name": "Ada"})
    flush_all(pipeline)
    assert [] == lasting(pipeline)
    assert "u1" == users.look_up("number", "42")[0].text


@pytest.mark.parametrize("field", ["", "_id", "a..b", "$x", "a.$b", ".a"])
def test_wrong_fields(settings, field):
    """Settings that could never work are refused at the start."""
    with pytest.raises(ValueError, match="lookup"):
        Settings.model_validate(settings.model_dump() | {"collections": {"users": {"lookup": {field: "string"}}}})


def test_a_value_that_several_documents_have_in_mongodb(pipeline, users, stored):
    """Without the unique index: the one is found that has the value as it was last acknowledged."""
    for name in ("a", "b", "c"):
        stored.insert_one({"_id": name, "username": "ada"})
    users.put("a", {})
    users.put("b", {"username": "bob"})

    assert users.id("c") == users.look_up("username", "ada")[0]
    users.delete("c")
    assert users.look_up("username", "ada")[0] is None


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
