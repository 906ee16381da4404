"""Receipts of writes: how many are kept, for how long, and what they say."""

from __future__ import annotations

import pytest

from tests.integration.idempotency.conftest import KEY, NAME, held, keys_of
from web.app import create_app
from writebehind import BulkOperation, Pipeline
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidArgumentError,
    KeyReusedError,
    MistypedKeyError,
    TooManyReceiptsError,
    UnknownCollectionError,
)
from writebehind.redis.receipts import KEPT_FOR_CERTAIN_MS, MOST_FOR_CERTAIN
from writebehind.writing.receipts import ReceiptState


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
    """A write forgets what is over where there are too many, so that nobody needs to come by."""
    pipeline.store.receipts.most = 1
    for number in range(6):
        users.put("ada", {}, key=f"{number}")
    of = keys_of(pipeline)
    for number in range(6):
        pipeline.store._wire.call("ZADD", of.receipts_at, number, f"users/{number}")

    users.put("ada", {}, key="new")
    assert (3, 3) == held(pipeline)
    users.put("ada", {}, key="newer")
    assert (2, 2) == held(pipeline)


def age(pipeline: Pipeline, ms: int) -> None:
    """Let all receipts of a document's partition be older."""
    wire, of = pipeline.store._wire, keys_of(pipeline)
    wire.calls([("ZINCRBY", of.receipts_at, -ms, name) for name in wire.call("ZRANGE", of.receipts_at, 0, -1)])


def evicted(pipeline: Pipeline) -> int:
    return pipeline.store.metrics.totals().by_name.get("evicted_receipts", 0)


def test_bounded_in_number(pipeline, users):
    """The last ones of each partition are kept, so that their number is bounded; what goes early is counted."""
    pipeline.store.receipts.most = 3
    for number in range(8):
        users.put("ada", {}, key=f"{number}")
        age(pipeline, KEPT_FOR_CERTAIN_MS)

    assert (3, 3) == held(pipeline)
    assert 5 == evicted(pipeline)
    assert users.put("ada", {}, key="7").replayed
    assert not users.put("ada", {}, key="0").replayed


def test_those_that_may_be_asked_for_are_kept(pipeline, users):
    """However many others come: a request that is repeated within two minutes counts once."""
    pipeline.store.receipts.most = 1
    first = users.increment("ada", {"n": 1}, key=KEY).written
    for number in range(5):
        users.put("grace" if number % 2 else "ada", {"n": 7}, key=f"{number}")
        age(pipeline, KEPT_FOR_CERTAIN_MS // 10)

    again = users.increment("ada", {"n": 1}, key=KEY).written

    assert (True, first.version) == (again.replayed, again.version)
    assert 0 == evicted(pipeline)


def test_more_than_can_be_kept_are_refused(pipeline, users):
    """Nothing is written then, without a key all is, and there is room when the oldest may go."""
    pipeline.store.receipts.most = 1
    for number in range(MOST_FOR_CERTAIN):
        users.put("ada", {"n": number}, key=f"{number}")
    age(pipeline, KEPT_FOR_CERTAIN_MS - 60_000)

    with pytest.raises(TooManyReceiptsError) as refused:
        users.put("ada", {"n": -1}, key=KEY)

    assert 50 < refused.value.retry_after_s <= 60
    answer = create_app(pipeline).test_client().put("/v1/users/ada", json={}, headers={"Idempotency-Key": KEY})
    assert (503, "urn:problem-type:writebehind:receipts-full") == (answer.status_code, answer.json["type"])
    assert 50 < int(answer.headers["Retry-After"]) <= 60
    assert MOST_FOR_CERTAIN - 1 == users.get("ada")["n"]
    assert users.put("ada", {"n": 0}, key="0").replayed
    users.put("ada", {"n": -2})
    results = users.bulk([BulkOperation("put", "ada", {}, key=KEY), BulkOperation("put", "ada", {"n": -4})])
    assert [True, False] == [isinstance(one, TooManyReceiptsError) for one in results]

    age(pipeline, 60_000)
    assert not users.put("ada", {"n": -1}, key=KEY).replayed
    assert -1 == users.get("ada")["n"]


def test_old_ones_are_in_nobodys_way(pipeline, users):
    """Where the settings allow fewer than there are, old receipts refuse no write, and maintenance takes them."""
    for number in range(MOST_FOR_CERTAIN + 20):
        users.put("ada", {}, key=f"{number}")
    age(pipeline, KEPT_FOR_CERTAIN_MS)
    pipeline.store.receipts.most = 1

    users.put("ada", {}, key="new")
    assert (MOST_FOR_CERTAIN + 17,) * 2 == held(pipeline)
    pipeline.store.receipts.forget_old()
    assert (1, 1) == held(pipeline)


def test_the_same_key_a_day_later(pipeline, users):
    """It is another document's now, and nothing is left of what was known of the first."""
    users.put("ada", {}, key="daily")
    age(pipeline, pipeline.store.receipts.life_ms)
    beside = next(
        one for one in map(str, range(1000)) if in_partition_of(pipeline, f"users/s:{one}", "users/s:ada")
    )
    users.put(beside, {}, key="daily")
    fates = pipeline.store._wire.call("HKEYS", keys_of(pipeline).fates)
    assert [f"users/s:{beside}".encode()] == fates


def test_a_fewer_number(pipeline, users):
    """Where fewer are to be kept than there are, each write forgets some."""
    for number in range(8):
        users.put("ada", {}, key=f"{number}")
    age(pipeline, KEPT_FOR_CERTAIN_MS)
    pipeline.store.receipts.most = 2

    users.put("ada", {}, key="new")

    assert (5, 5) == held(pipeline)


@pytest.mark.parametrize("name", ["receipts", "receipts_at", "fates"])
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
