"""GET and HEAD of single documents: what they answer, and when there is nothing new."""

from __future__ import annotations

import re

import pytest

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import ADA, OID, WRONG, cache_status, document
from writebehind.redis.keys import partition_keys


def test_get(client, ada):
    """GET answers the document with its `_id`, and the ETag that its write answered."""
    response = client.get("/v1/users/ada")
    assert (200, "application/json") == (response.status_code, response.content_type)
    assert {"_id": "ada"} | ADA == response.json
    assert ada.headers["ETag"] == response.headers["ETag"]
    assert "no-cache" == response.headers["Cache-Control"]


def test_get_what_mongodb_has(client, sink):
    """GET answers a document that only MongoDB has."""
    sink.has("users", "ada", {"n": 1})
    assert {"_id": "ada", "n": 1} == document(client)


def test_get_a_missing_document(client):
    """GET of a missing document is a 404 that names it."""
    assert "ada" in problem(client.get("/v1/users/ada"), 404, "not-found")["detail"]


def test_get_a_deleted_document(client, sink):
    """GET of a deleted document is a 404, also while MongoDB still has it."""
    sink.has("users", "ada", {})
    client.delete("/v1/users/ada")
    problem(client.get("/v1/users/ada"), 404, "not-found")


def test_head(client, ada):
    """HEAD answers status and headers of GET, and no body."""
    of_both = {"X-Request-Id": "mine"}
    get, head = client.get("/v1/users/ada", headers=of_both), client.head("/v1/users/ada", headers=of_both)
    assert (200, b"") == (head.status_code, head.data)
    assert dict(get.headers) == dict(head.headers)


def test_head_of_a_missing_document(client):
    """HEAD of a missing document is a 404 without a body."""
    response = client.head("/v1/users/ada")
    assert (404, b"") == (response.status_code, response.data)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
def test_not_modified(client, ada, method, form):
    """If-None-Match with the document's ETag, strong or weak or among others, gives 304 without a body."""
    condition = form.format(ada.headers["ETag"])
    response = client.open("/v1/users/ada", method=method, headers={"If-None-Match": condition})
    assert (304, b"", ada.headers["ETag"]) == (response.status_code, response.data, response.headers["ETag"])
    assert "Cache-Status" in response.headers


@pytest.mark.parametrize("condition", [WRONG, '"x", "y"', ""])
def test_modified(client, ada, condition):
    """If-None-Match with another ETag gives the document."""
    response = client.get("/v1/users/ada", headers={"If-None-Match": condition})
    assert (200, "Ada") == (response.status_code, response.json["name"])


def test_missing_is_not_modified_neither(client):
    """If-None-Match does not turn a missing document into a 304."""
    problem(client.get("/v1/users/ada", headers={"If-None-Match": "*"}), 404, "not-found")


def test_cache_status(client, sink):
    """Cache-Status says whether Redis had the document, and how long it will."""
    sink.has("users", "ada", {})
    assert "writebehind; fwd=miss; stored" == cache_status(client)
    found = re.fullmatch(r"writebehind; hit; ttl=(\d+)", cache_status(client))
    assert 3200 < int(found[1]) <= 3600


def test_cache_status_of_what_is_not_kept(client, sink, installation, monkeypatch):
    """What a Redis that is full does not keep is not said to be stored."""
    sink.has("users", "cold", {})
    monkeypatch.setattr(installation.pipeline.loader, "_is_full", lambda: True)
    for partition in range(installation.pipeline.settings.partitions):
        installation.wire.call("HSET", partition_keys(partition).heat, "floor", 5)
    assert ["writebehind; fwd=miss"] * 2 == [cache_status(client, "/v1/users/cold") for _ in range(2)]


def test_cache_status_of_a_pending_document(client, ada):
    """A document that waits for MongoDB is a hit without an end."""
    assert "writebehind; hit" == cache_status(client)


def test_cache_status_of_a_missing_document(client):
    """A missing document is remembered too, for a shorter time."""
    assert "writebehind; fwd=miss; stored" == cache_status(client)
    assert re.fullmatch(r"writebehind; hit; ttl=(2\d|30)", cache_status(client))


def test_every_type_survives(client):
    """Extended JSON comes back as it was sent."""
    body = {
        "oid": {"$oid": OID},
        "date": {"$date": "2020-01-02T03:04:05.678Z"},
        "far": {"$date": {"$numberLong": "253402300800000"}},
        "decimal": {"$numberDecimal": "1.10"},
        "nan": {"$numberDouble": "NaN"},
        "binary": {"$binary": {"base64": "AAE=", "subType": "05"}},
        "regex": {"$regularExpression": {"pattern": "a", "options": "i"}},
        "long": 5_000_000_000,
        "nested": {"list": [{"$minKey": 1}, None, True, 1.5]},
    }
    client.put("/v1/users/ada", json=body)
    assert {"_id": "ada"} | body == document(client)
