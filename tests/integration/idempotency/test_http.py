"""The header Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.idempotency.conftest import KEY, MERGE, keys_of

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
    """A request that is repeated has status, headers and body of the first answer; its id is its own."""
    client.put("/v1/users/ada", json={"n": 0})
    first = request_(client, headers={"Idempotency-Key": key})
    again = request_(client, headers={"Idempotency-Key": key})

    assert first.status_code < 300
    assert (first.status_code, first.data) == (again.status_code, again.data)
    assert "Idempotency-Replayed" not in first.headers
    own = {"Idempotency-Replayed": "true", "X-Request-Id": again.headers["X-Request-Id"]}
    assert {**first.headers, **own} == dict(again.headers)


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

    assert [one | {"replayed": True} for one in first] == again
    assert 5 == client.get("/v1/users/ada").json["n"]
    assert "buffered" == client.get(f"/v1/receipts/{KEY}:1").json["state"]
    assert "unknown" == client.get(f"/v1/receipts/{KEY}").json["state"]


@pytest.mark.parametrize("change", ["one more", "one less", "another order", "a new document"])
def test_a_bulk_with_the_key_of_another(client, change):
    """Nothing of it is carried out, whichever of its documents the first one had; and the first one goes on."""
    items = [{"op": "put", "id": one, "doc": {"n": 1}} for one in ("ada", "bob", "cy")]
    key = {"Idempotency-Key": f'"{KEY}"'}
    first = client.post("/v1/users:bulk", json=items[:2], headers=key).json["results"]
    changed = {
        "one more": items,
        "one less": items[:1],
        "another order": items[1::-1],
        "a new document": [items[2], items[1]],
    }[change]

    answer = client.post("/v1/users:bulk", json=changed, headers=key)

    assert (422, "urn:problem-type:writebehind:key-reused") == (answer.status_code, answer.json["type"])
    assert 404 == client.get("/v1/users/cy").status_code
    again = client.post("/v1/users:bulk", json=items[:2], headers=key).json["results"]
    assert [one | {"replayed": True} for one in first] == again


def test_a_bulk_that_was_broken_off(client, pipeline):
    """Its repetition makes the writes that were not made, and those only."""
    items = [{"op": "put", "id": one, "doc": {"n": 1}} for one in ("ada", "bob")]
    key = {"Idempotency-Key": KEY}
    client.post("/v1/users:bulk", json=items, headers=key)
    for name in ("receipts", "receipts_at"):
        take = "HDEL" if name == "receipts" else "ZREM"
        pipeline.store._wire.call(take, getattr(keys_of(pipeline, "bob"), name), f"users/{KEY}:1")

    again = client.post("/v1/users:bulk", json=items, headers=key).json["results"]

    assert [True, None] == [one.get("replayed") for one in again]


def test_too_many_requests_with_keys(client, pipeline):
    """A bulk whose key could not be known is refused as a whole, and nothing is written."""
    pipeline.store.receipts.most = 0
    answer = client.post(
        "/v1/users:bulk", json=[{"op": "put", "id": "ada", "doc": {}}], headers={"Idempotency-Key": KEY}
    )
    assert (503, "urn:problem-type:writebehind:receipts-full") == (answer.status_code, answer.json["type"])
    assert 404 == client.get("/v1/users/ada").status_code


@pytest.mark.parametrize("key", ["", "a" * 256, 7, "ä"])
def test_an_item_whose_key_is_none(client, key):
    """It is refused by itself."""
    items = [{"op": "put", "id": "ada", "doc": {}, "key": key}, {"op": "put", "id": "bob", "doc": {}}]
    results = client.post("/v1/users:bulk", json=items).json["results"]
    assert [400, 200] == [one["status"] for one in results]
    long = {"Idempotency-Key": "a" * 245}
    assert 400 == client.post("/v1/users:bulk", json=items, headers=long).status_code


@pytest.mark.parametrize("key", ["orders/7", "/", "a//b", "7/"])
def test_receipts_of_keys_with_slashes(client, key):
    """A key may have slashes: its receipt is found by its address all the same."""
    client.put("/v1/users/ada", json={"n": 1}, headers={"Idempotency-Key": key})

    found = client.get(f"/v1/receipts/{quote(key, safe='')}")

    assert (200, key, "buffered") == (found.status_code, found.json.get("key"), found.json.get("state"))


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
