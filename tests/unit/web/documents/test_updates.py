"""Updates of single documents by MongoDB's operators."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import ADA, OID, document

UPDATE = "/v1/users/ada:update"


def test_update(client, ada):
    """Operators change the latest acknowledged state; what they do not name keeps its type."""
    update = {
        "$set": {"address.city": "London", "oid": {"$oid": OID}},
        "$inc": {"visits": 1},
        "$push": {"tags": {"$each": ["b", "a"], "$sort": 1}},
        "$unset": {"name": ""},
    }
    response = client.post(UPDATE, json=update)
    assert (200, "buffered") == (response.status_code, response.json["durability"])
    assert response.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"] != ada.headers["ETag"]
    found = document(client)
    assert {"city": "London"} == found["address"]
    assert ({"$oid": OID}, 1, ["a", "b"], ADA["born"]) == tuple(
        found[one] for one in ("oid", "visits", "tags", "born")
    )
    assert "name" not in found

    assert (
        200
        == client.post(UPDATE, json={"$pull": {"tags": {"$in": ["a"]}}, "$rename": {"visits": "n"}}).status_code
    )
    found = document(client)
    assert (["b"], 1) == (found["tags"], found["n"])


def test_condition(client, ada):
    """An update is made on a condition, as a patch is."""
    etag = ada.headers["ETag"]
    assert 200 == client.post(UPDATE, json={"$inc": {"v": 1}}, headers={"If-Match": etag}).status_code
    problem(client.post(UPDATE, json={"$inc": {"v": 1}}, headers={"If-Match": etag}), 412, "precondition-failed")
    assert 1 == document(client)["v"]


@pytest.mark.parametrize(
    ("update", "status", "name", "path"),
    [
        ([], 400, "invalid-patch", ""),
        ({}, 400, "invalid-patch", ""),
        ({"name": "x"}, 400, "invalid-patch", "name"),
        ({"$setOnInsert": {"a": 1}}, 400, "invalid-patch", "$setOnInsert"),
        ({"$inc": {"a.b": "1"}}, 400, "invalid-patch", "a.b"),
        ({"$set": {"a.$.b": "1"}}, 400, "invalid-patch", "a.$.b"),
        ({"$set": {"a": 1}, "$inc": {"a.b": 1}}, 400, "invalid-patch", "a.b"),
        ({"$pull": {"a": {"$elemMatch": {"x": 1}}}}, 400, "invalid-patch", "$elemMatch"),
        ({"$inc": {"name": 1}}, 409, "patch-conflict", "name"),
        ({"$set": {"name.x": 1}}, 409, "patch-conflict", "name.x"),
        ({"$push": {"name": 1}}, 409, "patch-conflict", "name"),
        ({"$set": {"_id": "bob"}}, 422, "invalid-document", "_id"),
        ({"$unset": {"_id": ""}}, 422, "invalid-document", "_id"),
        ({"$set": {"_v": 1}}, 422, "invalid-document", "_v"),
        ({"$set": {"a": {"$x": 1}}}, 422, "invalid-document", "$x"),
        ({"$set": {"a": {}}, "$push": {"b.9999999999": 1}}, 200, "", ""),
    ],
)
def test_refused_updates(client, ada, update, status, name, path):
    """An update that is malformed or does not fit is refused, with the path, and changes nothing."""
    response = client.post(UPDATE, json=update)
    if status == 200:
        assert status == response.status_code
        return
    assert path in problem(response, status, name)["detail"]
    assert ADA == {one: value for one, value in document(client).items() if one in ADA}
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


def test_an_update_creates_nothing(client, installation):
    """There has to be a document."""
    problem(client.post("/v1/users/nobody:update", json={"$set": {"a": 1}}), 404, "not-found")
    assert [] == installation.stored()


def test_an_update_that_is_sent_again(client, ada):
    """With an idempotency key an update counts once."""
    for _ in range(2):
        answer = client.post(UPDATE, json={"$inc": {"n": 1}}, headers={"Idempotency-Key": '"one"'})
        assert 200 == answer.status_code
    assert "true" == answer.headers["Idempotency-Replayed"]
    assert 1 == document(client)["n"]
