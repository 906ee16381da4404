"""Writes that have an idempotency key: each counts once, however often, from wherever, and when it is repeated."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from bson import Decimal128, Int64

from tests.integration.conftest import full
from web.app import create_app
from writebehind import Pipeline
from writebehind.collection import BulkOperation, Collection
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidArgumentError,
    KeyReusedError,
    MistypedKeyError,
    PatchConflictError,
    PreconditionFailedError,
    RedisFullError,
    UnavailableError,
    UnknownCollectionError,
)
from writebehind.redis.keys import partition_keys
from writebehind.writing.receipts import ReceiptState

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
#: By which Redis keeps the receipt of a write to `users`.
NAME = f"users/{KEY}"
MERGE = "application/merge-patch+json"
THREADS = 8


@pytest.fixture
def another(settings, valkey_wire, mongo_client) -> Collection:
    """The same collection in another process."""
    return Pipeline(settings, wire=valkey_wire, client=mongo_client).collection("users")


@pytest.fixture
def client(pipeline):
    return create_app(pipeline).test_client()


def keys_of(pipeline: Pipeline, one: str = "ada"):
    return partition_keys(pipeline.store.partition_of(DocumentId.of("users", one).member))


def held(pipeline: Pipeline, one: str = "ada") -> tuple[int, int]:
    """How many receipts there are in the partition of a document, and of how many their time is known."""
    of = keys_of(pipeline, one)
    return tuple(pipeline.store._wire.calls([("HLEN", of.receipts), ("ZCARD", of.receipts_at)]))


WRITES: dict[str, Callable[[Collection, str], Any]] = {
    "put": lambda users, key: users.put("ada", {"n": 1}, key=key),
    "create": lambda users, key: users.create({"n": 1}, key=key),
    "delete": lambda users, key: users.delete("ada", key=key),
    "patch": lambda users, key: users.patch("ada", {"n": 5}, key=key),
    "json_patch": lambda users, key: users.patch("ada", json_patch=[{"op": "remove", "path": "/old"}], key=key),
    "function": lambda users, key: users.patch("ada", lambda found: {**found, "n": found["n"] + 1}, key=key),
    "update": lambda users, key: users.update("ada", {"n": 7}, key=key),
    "increment": lambda users, key: users.increment("ada", {"n": 1, "by.us": Int64(2)}, key=key).written,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_repeated(users, another, write):
    """A write that is repeated, also by another process, changes nothing, and is answered as the first was."""
    users.put("ada", {"n": 0, "old": True})
    first = write(users, KEY)
    after = users.read(first.id).entry

    again = [write(one, KEY) for one in (users, another)]

    assert [(first.id, first.version, first.etag, first.created, True)] * 2 == [
        (one.id, one.version, one.etag, one.created, one.replayed) for one in again
    ]
    assert not first.replayed
    assert after == users.read(first.id).entry


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_has_come_since_stands(users, write):
    """The first answer is the answer, whatever the document has become since, and that stands."""
    users.put("ada", {"n": 0, "old": True})
    first = write(users, KEY)
    users.delete(first.id)

    assert (first.version, first.etag) == (write(users, KEY).version, first.etag)
    assert users.get(first.id) is None


def test_values(users):
    """An increment that is repeated has the values of the first one, of the same types."""
    users.put("ada", {"n": Int64(1) << 40, "d": Decimal128("1.5")})
    deltas = {"n": 1, "d": Decimal128("0.25"), "f": 0.5, "new.one": 1}
    first = users.increment("ada", deltas, key=KEY)
    users.increment("ada", {"n": 1000})

    again = users.increment("ada", deltas, key=KEY)

    assert [(name, type(one), one) for name, one in first.values.items()] == [
        (name, type(one), one) for name, one in again.values.items()
    ]


def test_many_at_once(pipeline, users, another):
    """However many repeat it at the same moment, in several processes, it counts once."""
    users.put("ada", {"n": 0})
    together = Barrier(THREADS)

    def repeat(number: int) -> tuple[bool, int, Any]:
        together.wait(30)
        found = (users, another)[number % 2].increment("ada", {"n": 1}, key=KEY)
        return found.written.replayed, found.written.version, found.values

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(repeat, range(THREADS)))

    assert [False, *[True] * (THREADS - 1)] == sorted(replayed for replayed, _, _ in answers)
    assert 1 == len({version for _, version, _ in answers})
    assert [{"n": 1}] * THREADS == [values for _, _, values in answers]
    assert {"n": 1} == {name: one for name, one in users.get("ada").items() if name == "n"}
    assert (1, 1) == held(pipeline)


def test_an_id_is_drawn_where_the_key_is(pipeline, users, monkeypatch):
    """As many ids are drawn as it takes; where the key is, is found out once."""
    asked: list[str] = []
    partition_of = pipeline.store.partition_of
    monkeypatch.setattr(pipeline.store, "partition_of", lambda name: asked.append(name) or partition_of(name))
    keys = [f"{number}" for number in range(8)]

    created = [users.create({}, key=key) for key in keys]

    assert [partition_of(key) for key in keys] == [
        partition_of(DocumentId.of("users", one.id).member) for one in created
    ]
    assert keys == [name for name in asked if name in keys]


OTHERS: dict[str, Callable[[Collection], Any]] = {
    "another document": lambda users: users.put("ada", {"n": 2}, key=KEY),
    "another condition": lambda users: users.put("ada", {"n": 1}, if_absent=True, key=KEY),
    "another method": lambda users: users.delete("ada", key=KEY),
    "a patch": lambda users: users.patch("ada", {"n": 1}, key=KEY),
    "an increment": lambda users: users.increment("ada", {"n": 1}, key=KEY),
    "a patch that does not fit": lambda users: users.patch(
        "ada", json_patch=[{"op": "remove", "path": "/x"}], key=KEY
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_request(users, other):
    """A key that another request has had is refused, and nothing is written."""
    users.put("ada", {"n": 1}, key=KEY)
    before = users.read("ada").entry

    with pytest.raises(KeyReusedError):
        other(users)

    assert before == users.read("ada").entry


def test_a_condition_is_decided_once(users):
    """A write whose condition held is repeated although it holds no more; one that failed has left nothing."""
    first = users.put("ada", {"n": 1}, if_absent=True, key=KEY)
    assert first.version == users.put("ada", {"n": 1}, if_absent=True, key=KEY).version
    second = users.put("ada", {"n": 2}, if_match=first.etag, key="2")
    assert second.version == users.put("ada", {"n": 2}, if_match=first.etag, key="2").version
    third = users.put("ada", {"n": 3}, if_match=[first.etag, second.etag], key="3")
    assert third.version == users.put("ada", {"n": 3}, if_match=[first.etag, second.etag], key="3").version

    with pytest.raises(PreconditionFailedError):
        users.put("ada", {"n": 4}, if_match=first.etag, key="4")
    assert not users.put("ada", {"n": 4}, key="4").replayed


def test_a_change_that_failed_left_nothing(users):
    """A patch that did not fit is tried anew when it is repeated."""
    with pytest.raises(DocumentNotFoundError):
        users.patch("ada", {"n": 1}, key=KEY)
    users.put("ada", {})
    with pytest.raises(PatchConflictError):
        users.patch("ada", json_patch=[{"op": "remove", "path": "/n"}], key="2")

    assert not users.patch("ada", {"n": 1}, key=KEY).replayed
    assert not users.patch("ada", json_patch=[{"op": "remove", "path": "/n"}], key="2").replayed


def test_in_time(pipeline, users):
    """A receipt is kept for as long as the settings say, and then forgotten: by a write, or by maintenance."""
    pipeline.store.receipts.life_ms = 60_000
    users.increment("ada", {"n": 1}, key=KEY)
    assert 0 == pipeline.store.receipts.forget_old()
    of = keys_of(pipeline)
    pipeline.store._wire.call("ZINCRBY", of.receipts_at, -61_000, NAME)

    assert not users.increment("ada", {"n": 1}, key=KEY).written.replayed
    assert users.increment("ada", {"n": 1}, key=KEY).written.replayed

    pipeline.store._wire.call("ZINCRBY", of.receipts_at, -61_000, NAME)
    assert 1 == pipeline.store.receipts.forget_old()
    assert (0, 0) == held(pipeline)


def test_what_is_over_answers_nobody(pipeline, users):
    """A receipt that is over, and not forgotten yet, is none: not of the same request, nor of another."""
    users.put("ada", {"n": 0})
    users.patch("ada", {"n": 1}, key=KEY)
    users.delete("ada")
    over_ms = -pipeline.store.receipts.life_ms - 1000
    pipeline.store._wire.call("ZINCRBY", keys_of(pipeline).receipts_at, over_ms, NAME)

    for change in ({"n": 1}, {"n": 2}):
        with pytest.raises(DocumentNotFoundError):
            users.patch("ada", change, key=KEY)
    assert ReceiptState.UNKNOWN is pipeline.receipt(KEY).state
    assert (1, 1) == held(pipeline)


def test_old_ones_make_room(pipeline, users):
    """A write forgets what is over, so that nobody needs to come by."""
    for number in range(6):
        users.put("ada", {}, key=f"{number}")
    of = keys_of(pipeline)
    for number in range(6):
        pipeline.store._wire.call("ZADD", of.receipts_at, number, f"users/{number}")

    users.put("ada", {}, key="new")
    assert (3, 3) == held(pipeline)
    users.put("ada", {}, key="newer")
    assert (2, 2) == held(pipeline)


def test_bounded_in_number(pipeline, users):
    """The last ones of each partition are kept, so that their number is bounded."""
    pipeline.store.receipts.most = 3
    for number in range(8):
        users.put("ada", {}, key=f"{number}")

    assert (3, 3) == held(pipeline)
    assert users.put("ada", {}, key="7").replayed
    assert not users.put("ada", {}, key="0").replayed


def test_a_fewer_number(pipeline, users):
    """Where fewer are to be kept than there are, each write forgets some."""
    for number in range(8):
        users.put("ada", {}, key=f"{number}")
    pipeline.store.receipts.most = 2

    users.put("ada", {}, key="new")

    assert (5, 5) == held(pipeline)


def test_a_plain_write_is_as_it_was(pipeline, users, monkeypatch):
    """A write without a key sends no key and no argument for one."""
    sent = []
    call = pipeline.store._commit_call
    monkeypatch.setattr(pipeline.store, "_commit_call", lambda *given: sent.append(call(*given)) or sent[-1])

    users.put("ada", {})
    users.put("ada", {}, key=KEY)

    assert [(11, 8), (14, 17)] == [(len(keys), len(arguments)) for keys, arguments in sent]
    assert (1, 1) == held(pipeline)


@pytest.mark.parametrize("key", ["", "a" * 256, "ä", "a\n", "a\x7f", b"a", 7])
def test_no_key(users, key):
    """What is no key is refused."""
    with pytest.raises(InvalidArgumentError, match=r"key"):
        users.put("ada", {}, key=key)
    assert users.get("ada") is None


@pytest.mark.parametrize("name", ["receipts", "receipts_at"])
def test_other_hands(pipeline, users, name):
    """What other hands have put in their place is in the way once, and before anything is written."""
    pipeline.store._wire.call("SET", getattr(keys_of(pipeline), name), "x")

    with pytest.raises(MistypedKeyError):
        users.put("ada", {"n": 1}, key=KEY)
    assert users.get("ada") is None
    assert not users.put("ada", {"n": 1}, key=KEY).replayed


@pytest.mark.parametrize("receipt", ["", "x", "1" * 17 + "{digest}", "1" * 17 + "{digest}" + "\0" * 9])
def test_a_receipt_of_other_hands(pipeline, users, receipt):
    """A receipt that nobody can read is none of a request."""
    users.put("ada", {"n": 1}, key=KEY)
    of = keys_of(pipeline)
    digest = pipeline.store._wire.call("HGET", of.receipts, NAME)[17:49].decode()
    pipeline.store._wire.call("HSET", of.receipts, NAME, receipt.replace("{digest}", digest))

    with pytest.raises(KeyReusedError):
        users.put("ada", {"n": 1}, key=KEY)
    assert ReceiptState.UNKNOWN is pipeline.receipt(KEY).state


def test_redis_breaks_off(pipeline, users, monkeypatch):
    """An increment whose answer did not come is known to have counted as soon as Redis answers again."""
    users.put("ada", {"n": 0})
    commit_many = pipeline.store.commit_many

    def cut(*given):
        commit_many(*given)
        raise UnavailableError("cut")

    monkeypatch.setattr(pipeline.store, "commit_many", cut)
    done = users.increment("ada", {"n": 1}, key=KEY)

    assert ({"n": 1}, 1) == (done.values, users.get("ada")["n"])


def test_mongodb_is_away(pipeline, users):
    """What is repeated needs no MongoDB, although the document is no longer in Redis."""
    users.put("ada", {"n": 0})
    first = users.increment("ada", {"n": 1}, key=KEY)
    pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    pipeline.store._wire.call("DEL", keys_of(pipeline).entry("users/s:ada"))
    away = {"mongodb_url": "mongodb://127.0.0.1:1/?directConnection=true", "mongodb_timeout_ms": 200}

    with Pipeline(pipeline.settings.model_copy(update=away), wire=pipeline.store._wire) as cut_off:
        again = cut_off.collection("users").increment("ada", {"n": 1}, key=KEY)

    assert (first.values, first.written.version) == (again.values, again.written.version)


def test_a_full_redis(pipeline, users, valkey_wire):
    """What is repeated is answered without any memory left, and what is new is refused."""
    first = users.put("ada", {"n": 1}, key=KEY)

    with full(valkey_wire):
        assert first.version == users.put("ada", {"n": 1}, key=KEY).version
        with pytest.raises(RedisFullError):
            users.put("ada", {"n": 2}, key="2")


def test_receipts(pipeline, users):
    """A receipt says how far a write has come, whatever was written since."""
    done = users.put("ada", {"n": 1}, key=KEY)
    known = pipeline.receipt(KEY)
    assert ("users", "ada", done.version, done.etag) == (known.collection, known.id, known.version, known.etag)
    assert ReceiptState.BUFFERED is known.state

    pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))

    assert ReceiptState.PERSISTED is pipeline.receipt(KEY).state
    assert ReceiptState.UNKNOWN is pipeline.receipt("other").state
    with pytest.raises(InvalidArgumentError):
        pipeline.receipt("")


@pytest.fixture
def many(settings, valkey_wire, mongo_client) -> Pipeline:
    """A pipeline that takes any collection."""
    return Pipeline(settings.model_copy(update={"allow_unlisted": True}), wire=valkey_wire, client=mongo_client)


def test_keys_of_another_collection(many):
    """A key names a write within its collection: others have the same for theirs, and hide nothing."""
    users, orders = many.collection("users"), many.collection("orders")
    first = users.put("ada", {"n": 1}, key=KEY)
    others = [one for one in map(str, range(1000)) if in_partition_of(many, f"orders/s:{one}", "users/s:ada")]

    written = orders.put(others[0], {}, key=KEY)

    assert not written.replayed
    assert orders.put(others[0], {}, key=KEY).replayed
    with pytest.raises(KeyReusedError):
        orders.put(others[1], {}, key=KEY)
    assert users.put("ada", {"n": 1}, key=KEY).replayed
    assert ("users", first.version) == (many.receipt(KEY).collection, many.receipt(KEY).version)
    known = many.receipt(KEY, collections=["users", "orders"])
    assert ("orders", written.version) == (known.collection, known.version)
    assert ReceiptState.UNKNOWN is many.receipt(KEY, collections=[]).state
    with pytest.raises(UnknownCollectionError):
        many.receipt(KEY, collections=["users/s"])


def in_partition_of(pipeline: Pipeline, one: str, other: str) -> bool:
    return pipeline.store.partition_of(one) == pipeline.store.partition_of(other)


def test_keys_of_another_collection_over_http(many):
    """A receipt is asked for in the collections of the settings, or in one that is given."""
    client = create_app(many).test_client()
    key = {"Idempotency-Key": KEY}
    first = client.put("/v1/users/ada", json={}, headers=key)
    last = client.put("/v1/orders/1", json={}, headers=key)

    asked = [client.get(f"/v1/receipts/{KEY}{query}") for query in ("", "?collection=users", "?collection=orders")]

    assert [first.json["version"], first.json["version"], last.json["version"]] == [
        one.json["version"] for one in asked
    ]
    assert 404 == client.get(f"/v1/receipts/{KEY}?collection=system.x").status_code


def test_the_name_is_taken(valkey_wire, settings, mongo_client):
    """No unlisted collection has the name of the route of receipts; one that is listed keeps its own routes."""
    unlisted = Pipeline(
        settings.model_copy(update={"allow_unlisted": True}), wire=valkey_wire, client=mongo_client
    )
    with pytest.raises(UnknownCollectionError):
        unlisted.collection("receipts")

    some = settings.collections | {"receipts": settings.collections["users"]}
    listed = Pipeline(settings.model_copy(update={"collections": some}), wire=valkey_wire, client=mongo_client)
    client = create_app(listed).test_client()
    assert 201 == client.put("/v1/receipts/a", json={}, headers={"If-None-Match": "*"}).status_code
    assert {"_id": "a"} == client.get("/v1/receipts/a").json


def test_bulk(users, another):
    """Each operation of a bulk is known by its own key: what was done before is not, and the rest is."""
    users.put("bob", {"n": 0, "old": 1})
    operations = [
        BulkOperation("put", "ada", {"n": 1}, key="1"),
        BulkOperation("patch", "bob", change={"n": 1}, key="2"),
        BulkOperation("patch", "bob", json_patch=({"op": "remove", "path": "/old"} for _ in range(1)), key="3"),
        BulkOperation("delete", "eve", key="4"),
        BulkOperation("put", "eve", {"n": 1}, if_match="*", key="5"),
        BulkOperation("put", "ada", {"n": 2}, key="1"),
        BulkOperation("put", "ada", {"n": 1}, key="1"),
    ]
    first = users.bulk(operations)
    again = another.bulk([*operations[:2], BulkOperation("put", "new", {}, key="6")])

    assert [False, False, False, False, PreconditionFailedError, KeyReusedError, True] == [
        type(one) if isinstance(one, Exception) else one.replayed for one in first
    ]
    assert [(True, first[0].version), (True, first[1].version), (False, again[2].version)] == [
        (one.replayed, one.version) for one in again
    ]
    assert {"_id": "bob", "n": 1} == users.get("bob")


# Over HTTP -----------------------------------------------------------------------------------------------

REQUESTS: dict[str, Callable[..., Any]] = {
    "PUT": partial(lambda client, **given: client.put("/v1/users/ada", json={"n": 1}, **given)),
    "PUT if absent": lambda client, headers: client.put(
        "/v1/users/new", json={"n": 1}, headers={"If-None-Match": "*"} | headers
    ),
    "POST": lambda client, **given: client.post("/v1/users", json={"n": 1}, **given),
    "POST with an id": lambda client, **given: client.post("/v1/users", json={"_id": "bob"}, **given),
    "PATCH": lambda client, **given: client.patch("/v1/users/ada", data='{"n": 5}', content_type=MERGE, **given),
    "DELETE": lambda client, **given: client.delete("/v1/users/ada", **given),
    "DELETE persisted": lambda client, **given: client.delete("/v1/users/ada?durability=replicated", **given),
    "increment": lambda client, **given: client.post("/v1/users/ada:increment", json={"n": 1, "m": 0.5}, **given),
}


@pytest.mark.parametrize("key", [KEY, f'"{KEY}"', f'"{KEY}";a=1'], ids=["bare", "quoted", "with a parameter"])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_repeated_over_http(client, request_, key):
    """A request that is repeated has the status, the headers and the body of the first answer."""
    client.put("/v1/users/ada", json={"n": 0})
    first = request_(client, headers={"Idempotency-Key": key})
    again = request_(client, headers={"Idempotency-Key": key})

    assert first.status_code < 300
    assert (first.status_code, first.data) == (again.status_code, again.data)
    assert "Idempotency-Replayed" not in first.headers
    assert {**first.headers, "Idempotency-Replayed": "true"} == dict(again.headers)


def test_another_request_over_http(client):
    """The same key with another body, condition or method is 422, and says so."""
    key = {"Idempotency-Key": KEY}
    client.put("/v1/users/ada", json={"n": 1}, headers=key)

    answers = [
        client.put("/v1/users/ada", json={"n": 2}, headers=key),
        client.put("/v1/users/ada", json={"n": 1}, headers=key | {"If-Match": "*"}),
        client.delete("/v1/users/ada", headers=key),
        client.post("/v1/users/ada:increment", json={"n": 1}, headers=key),
    ]

    assert [(422, "urn:problem-type:writebehind:key-reused")] * 4 == [
        (one.status_code, one.json["type"]) for one in answers
    ]
    assert 1 == client.get("/v1/users/ada").json["n"]


@pytest.mark.parametrize(
    "header", ["", '""', '"a', 'a"', "a, b", '"a", "b"', "a b", '"ä"', "x" * 256, '"\\a"', "a;b=1"]
)
def test_a_header_that_is_no_key(client, header):
    """What is no key is 400, and nothing is written."""
    answer = client.put("/v1/users/ada", json={}, headers={"Idempotency-Key": header})

    assert (400, 404) == (answer.status_code, client.get("/v1/users/ada").status_code)


def test_escapes(client):
    """A string in quotes means what stands in it: the bare and the quoted form are one key."""
    client.put("/v1/users/ada", json={}, headers={"Idempotency-Key": r'"a\"b\\c"'})
    answers = [
        client.put("/v1/users/ada", json={}, headers={"Idempotency-Key": one})
        for one in (r'"a\"b\\c"', '"d"', "d")
    ]
    assert ["true", None, "true"] == [one.headers.get("Idempotency-Replayed") for one in answers]


def test_bulk_over_http(client):
    """Items have keys of their own, or those that follow from the request's."""
    items = [
        {"op": "put", "id": "ada", "doc": {"n": 1}},
        {"op": "patch", "id": "ada", "doc": {"m": 1}},
        {"op": "delete", "id": "bob", "key": "own"},
    ]
    key = {"Idempotency-Key": f'"{KEY}"'}
    first = client.post("/v1/users:bulk", json=items, headers=key).json["results"]
    client.put("/v1/users/ada", json={"n": 5})

    again = client.post("/v1/users:bulk", json=items, headers=key).json["results"]
    others = client.post("/v1/users:bulk", json=[items[1], items[2]], headers=key).json["results"]

    assert [one | {"replayed": True} for one in first] == again
    assert [(422, None), (204, True)] == [(one["status"], one.get("replayed")) for one in others]
    assert 5 == client.get("/v1/users/ada").json["n"]
    assert "buffered" == client.get(f"/v1/receipts/{KEY}:1").json["state"]


@pytest.mark.parametrize("key", ["", "a" * 256, 7, "ä"])
def test_an_item_whose_key_is_none(client, key):
    """It is refused by itself."""
    items = [{"op": "put", "id": "ada", "doc": {}, "key": key}, {"op": "put", "id": "bob", "doc": {}}]
    results = client.post("/v1/users:bulk", json=items).json["results"]
    assert [400, 200] == [one["status"] for one in results]
    long = {"Idempotency-Key": "a" * 245}
    assert 400 == client.post("/v1/users:bulk", json=items, headers=long).status_code


def test_receipts_over_http(client, pipeline):
    """A receipt is found by its key alone."""
    written = client.put("/v1/users/ada", json={"n": 1}, headers={"Idempotency-Key": KEY})

    found = client.get(f"/v1/receipts/{KEY}")

    etag = written.headers["ETag"].strip('"')
    expected = {"key": KEY, "state": "buffered", "collection": "users", "id": "ada", "etag": etag}
    assert expected | {"version": written.json["version"]} == found.json
    assert {"key": "other", "state": "unknown"} == client.get("/v1/receipts/other").json
    assert 400 == client.get(f"/v1/receipts/{'a' * 256}").status_code


def test_an_answer_that_is_kept_is_not_long(client, pipeline):
    """A client that increments many numbers with a new key each time fills no Redis; without a key it may."""
    many = {f"{number:04}{'x' * 60}": 1 for number in range(200)}
    for _ in range(2):
        refused = client.post("/v1/users/ada:increment", json=many, headers={"Idempotency-Key": KEY})
        assert (refused.status_code, refused.json["type"].rpartition(":")[2]) == (413, "too-much-work")
    assert client.get("/v1/users/ada").status_code == 404
    assert client.post("/v1/users/ada:increment", json=many).status_code == 201
    few = dict(list(many.items())[:50])
    kept = client.post("/v1/users/ada:increment", json=few, headers={"Idempotency-Key": KEY})
    assert set(kept.json["values"].values()) == {2}
