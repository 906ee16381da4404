"""Documents by a unique field, on real servers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import bson
import pytest
from bson import Binary, ObjectId

from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.errors import MongoUnavailableError, RequestError
from writebehind.keys import partition_keys
from writebehind.lookups import Alias, aliases_of
from writebehind.reader import Source

LOOKUP = {"username": "string", "number": "int", "address.city": "string"}


@pytest.fixture
def config(settings) -> Settings:
    users = {"lookup": LOOKUP, "flush_delay_ms": 60_000, "ttl": 600, "negative_ttl": 5}
    values = settings.model_dump() | {"collections": {"users": users}, "partitions": 4}
    return Settings.model_validate(values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def other(config, valkey_wire, mongo_client) -> Pipeline:
    """Another process on the same servers."""
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def users(pipeline):
    return pipeline.collection("users")


@pytest.fixture
def stored(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]["users"]


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


def alias_ttl(pipeline: Pipeline, username: str) -> int:
    alias = Alias.of("users", "username", username)
    of = partition_keys(pipeline.store.partition_of(alias.name))
    return pipeline.store.wire.call("PTTL", of.alias(alias.name))


def test_a_pending_document_is_found(pipeline, users, asked):
    """A document that MongoDB does not have yet is found by its value, and not by the one that it had before."""
    assert name_of(users, "ada") is None
    users.put("u1", {"username": "ada"})
    assert "u1" == name_of(users, "ada")
    users.put("u1", {"username": "countess"})
    assert (None, "u1") == (name_of(users, "ada"), name_of(users, "countess"))
    users.patch("u1", lambda document: document | {"username": "ada"})
    assert ("u1", None) == (name_of(users, "ada"), name_of(users, "countess"))
    assert -1 == alias_ttl(pipeline, "ada")
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
    assert -1 == alias_ttl(pipeline, "ada")
    flush_all(pipeline)
    assert 0 < alias_ttl(pipeline, "ada") <= 600_000
    assert ("u1", []) == (name_of(users, "ada"), asked)
    pipeline.store.wire.call("FLUSHALL")
    assert ("u1", ["ada"]) == (name_of(users, "ada"), asked)
    assert ("u1", ["ada"]) == (name_of(users, "ada"), asked)


def test_an_alias_of_a_newer_write_does_not_expire(pipeline, users):
    """What is settled gives no TTL to the alias of what is pending by now."""
    users.put("u1", {"username": "ada"})
    [write] = [(pipeline.collection("users").id("u1"), users.read("u1").entry)]
    users.put("u1", {"username": "ada", "age": 36})
    pipeline.lookups.settled([write], users.settings)
    assert -1 == alias_ttl(pipeline, "ada")


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
    assert -1 == alias_ttl(pipeline, "bob")  # MongoDB does not know better


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


@pytest.mark.parametrize("field", ["", "_id", "a..b", "$x", "a.$b", ".a"])
def test_wrong_fields(settings, field):
    """Settings that could never work are refused at the start."""
    with pytest.raises(ValueError, match="lookup"):
        Settings.model_validate(settings.model_dump() | {"collections": {"users": {"lookup": {field: "string"}}}})
