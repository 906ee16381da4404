"""PATCH, increments and DELETE of single documents."""

from __future__ import annotations

import json

import pytest
from bson import Decimal128, ObjectId

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import ADA, MERGE, OID, document

PATCH = "application/json-patch+json"


def test_merge_patch(client, ada):
    """A merge patch changes what it names; what it does not name keeps its type."""
    response = client.patch("/v1/users/ada", data='{"name":null,"n":{"x":1}}', content_type=MERGE)
    assert (200, "buffered") == (response.status_code, response.json["durability"])
    assert response.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"] != ada.headers["ETag"]
    assert {"_id": "ada", "born": ADA["born"], "n": {"x": 1}} == document(client)


def test_json_patch(client, ada):
    """A JSON Patch is carried out in its order, with Extended JSON as values."""
    ops = [
        {"op": "test", "path": "/born", "value": ADA["born"]},
        {"op": "move", "from": "/name", "path": "/names"},
        {"op": "add", "path": "/oid", "value": {"$oid": OID}},
    ]
    assert 200 == client.patch("/v1/users/ada", data=json.dumps(ops), content_type=PATCH).status_code
    assert {"_id": "ada", "born": ADA["born"], "names": "Ada", "oid": {"$oid": OID}} == document(client)


@pytest.mark.parametrize("patch", ['{"_id":"ada"}', '{"_id":null}', "{}"])
def test_the_id_stays(client, ada, patch):
    """A patch may repeat the `_id` or leave it out; the document keeps it."""
    assert 200 == client.patch("/v1/users/ada", data=patch, content_type=MERGE).status_code
    assert "ada" == document(client)["_id"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "name"),
    [
        (MERGE, '{"_id":"bob"}', 422, "invalid-document"),
        (MERGE, '{"_v":1}', 422, "invalid-document"),
        (MERGE, "[]", 400, "invalid-patch"),
        (MERGE, "{", 400, "malformed-json"),
        (PATCH, '[{"op":"replace","path":"/_id","value":"bob"}]', 422, "invalid-document"),
        (PATCH, '[{"op":"add","path":"/$set","value":1}]', 422, "invalid-document"),
        (PATCH, '[{"op":"add","path":"/_v","value":1}]', 422, "invalid-document"),
        (PATCH, '[{"op":"test","path":"/name","value":"Bob"}]', 409, "patch-conflict"),
        (PATCH, '[{"op":"remove","path":"/nothing"}]', 409, "patch-conflict"),
        (PATCH, '[{"op":"add","path":"/x"}]', 400, "invalid-patch"),
        (PATCH, "{}", 400, "invalid-patch"),
        *[
            (content_type, "{}", 415, "unsupported-media-type")
            for content_type in ("application/json", "text/plain", None, "", "application/x-www-form-urlencoded")
        ],
    ],
)
def test_refused_patches(client, ada, content_type, body, status, name):
    """A patch that is malformed, does not fit or is of another type is refused and changes nothing."""
    problem(client.patch("/v1/users/ada", data=body, content_type=content_type), status, name)
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


@pytest.mark.parametrize(("content_type", "body"), [(MERGE, "{}"), (PATCH, "[]")])
def test_patch_of_a_missing_document(client, installation, content_type, body):
    """A patch does not create a document."""
    problem(client.patch("/v1/users/ada", data=body, content_type=content_type), 404, "not-found")
    assert [] == installation.stored()


def test_delete(client, ada):
    """DELETE answers 204 without a body, however often, also for what never was."""
    for path in ("/v1/users/ada", "/v1/users/ada", "/v1/users/never"):
        response = client.delete(path)
        assert (204, b"") == (response.status_code, response.data)
    problem(client.get("/v1/users/ada"), 404, "not-found")


def test_increment(client):
    """An increment creates what is missing, and answers the new values by path."""
    first = client.post("/v1/users/ada:increment", json={"views": 1, "by.x": -2})
    second = client.post("/v1/users/ada:increment", json={"views": 2})
    assert [201, 200] == [first.status_code, second.status_code]
    assert [{"views": 1, "by.x": -2}, {"views": 3}] == [first.json["values"], second.json["values"]]
    assert {"id": "ada", "durability": "buffered", "values": {"views": 3}} == {
        name: value for name, value in second.json.items() if name != "version"
    }
    assert second.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]
    assert {"_id": "ada", "views": 3, "by": {"x": -2}} == document(client)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (1.5, 1.5),
        ({"$numberDecimal": "1.10"}, {"$numberDecimal": "1.10"}),
        ({"$numberLong": "1"}, 1),
        ({"$numberDouble": "NaN"}, {"$numberDouble": "NaN"}),
        (5_000_000_000, 5_000_000_000),
    ],
)
def test_types_of_increments(client, delta, expected):
    """Deltas are Extended JSON, and so are the new values."""
    assert {"n": expected} == client.post("/v1/users/ada:increment", json={"n": delta}).json["values"]
    assert {"_id": "ada", "n": expected} == document(client)


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        ({"name": 1}, 409, "patch-conflict"),
        ({"name.x": 1}, 409, "patch-conflict"),
        ({"n": "1"}, 400, "invalid-patch"),
        ({"n": True}, 400, "invalid-patch"),
        ({}, 400, "invalid-patch"),
        ([], 400, "invalid-patch"),
        ({"_id": 1}, 400, "invalid-patch"),
        ({"_v": 1}, 400, "invalid-patch"),
        ({"a.$oid": 1}, 400, "invalid-patch"),
        ({"a..b": 1}, 400, "invalid-patch"),
        ({"$inc": {"n": 1}}, 422, "invalid-document"),
        ({"n": 10**30}, 400, "invalid-patch"),
        ({".".join("a" * 200): 1}, 422, "invalid-document"),
        ({"born": 1}, 409, "patch-conflict"),
    ],
)
def test_refused_increments(client, ada, body, status, name):
    """An increment that is malformed or does not fit is refused and changes nothing."""
    problem(client.post("/v1/users/ada:increment", json=body), status, name)
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


def test_increment_beyond_64_bits(client):
    """An increment does not overflow."""
    client.put("/v1/users/ada", json={"n": {"$numberLong": str((1 << 63) - 1)}})
    problem(client.post("/v1/users/ada:increment", json={"n": 1}), 422, "invalid-document")
    assert (1 << 63) - 1 == document(client)["n"]


def test_increment_of_a_typed_document(client, sink):
    """An increment leaves the types of the other fields alone."""
    sink.has("users", "ada", {"oid": ObjectId(OID), "decimal": Decimal128("1.10"), "n": 1})
    client.post("/v1/users/ada:increment", json={"n": 1})
    assert {"_id": "ada", "oid": {"$oid": OID}, "decimal": {"$numberDecimal": "1.10"}, "n": 2} == document(client)


def test_increment_of_an_id_with_a_colon(client):
    """The id ends at the last colon only."""
    assert "a:increment" == client.post("/v1/users/a:increment:increment", json={"n": 1}).json["id"]
