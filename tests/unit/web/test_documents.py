"""The routes of single documents."""

from __future__ import annotations

import json
import re
from io import BytesIO

import pytest
from bson import Decimal128, ObjectId

from tests.unit.web.conftest import problem
from writebehind.documents import codec
from writebehind.redis.keys import partition_keys

ADA = {"name": "Ada", "born": {"$date": "1985-12-10T00:00:00Z"}}
OID = "5f43a1b2c3d4e5f601234567"
UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"
ETAG = re.compile(r'"[0-9a-f]{32}"')
WRONG = '"' + "0" * 32 + '"'


@pytest.fixture
def ada(client):
    """A document, and the answer to the write that made it."""
    return client.put("/v1/users/ada", json=ADA)


def document(client, path: str = "/v1/users/ada") -> dict:
    return client.get(path).json


# Reading ------------------------------------------------------------------------------------------------


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
    get, head = client.get("/v1/users/ada"), client.head("/v1/users/ada")
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


def cache_status(client, path: str = "/v1/users/ada") -> str:
    return client.get(path).headers["Cache-Status"]


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


# Creating and replacing ---------------------------------------------------------------------------------


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


# Conditions ---------------------------------------------------------------------------------------------


WRITES = {
    "PUT": {"json": {"n": 1}},
    "PATCH": {"data": '{"n":1}', "content_type": MERGE},
    "DELETE": {},
}


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("form", ["{}", '"x", {}', "*"])
def test_if_match(client, ada, method, form):
    """A write whose If-Match names the document's ETag is carried out."""
    headers = {"If-Match": form.format(ada.headers["ETag"])}
    response = client.open("/v1/users/ada", method=method, headers=headers, **WRITES[method])
    assert (204 if method == "DELETE" else 200) == response.status_code
    assert (method == "DELETE") == (client.get("/v1/users/ada").status_code == 404)


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("condition", [WRONG, WRONG + ', "x"'])
def test_if_match_of_another_state(client, ada, method, condition):
    """A write whose If-Match names other ETags is refused and changes nothing."""
    response = client.open("/v1/users/ada", method=method, headers={"If-Match": condition}, **WRITES[method])
    problem(response, 412, "precondition-failed")
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("condition", [WRONG, "*"])
def test_if_match_of_nothing(client, installation, method, condition):
    """No If-Match holds for a document that does not exist."""
    response = client.open("/v1/users/ada", method=method, headers={"If-Match": condition}, **WRITES[method])
    problem(response, 412, "precondition-failed")
    assert [] == installation.stored()


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "W/" + WRONG},
        {"If-Match": ""},
        {"If-None-Match": WRONG},
        {"If-None-Match": "*", "If-Match": WRONG},
    ],
)
def test_conditions_that_say_nothing(client, ada, method, headers):
    """A condition that could not be decided is refused, not ignored."""
    problem(client.open("/v1/users/ada", method=method, headers=headers, **WRITES[method]), 400)
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_none_match_is_for_put(client, ada, method):
    """`If-None-Match: *` makes no sense on a change or a deletion."""
    response = client.open("/v1/users/ada", method=method, headers={"If-None-Match": "*"}, **WRITES[method])
    problem(response, 400, "bad-request")


def test_create_only(client):
    """`If-None-Match: *` creates a document once."""
    headers = {"If-None-Match": "*"}
    assert 201 == client.put("/v1/users/ada", json={"n": 1}, headers=headers).status_code
    problem(client.put("/v1/users/ada", json={"n": 2}, headers=headers), 412, "precondition-failed")
    assert {"_id": "ada", "n": 1} == document(client)


def test_create_only_where_mongodb_has_it(client, sink):
    """`If-None-Match: *` sees a document that only MongoDB has."""
    sink.has("users", "ada", {})
    problem(client.put("/v1/users/ada", json={}, headers={"If-None-Match": "*"}), 412, "precondition-failed")


def test_create_only_again_after_a_deletion(client, ada):
    """`If-None-Match: *` creates a deleted document again."""
    client.delete("/v1/users/ada")
    assert 201 == client.put("/v1/users/ada", json={}, headers={"If-None-Match": "*"}).status_code


@pytest.mark.parametrize("path", ["/v1/users", "/v1/users/ada:increment", "/v1/users:bulk"])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_conditions_where_none_is_decided(client, installation, path, header):
    """A route that decides no condition refuses one."""
    problem(client.post(path, json={"n": 1}, headers={header: "*"}), 400, "bad-request")
    assert [] == installation.stored()


# Durability ---------------------------------------------------------------------------------------------

ALL_WRITES = [
    ("PUT", "/v1/users/ada", {"json": {"n": 1}}),
    ("POST", "/v1/users", {"json": {"n": 1}}),
    ("PATCH", "/v1/users/old", {"data": '{"n":1}', "content_type": MERGE}),
    ("DELETE", "/v1/users/old", {}),
    ("POST", "/v1/users/ada:increment", {"json": {"n": 1}}),
]


@pytest.fixture
def old(client):
    """A document for the writes that need one."""
    return client.put("/v1/users/old", json={}).json


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
def test_persisted(client, sink, old, method, path, body):
    """With durability `persisted`, MongoDB has the write before the answer is sent."""
    response = client.open(path, method=method, query_string={"durability": "persisted"}, **body)
    assert response.status_code in {200, 201, 204}
    assert method == "DELETE" or "persisted" == response.json["durability"]
    last = sink.written[-1]
    assert method == "DELETE" or (response.json["id"], response.json["version"]) == (
        last.id.text,
        last.entry.version,
    )
    assert (method != "DELETE") == last.entry.exists


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
def test_persisted_without_mongodb(client, sink, old, method, path, body):
    """When MongoDB does not take the write, the answer is 202 with the level that was reached."""
    client.get("/v1/users/ada")
    sink.down = True
    response = client.open(path, method=method, query_string={"durability": "persisted"}, **body)
    assert (202, "buffered") == (response.status_code, response.json["durability"])
    assert response.json.keys() >= {"id", "version"}
    assert (404 if method == "DELETE" else 200) == client.get("/v1/users/" + response.json["id"]).status_code


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
@pytest.mark.parametrize("query", [{"durability": "persisted"}, {}])
def test_persisted_is_refused(client, sink, old, monkeypatch, method, path, body, query):
    """A write that waits for MongoDB, which refuses it, is no success: the problem says why."""
    monkeypatch.setattr(sink, "refuses", Everything())
    path = path if query else path.replace("users", "through")
    client.put("/v1/through/old", json={}) if not query else client.get("/v1/users/ada")

    found = problem(client.open(path, method=method, query_string=query, **body), 422, "dead-letter")

    letter = client.get(found["letter"]).json
    assert (found["version"], 121) == (letter["version"], letter["code"])
    assert "Document failed validation" in found["detail"]
    document = f"/v1/{letter['collection']}/{letter['id']}"
    assert (404 if method == "DELETE" else 200) == client.get(document).status_code  # as last acknowledged


class Everything:
    """Every id."""

    def __contains__(self, _: str) -> bool:
        return True


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
def test_buffered(client, sink, old, method, path, body):
    """With durability `buffered`, nobody waits for MongoDB."""
    client.get("/v1/users/ada")
    sink.down = True
    response = client.open(path, method=method, query_string={"durability": "buffered"}, **body)
    assert response.status_code in {200, 201, 204}
    assert method == "DELETE" or "buffered" == response.json["durability"]


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
@pytest.mark.parametrize(
    "query",
    ["durability=sure", "durability=", "durabilty=persisted", "x=1", "durability", "durability=buffered&x=1"],
)
def test_wrong_parameters(client, installation, method, path, body, query):
    """An unknown level or a misspelt parameter is refused, and nothing is written."""
    problem(client.open(path, method=method, query_string=query, **body), 400, "bad-request")
    assert [] == installation.stored()


@pytest.mark.parametrize("collection", ["through", "around"])
def test_write_modes(client, sink, collection):
    """Collections that are not written behind are persisted without being asked."""
    path = f"/v1/{collection}/ada"
    assert "persisted" == client.put(path, json={"n": 1}).json["durability"]
    assert {"_id": "ada", "n": 1} == codec.decode(sink.written[0].entry.body)
    expected = "hit; ttl=" if collection == "through" else "fwd=miss"
    assert expected in cache_status(client, path)


def test_write_through_without_mongodb(client, sink):
    """Write-through answers 202 when MongoDB does not take the write, whatever is asked for."""
    sink.down = True
    response = client.put("/v1/through/ada?durability=buffered", json={})
    assert (202, "buffered") == (response.status_code, response.json["durability"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/users/ada", {}),
        ("PATCH", "/v1/users/ada", {"data": "{}", "content_type": MERGE}),
        ("POST", "/v1/users/ada:increment", {"json": {"n": 1}}),
        ("PUT", "/v1/users/ada", {"json": {}, "headers": {"If-Match": WRONG}}),
        ("POST", "/v1/users:get", {"json": {"ids": ["ada"]}}),
    ],
)
def test_mongodb_is_needed_and_down(client, installation, method, path, body):
    """What cannot be answered without MongoDB is a 503 that says when to come again."""
    installation.sink.down = True
    response = client.open(path, method=method, **body)
    problem(response, 503, "mongodb-unavailable")
    assert 0 < int(response.headers["Retry-After"])
    assert [] == installation.stored()


# Changing -----------------------------------------------------------------------------------------------


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


# Deleting -----------------------------------------------------------------------------------------------


def test_delete(client, ada):
    """DELETE answers 204 without a body, however often, also for what never was."""
    for path in ("/v1/users/ada", "/v1/users/ada", "/v1/users/never"):
        response = client.delete(path)
        assert (204, b"") == (response.status_code, response.data)
    problem(client.get("/v1/users/ada"), 404, "not-found")


# Incrementing -------------------------------------------------------------------------------------------


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
