"""Collections whose shard key is not their `_id`: every operation by id finds its one shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pymongo import MongoClient

from tests.integration.conftest import flush_all
from tests.router import Router
from writebehind import Pipeline, load_settings
from writebehind.collection import Collection
from writebehind.documents.ids import DocumentId
from writebehind.errors import InvalidDocumentError, InvalidIdError
from writebehind.flushing import attempts
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.operations.doctor import Level, examine
from writebehind.redis.keys import partition_keys

TENANT = {"tenant": {"pattern": "([^:]+):.*"}, "_id": {}}
Make = Callable[..., Pipeline]


@pytest.fixture
def router(mongo, mongo_client, database_name) -> Iterator[Router]:
    with Router(mongo.port, mongo_client, database_name) as router:
        router.keys = {"users": ["tenant", "_id"]}
        yield router


@pytest.fixture
def make(router, settings, valkey_wire, hints) -> Iterator[Make]:
    """Makes a pipeline whose MongoDB is the router."""
    with ExitStack() as stack:

        def pipeline(shard_key: dict[str, Any] = TENANT, **users: Any) -> Pipeline:
            # The proxy passes on one answer for each question, and no stream of them.
            url = f"mongodb://127.0.0.1:{router.port}/?directConnection=true&serverMonitoringMode=poll"
            changed = load_settings(
                redis_url=settings.redis_url,
                mongodb_url=url,
                mongodb_database=settings.mongodb_database,
                partitions=1,
                hot_samples=0,
                defaults={"flush_delay_ms": 0},
                collections={"users": {"shard_key": shard_key, "id_pattern": ".+", **users}, "others": {}},
            )
            client = stack.enter_context(MongoClient(url))
            return Pipeline(changed, hints=hints, wire=valkey_wire, client=client)

        yield pipeline


def forget(pipeline: Pipeline, *names: str) -> None:
    """Let Redis have nothing of documents that MongoDB has."""
    for name in names:
        member = DocumentId.of("users", name).member
        pipeline.store._wire.call("DEL", partition_keys(0).entry(member))


def documents(stored: Any) -> dict[str, dict[str, Any]]:
    return {one["_id"]: {k: v for k, v in one.items() if k not in {"_id", "_v"}} for one in stored.find()}


def letters(pipeline: Pipeline) -> list[str]:
    return [one.letter.id.text for one in pipeline.dead_letters.all(Filter())]


@pytest.fixture(name="stored")
def in_mongodb(mongo_client, database_name) -> Any:
    return mongo_client[database_name]["users"]


def every_way(users: Collection, pipeline: Pipeline) -> None:
    """Write in each way that there is, and read what is not cached."""
    users.put("acme:1", {"n": 1})
    users.put("acme:2", {"n": 1})
    users.put("bolt:1", {"n": 1})
    flush_all(pipeline)
    users.put("acme:1", {"n": 2})
    users.patch("acme:2", {"n": 2, "tenant": None})
    users.increment("bolt:1", {"n": 1})
    users.increment("bolt:9", {"n": 5})
    users.put("acme:3", {"n": 3})
    flush_all(pipeline)
    users.delete("acme:3")
    flush_all(pipeline)


def test_no_write_and_no_read_by_id_goes_to_all_shards(make, router, stored):
    """Puts, patches, increments and deletions have the full shard key, and so have reads by id."""
    pipeline = make()
    users = pipeline.collection("users")
    every_way(users, pipeline)

    assert {
        "acme:1": {"tenant": "acme", "n": 2},
        "acme:2": {"tenant": "acme", "n": 2},
        "bolt:1": {"tenant": "bolt", "n": 2},
        "bolt:9": {"tenant": "bolt", "n": 5},
    } == documents(stored)
    forget(pipeline, "acme:1", "acme:2", "bolt:1")
    assert 2 == users.get("acme:1")["n"]
    assert [2, 2, None] == [one and one["n"] for one in users.mget(["acme:2", "bolt:1", "bolt:404"])]
    pipeline.reconciler.make_pass(repair=True)
    assert [] == letters(pipeline)
    assert 0 == router.counts["refused writes"]
    assert 0 == router.counts["scattered reads"]
    assert 8 <= router.counts["targeted writes"]


def test_the_stand_in_demands_the_key(make, router, stored):
    """Without the setting the same writes are refused: none becomes a dead letter, and all get through later."""
    forgetful = make({})
    users = forgetful.collection("users")
    forgetful.collection("others").put("a", {"n": 1})
    for name in ("acme:1", "acme:2", "bolt:1"):
        users.put(name, {"tenant": name[:4], "n": 1})
    with pytest.raises(FlushInterruptedError, match="shard_key"):
        forgetful.flusher.flush(0)

    assert {} == documents(stored)
    assert [] == letters(forgetful)
    assert 3 == forgetful.status()["pending"]  # and not what is of another collection
    mended = make()
    flush_all(mended)
    assert {"acme:1", "acme:2", "bolt:1"} == set(documents(stored))


def test_no_time_makes_a_letter_of_a_wrong_setting(make, router, monkeypatch):
    """However often a write was tried with a wrong shard key, it stays pending."""
    monkeypatch.setattr(attempts, "MOST_ATTEMPTS", 2)
    monkeypatch.setattr(attempts, "ATTEMPTS", dict.fromkeys(attempts.ATTEMPTS, 2))
    pipeline = make({})
    pipeline.collection("users").put("acme:1", {"tenant": "acme"})
    pipeline.collection("others").put("a", {})
    for _ in range(5):
        pipeline.store._wire.call("ZADD", partition_keys(0).pending, "XX", 1, "users/s:acme:1")
        pipeline.flusher.flush(0)

    assert [] == letters(pipeline)
    assert 1 == pipeline.status()["pending"]
    assert 5 <= router.counts["refused writes"]


def test_a_document_keeps_its_shard(make):
    """A document has the shard key that its id says: it is filled in, and another value is refused."""
    users = make().collection("users")
    users.put("acme:1", {"tenant": "acme"})
    assert "acme" == users.get("acme:1")["tenant"]
    with pytest.raises(InvalidDocumentError, match="'tenant' is part of the shard key"):
        users.put("acme:1", {"tenant": "bolt"})
    with pytest.raises(InvalidDocumentError, match="'tenant' is part of the shard key"):
        users.patch("acme:1", {"tenant": "bolt"})


@pytest.mark.parametrize("use", ["get", "delete", "put", "create"])
def test_an_id_without_its_shard(make, use):
    """An id that does not have the shard key is no id of the collection."""
    users = make().collection("users")
    with pytest.raises(InvalidIdError, match="shard key tenant, _id"):
        {
            "get": lambda: users.get("acme"),
            "delete": lambda: users.delete("acme"),
            "put": lambda: users.put("acme", {}),
            "create": lambda: users.create({"tenant": "acme"}),
        }[use]()


def test_a_compound_key_with_a_path_and_a_number(make, router, stored):
    """Fields within fields, and values of other types, are part of a shard key as well."""
    router.keys = {"users": ["address.country", "region"]}
    key = {"address.country": {"pattern": "(..)-.*"}, "region": {"pattern": r"..-(\d+)-.*", "type": "int"}}
    pipeline = make(key)
    users = pipeline.collection("users")
    users.put("de-7-ada", {"n": 1})
    users.put("de-7-bob", {"address": {"city": "Ulm"}, "region": 7})
    flush_all(pipeline)
    users.delete("de-7-ada")
    users.increment("de-7-bob", {"n": 1})
    flush_all(pipeline)

    found = {"address": {"city": "Ulm", "country": "de"}, "region": 7, "n": 1}
    assert {"de-7-bob": found} == documents(stored)
    forget(pipeline, "de-7-bob")
    assert 7 == users.get("de-7-bob")["region"]
    assert 0 == router.counts["refused writes"] + router.counts["scattered reads"]


def test_unique_values_and_replays(make, router, stored):
    """Documents that exchange a unique value, and a dead letter that is replayed, reach their shards."""
    pipeline = make(lookup={"name": "string"})
    pipeline.sink.create_unique_index("users", "name")
    users = pipeline.collection("users")
    users.put("acme:1", {"name": "ada"})
    users.put("bolt:1", {"name": "bob"})
    flush_all(pipeline)
    users.put("acme:1", {"name": "bob"})
    users.put("bolt:1", {"name": "ada"})
    flush_all(pipeline)
    assert {"acme:1": "bob", "bolt:1": "ada"} == {name: one["name"] for name, one in documents(stored).items()}

    users.put("acme:2", {"name": "ada"})
    flush_all(pipeline)
    assert ["acme:2"] == letters(pipeline)
    users.delete("bolt:1")
    flush_all(pipeline)
    assert [] == letters(pipeline)
    assert {"acme:1": "bob", "acme:2": "ada"} == {name: one["name"] for name, one in documents(stored).items()}
    assert 0 == router.counts["refused writes"]


def test_a_flusher_that_was_paused(make, router, stored):
    """An older version cannot become a second document, and the audit of a deletion finds the one shard."""
    pipeline = make()
    users = pipeline.collection("users")
    users.put("acme:1", {"n": 1})
    flush_all(pipeline)
    users.delete("acme:1")
    flush_all(pipeline)
    deleted = pipeline.store._wire.call("ZSCORE", partition_keys(0).deleted, "users/s:acme:1")
    stored.insert_one({"_id": "acme:1", "tenant": "acme", "_v": 1})  # what it brings after its lease

    assert 1 == pipeline.sink.delete_older("users", {DocumentId.of("users", "acme:1"): int(float(deleted))})
    assert {} == documents(stored)
    assert 0 == router.counts["refused writes"]


def test_doctor_compares_the_keys(make, router):
    """A shard key that differs from the server's is a failure, before any write waits for it."""

    def found(pipeline: Pipeline) -> list[tuple[Level, str]]:
        return [(one.level, one.found) for one in examine(pipeline) if one.check == "mongodb shard keys"]

    assert [(Level.OK, "1 sharded collection has its shard_key")] == found(make())
    [(level, said)] = found(make({}))
    assert (Level.FAILURE, True) == (level, "users is sharded by tenant, _id, and it has no shard_key" in said)
    [(level, said)] = found(make({"tenant": {"pattern": "([^:]+):.*"}}))
    assert (Level.FAILURE, True) == (level, "its shard_key has tenant" in said)
    router.tells = False
    [(level, said)] = found(make())
    assert (Level.WARNING, True) == (level, "config.collections may not be read" in said)
