"""Documents by a unique field, on real servers: pending, in MongoDB, absent, changed by others, in outages."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import bson
import pytest

from tests.integration.conftest import evicting, flush_all
from tests.integration.unique_fields.conftest import after_once, lasting, name_of
from writebehind import Pipeline, Settings
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.local.embedded import EmbeddedRedis
from writebehind.querying.unique_fields import Alias
from writebehind.reading.read import Source
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

#: A right to load lives so long: many times as long as loads of many threads take on a busy machine.
LOADS_WITHIN_MS = 2_000


def alias_key(pipeline: Pipeline, username: str) -> str:
    alias = Alias.of("users", "username", username)
    return partition_keys(pipeline.store.partition_of(alias.name)).alias(alias.name)


def alias_ttl(pipeline: Pipeline, username: str) -> int:
    return pipeline.store._wire.call("PTTL", alias_key(pipeline, username))


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
    hasty = config.model_copy(update={"load_timeout_ms": LOADS_WITHIN_MS})
    pipelines = [Pipeline(hasty, wire=valkey_wire, client=mongo_client) for _ in range(10)]
    asked: list[object] = []
    for one in pipelines:
        find_by = one.sink.find_by
        monkeypatch.setattr(one.sink, "find_by", lambda *a, find_by=find_by: asked.append(a) or find_by(*a))
    stored.insert_one({"_id": "u1", "username": "ada"})
    name = Alias.of("users", "username", "ada").name
    load = partition_keys(pipelines[0].store.partition_of(name)).alias_load(name)
    valkey_wire.call("SET", load, "dead", "PX", LOADS_WITHIN_MS)
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


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_the_right_to_ask_is_evicted(users, stored, asked, valkey_wire, pipeline, monkeypatch, name):
    """Redis is full, and has nothing else that it may evict: MongoDB is asked once all the same."""
    stored.insert_one({"_id": "u1", "username": "ada"})
    monkeypatch.setattr(pipeline.loader, "_is_full", lambda: True)
    with evicting(valkey_wire, "volatile-lru"):
        assert ("u1" if name == "ada" else None) == name_of(users, name)
    assert [name] == asked


def test_a_claim_that_came_in_between(users, stored, asked, valkey_wire, pipeline, monkeypatch):
    """What MongoDB does not know yet is found, though the right to ask is gone."""
    find_by = pipeline.sink.find_by

    def overtaken(*wanted: object) -> object:
        found = find_by(*wanted)
        users.put("u2", {"username": "ada"})
        monkeypatch.setattr(pipeline.sink, "find_by", find_by)
        return found

    monkeypatch.setattr(pipeline.sink, "find_by", overtaken)
    assert "u2" == name_of(users, "ada")


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


def test_what_mongodb_finds_besides(config, mongo_client, pipeline, stored):
    """A document with the value in an array, or with an id of others, is not found, be Redis there or not."""
    away = config.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    stored.insert_many(
        [
            {"_id": "array", "username": ["ada", "bob"]},
            {"_id": {"of": "others"}, "username": "carol"},
            {"_id": "u1", "username": "bob"},
        ]
    )
    for one in (pipeline, Pipeline(away, client=mongo_client)):
        users = one.collection("users")
        assert [None, "u1", None] == [name_of(users, name) for name in ("ada", "bob", "carol")]
