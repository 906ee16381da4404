"""PUT and POST of single documents: status, location, ids, schema."""

from __future__ import annotations

import re
from io import BytesIO

import pytest
from flask import Flask, Response, request_finished

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import ADA, MERGE, OID, document

UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"

ETAG = re.compile(r'"[0-9a-f]{32}"')


def test_put(client, installation):
    """PUT answers id, version, durability and ETag, and the write waits for MongoDB."""
    response = client.put("/v1/users/ada", json=ADA)
    assert {"id": "ada", "durability": "buffered"} | {"version": response.json["version"]} == response.json
    assert response.json["version"] > 1_700_000_000_000_000
    assert ETAG.fullmatch(response.headers["ETag"])
    assert 1 == installation.pipeline.status()["pending"]
    assert [] == installation.sink.written


def test_put_again(client, ada):
    """A second PUT has a higher version, and another ETag only for other bytes."""
    same, other = client.put("/v1/users/ada", json=ADA), client.put("/v1/users/ada", json={})
    assert ada.json["version"] < same.json["version"] < other.json["version"]
    assert ada.headers["ETag"] == same.headers["ETag"] != other.headers["ETag"]
    assert {"_id": "ada"} == document(client)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], 200),
        ([("GET", None)], 201),
        ([("PUT", {})], 200),
        ([("DELETE", None)], 201),
        ([("PUT", {}), ("DELETE", None)], 201),
        ([("DELETE", None), ("PUT", {})], 200),
    ],
)
def test_created_or_replaced(client, before, expected):
    """PUT answers 201 when it is known that there was no document, else 200."""
    for method, body in before:
        client.open("/v1/users/ada", method=method, json=body)
    assert expected == client.put("/v1/users/ada", json=ADA).status_code


def test_replaced_what_mongodb_has(client, sink):
    """PUT over a document that was read from MongoDB answers 200."""
    sink.has("users", "ada", {})
    client.get("/v1/users/ada")
    assert 200 == client.put("/v1/users/ada", json=ADA).status_code


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-www-form-urlencoded",
    ],
)
def test_content_types_of_documents(client, content_type):
    """A document is accepted as JSON, as what `curl -d` calls it, and without a type."""
    assert 200 == client.put("/v1/users/ada", data="{}", content_type=content_type).status_code


def test_body_without_a_length(client):
    """A body that does not tell its length is read to its end."""
    response = client.put(
        "/v1/users/ada",
        input_stream=BytesIO(b'{"name":"Ada"}'),
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert (200, "Ada") == (response.status_code, document(client)["name"])


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("/v1/users/ada", "ada", "ada"),
        ("/v1/orders/" + OID, {"$oid": OID}, {"$oid": OID}),
        ("/v1/orders/" + OID, OID, {"$oid": OID}),
        ("/v1/orders/" + OID.upper(), {"$oid": OID}, {"$oid": OID}),
        ("/v1/events/" + OID, {"$oid": OID}, {"$oid": OID}),
        ("/v1/events/ada", "ada", "ada"),
        ("/v1/numbers/-5", -5, -5),
        ("/v1/numbers/5", "5", 5),
        ("/v1/numbers/5", {"$numberLong": "5"}, 5),
        (
            "/v1/keys/" + UUID_TEXT,
            {"$uuid": UUID_TEXT},
            {"$binary": {"base64": "ABEiM0RVZneImaq7zN3u/w==", "subType": "04"}},
        ),
        ("/v1/keys/" + UUID_TEXT, UUID_TEXT, {"$binary": {"base64": "ABEiM0RVZneImaq7zN3u/w==", "subType": "04"}}),
        ("/v1/free/" + "a%20b%C3%A9%00", "a bé\0", "a bé\0"),
    ],
)
def test_id_types(client, path, given, expected):
    """A document may bring its `_id`, as text or as its type, and has it in the collection's type."""
    assert 200 == client.put(path, json={"_id": given, "n": 1}).status_code
    assert {"_id": expected, "n": 1} == document(client, path)


@pytest.mark.parametrize(
    ("collection", "form"), [("users", OID), ("orders", OID), ("events", OID), ("keys", UUID_TEXT)]
)
def test_post(client, collection, form):
    """POST creates under a generated id of the collection's type, and says where."""
    response = client.post("/v1/" + collection, json=ADA)
    assert (201, "buffered") == (response.status_code, response.json["durability"])
    assert re.sub("[0-9a-f]", "0", form) == re.sub("[0-9a-f]", "0", response.json["id"])
    assert f"/v1/{collection}/{response.json['id']}" == response.headers["Location"]
    assert "Ada" == document(client, response.headers["Location"])["name"]


def test_post_with_an_id(client):
    """POST of a document that brings its `_id` creates it under that, once."""
    response = client.post("/v1/users", json={"_id": "ada", "n": 1})
    assert (201, "/v1/users/ada") == (response.status_code, response.headers["Location"])
    problem(client.post("/v1/users", json={"_id": "ada", "n": 2}), 412, "precondition-failed")
    assert {"_id": "ada", "n": 1} == document(client)


def test_location_is_quoted(client):
    """The Location of an id that needs quoting leads to the document."""
    response = client.post("/v1/free", json={"_id": "a b%é?#"})
    assert "/v1/free/a%20b%25%C3%A9%3F%23" == response.headers["Location"]
    assert "a b%é?#" == document(client, response.headers["Location"])["_id"]


def test_post_where_ids_are_not_generated(client):
    """POST to a collection of integers needs an `_id`."""
    problem(client.post("/v1/numbers", json={}), 400, "invalid-id")
    assert "/v1/numbers/7" == client.post("/v1/numbers", json={"_id": 7}).headers["Location"]


def test_schema(client):
    """A document that fails the collection's schema is refused, also when a patch makes it so."""
    problem(client.put("/v1/named/ada", json={"name": 5}), 422, "invalid-document")
    client.put("/v1/named/ada", json={"name": "Ada"})
    problem(client.patch("/v1/named/ada", data='{"name":null}', content_type=MERGE), 422, "invalid-document")
    assert "Ada" == document(client, "/v1/named/ada")["name"]


def test_by_whom_a_plain_document_is_stored_and_read(client, request):
    """By Flask, or before it: each test of documents is of either."""
    seen = []

    def note(_: Flask, response: Response) -> None:
        seen.append(response.status_code)

    with request_finished.connected_to(note):
        client.put("/v1/users/ada", json={"name": "Ada"}, headers={"Idempotency-Key": "one"})
        client.get("/v1/users/ada")

    assert ([] if request.node.callspec.params["client"] == "hot" else [200, 200]) == seen
