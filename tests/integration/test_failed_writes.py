"""Writes that callers are told have failed are counted once each: by the reason, or by the cap that they met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from writebehind import BulkOperation, Durability, Pipeline, Written
from writebehind.collection import Collection
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    ConflictError,
    DeadLetterError,
    DurabilityNotOfferedError,
    MemoryPressureError,
    MongoUnavailableError,
    PartitionFullError,
    RedisUnavailableError,
    RequestError,
    SpoiledError,
    WritebehindError,
)
from writebehind.local.embedded import free_port
from writebehind.redis.keys import partition_keys
from writebehind.tallies.families import FAILED_READS, FAILED_WRITES, REFUSED_WRITES, WRITES
from writebehind.writing import writer

NOBODY = "0" * 32
#: Each way to write one document.
WAYS: dict[str, Callable[[Collection], object]] = {
    "put": lambda users: users.put("ada", {}),
    "create": lambda users: users.create({}),
    "create with an id": lambda users: users.create({"_id": "ada"}),
    "delete": lambda users: users.delete("ada"),
    "patch": lambda users: users.patch("ada", {"n": 1}),
    "update": lambda users: users.update("ada", {"n": 1}),
    "increment": lambda users: users.increment("ada", {"n": 1}),
    "bulk of one": lambda users: raised(users.bulk([BulkOperation("put", "ada", {})])[0]),
}


@pytest.fixture
def users(pipeline) -> Collection:
    return pipeline.collection("users")


@pytest.fixture
def apart(settings) -> Iterator[Pipeline]:
    """A pipeline whose Redis is away."""
    given = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    with closing(Pipeline(given)) as one:
        yield one


def raised(result: Written | WritebehindError) -> None:
    """Raise what stands in the place of a result."""
    if isinstance(result, WritebehindError):
        raise result


def puts(*names: str, **options: Any) -> list[BulkOperation]:
    return [BulkOperation("put", one, {}, **options) for one in names]


def counted(pipeline: Pipeline, family: str = FAILED_WRITES.name, collection: str = "users") -> Counter[str]:
    """Writes of a collection that have failed, by reason; or what another family has, by its second label."""
    return Counter(
        {
            "".join(labels[1:]): int(number)
            for (name, labels), (number, *_) in pipeline.tallies.read().items()
            if name == family and labels[0] == collection
        }
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_redis_that_is_away(apart, way):
    """However a document is written, its write is one, and what it had to read for that is no failed read."""
    with pytest.raises(RedisUnavailableError):
        WAYS[way](apart.collection("users"))

    assert {"redis-away": 1} == counted(apart)
    assert not counted(apart, FAILED_READS.name)
    assert not counted(apart, WRITES.name)


def test_each_write_of_a_bulk_is_one(apart):
    """Where Redis is asked for each of them, and where it does not say whether it can promise the durability."""
    users = apart.collection("users")

    assert [RedisUnavailableError] * 3 == [type(one) for one in users.bulk(puts("a", "b", "c"))]
    assert {"redis-away": 3} == counted(apart)
    with pytest.raises(RedisUnavailableError):
        users.bulk(puts("a", "b", "c", "d"), durability="fsynced")
    assert {"redis-away": 7} == counted(apart)
    with pytest.raises(RedisUnavailableError):  # of an iterator nobody knows how many it has, and it is not read
        users.bulk(iter_of := (one for one in puts("a", "b")), durability="fsynced")
    assert {"redis-away": 8} == counted(apart)
    assert ["a", "b"] == [one.id for one in iter_of]


def test_a_durability_that_is_not_offered(pipeline, users, monkeypatch):
    """For a single write, and for all of a bulk."""
    sampler = pipeline._admission._sampler
    sample = replace(sampler.look(), appendonly=False)
    monkeypatch.setattr(sampler, "look", lambda: sample)

    with pytest.raises(DurabilityNotOfferedError):
        users.put("ada", {}, durability="fsynced")
    with pytest.raises(DurabilityNotOfferedError):
        users.bulk(puts("a", "b"), durability="fsynced")

    assert {"durability-not-offered": 3} == counted(pipeline)


def test_conditions_that_do_not_hold(pipeline, users):
    """That of the caller, that there is a document to change, and that a patch fits it."""
    users.put("ada", {"name": "Ada"})
    failing: list[Callable[[], object]] = [
        lambda: users.put("ada", {}, if_match=NOBODY),
        lambda: users.put("ada", {}, if_absent=True),
        lambda: users.put("ada", {}, if_match=[NOBODY, "1" * 32]),
        lambda: users.create({"_id": "ada"}),
        lambda: users.delete("ada", if_match=NOBODY),
        lambda: users.patch("ada", {"n": 1}, if_match=NOBODY),
        lambda: users.patch("nobody", {"n": 1}),
        lambda: users.update("nobody", {"n": 1}),
        lambda: users.patch("ada", json_patch=[{"op": "test", "path": "/name", "value": "Eve"}]),
        lambda: users.increment("ada", {"name": 1}),
    ]
    for one in failing:
        with pytest.raises(RequestError):
            one()

    assert {"condition": len(failing)} == counted(pipeline)
    assert {"": 1} == counted(pipeline, WRITES.name)


def test_others_that_are_always_faster(pipeline, users, monkeypatch):
    """A change is tried many times, and fails once."""
    users.put("ada", {"n": 0})
    monkeypatch.setattr(writer, "CONFLICT_DEADLINE_S", 0.0)

    def change(document: dict[str, Any]) -> dict[str, Any]:
        users.put("ada", {"n": document["n"] + 1})
        return document

    with pytest.raises(ConflictError):
        users.patch("ada", change)

    assert {"conflict": 1} == counted(pipeline)


def test_a_bulk_of_all_kinds(pipeline, users):
    """Each that fails is one, by its reason; what is wrong in itself is none, and what is written neither."""
    users.put("ada", {"n": 1})
    _spoil(pipeline, "eve")

    results = users.bulk(
        [
            BulkOperation("put", "bob", {}),
            BulkOperation("put", "bob", {}, if_match=NOBODY),
            BulkOperation("put", "eve", {}),
            BulkOperation("patch", "nobody", change={"n": 1}),
            RequestError("no operation"),
            BulkOperation("put", "cat", {"_v": 1}),
            BulkOperation("delete", "ada"),
        ]
    )

    assert [True, False, False, False, False, False, True] == [isinstance(one, Written) for one in results]
    assert {"condition": 2, "redis-spoiled": 1} == counted(pipeline)
    assert {"": 3} == counted(pipeline, WRITES.name)


def test_what_is_wrong_in_itself(pipeline, users):
    """No server and no document has anything to do with it."""
    wrong: list[Callable[[], object]] = [
        lambda: users.put("ada", {"_v": 1}),
        lambda: users.put("", {}),
        lambda: users.put("ada", {}, durability="some"),
        lambda: users.patch("ada"),
        lambda: users.increment("ada", {"n": "one"}),
        lambda: users.bulk(7),
    ]
    for one in wrong:
        with pytest.raises(RequestError):
            one()

    assert not counted(pipeline)


def test_what_other_hands_have_spoiled(pipeline, users):
    """The first write that meets it is refused, as it is taken out by that; the next one is written."""
    _spoil(pipeline, "ada")

    with pytest.raises(SpoiledError):
        users.put("ada", {})
    users.put("ada", {})

    assert ({"redis-spoiled": 1}, {"": 1}) == (counted(pipeline), counted(pipeline, WRITES.name))


def test_a_change_that_needs_a_mongodb_that_is_away(settings, valkey_wire):
    """A document that only MongoDB has cannot be changed; it is no failed read, as nobody has asked for it."""
    nobody = {
        "mongodb_url": f"mongodb://127.0.0.1:{free_port()}/?directConnection=true",
        "mongodb_timeout_ms": 100,
    }
    with closing(Pipeline(settings.model_copy(update=nobody), wire=valkey_wire)) as pipeline:
        with pytest.raises(MongoUnavailableError):
            pipeline.collection("users").increment("cold", {"n": 1})

        assert {"mongodb-away": 1} == counted(pipeline)
        assert not counted(pipeline, FAILED_READS.name)


def test_waiting_for_mongodb_in_vain(pipeline, users, monkeypatch):
    """A write that was committed fails once where Redis is lost meanwhile, and each of a bulk does."""

    def lose(*_: object, **__: object) -> None:
        raise RedisUnavailableError

    monkeypatch.setattr(pipeline.flusher, "persist", lose)
    with pytest.raises(RedisUnavailableError):
        users.put("ada", {}, durability="persisted")
    with pytest.raises(RedisUnavailableError):
        users.bulk([*puts("a", "b"), *puts("b", if_match=NOBODY)], durability="persisted")

    assert {"redis-away": 4} == counted(pipeline)
    assert {"": 3} == counted(pipeline, WRITES.name)  # which Redis has


def test_what_mongodb_refuses(pipeline, users, mongo_client):
    """Who waits for MongoDB is told; who does not has an acknowledged write, which becomes a dead letter."""
    schema = {"$jsonSchema": {"properties": {"n": {"bsonType": "int"}}}}
    mongo_client[pipeline.settings.mongodb_database].create_collection("users", validator=schema)

    with pytest.raises(DeadLetterError):
        users.put("ada", {"n": "one"}, durability="persisted")
    [first, second] = users.bulk(
        [BulkOperation("put", "bob", {"n": "two"}), BulkOperation("put", "eve", {"n": 3})], durability="persisted"
    )

    assert (True, Durability.PERSISTED) == (isinstance(first, DeadLetterError), second.durability)
    assert {"dead-letter": 2} == counted(pipeline)


def test_a_cap_is_no_other_reason(settings, valkey_wire, mongo_client):
    """What back-pressure refuses is counted by the cap alone, one by one and in a bulk."""
    few = {"partitions": 1, "max_pending_per_partition": 3}
    pipeline = Pipeline(settings.model_copy(update=few), wire=valkey_wire, client=mongo_client)
    slow = pipeline.collection("slow")
    for n in range(3):
        slow.put(f"u{n}", {})

    with pytest.raises(PartitionFullError):
        slow.put("new", {})
    with pytest.raises(PartitionFullError):
        slow.increment("new", {"n": 1})
    assert 2 == sum(isinstance(one, PartitionFullError) for one in slow.bulk(puts("new", "u1", "newer")))

    assert {"pending": 4} == counted(pipeline, REFUSED_WRITES.name, "slow")
    assert not counted(pipeline, FAILED_WRITES.name, "slow")


def test_no_write_is_counted_twice(pipeline, users, monkeypatch):
    """Those that are taken, refused and failed are as many as there were, while nobody waits for MongoDB."""
    monkeypatch.setattr(pipeline._admission, "_short_of_memory", lambda _: True)
    written = refused = failed = 0
    for number in range(20):
        try:
            users.put(f"u{number % 5}", {}, if_absent=number % 2 == 0)
            written += 1
        except MemoryPressureError:
            refused += 1
        except RequestError:
            failed += 1
        if number == 9:
            monkeypatch.undo()

    assert 20 == written + refused + failed
    assert (10, True, True) == (refused, written > 0, failed > 0)
    assert {"": written} == counted(pipeline, WRITES.name)
    assert {"memory": refused} == counted(pipeline, REFUSED_WRITES.name)
    assert {"condition": failed} == counted(pipeline)


def _spoil(pipeline: Pipeline, name: str) -> None:
    """Have other hands put a list in the place of an entry."""
    store, member = pipeline.store, DocumentId.of("users", name).member
    store._wire.call("RPUSH", partition_keys(store.partition_of(member)).entry(member), "x")
