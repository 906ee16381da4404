"""The route that writes many documents at once."""

from __future__ import annotations

import json

import pytest

from tests.unit.web.batches import OID, bulk, document, put
from tests.unit.web.conftest import problem
from writebehind.documents import codec
from writebehind.flask.problems import SPEND

WRONG = "0" * 32


def statuses(results: list[dict]) -> list[int]:
    return [one["status"] for one in results]


def test_results(client, sink):
    """Each item has a result with id, status, version, durability, and but for a deletion its ETag."""
    client.put("/v1/users/old", json={"n": 1})
    items = [put("ada", n=1), {"op": "patch", "id": "old", "doc": {"m": 2}}, {"op": "delete", "id": "gone"}]
    results = bulk(client, *items)
    assert [("ada", 200), ("old", 200), ("gone", 204)] == [(one["id"], one["status"]) for one in results]
    assert ["buffered"] * 3 == [one["durability"] for one in results]
    assert {"id", "status", "version", "durability", "etag"} == results[0].keys()
    assert results[1].keys() - {"etag"} == results[2].keys()
    assert f'"{results[0]["etag"]}"' == client.get("/v1/users/ada").headers["ETag"]
    assert {"_id": "old", "n": 1, "m": 2} == document(client, "old")
    assert [] == sink.written


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/x-ndjson", "application/ndjson", "application/jsonl", "application/json", None),
        "application/x-www-form-urlencoded",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n  \n"])
def test_ndjson(client, content_type, end):
    """NDJSON is an operation in each line; empty lines do not count."""
    lines = [json.dumps(put(name, n=1)) for name in ("ada", "bob")]
    for body in (end.join(lines), end.join(lines) + end):
        response = client.post("/v1/users:bulk", data=body, content_type=content_type)
        assert ["ada", "bob"] == [one["id"] for one in response.json["results"]]


@pytest.mark.parametrize("data", ["[]", " [] ", "\n[\n]\n"])
def test_empty_array(client, data):
    """No items have no results."""
    assert [] == client.post("/v1/users:bulk", data=data).json["results"]


@pytest.mark.parametrize("data", ["", " ", "\n\n"])
def test_nothing(client, data):
    """A body without anything is malformed."""
    problem(client.post("/v1/users:bulk", data=data), 400, "malformed-json")


def test_a_wrong_line(client):
    """A line of NDJSON that is no JSON fails by itself."""
    body = "\n".join([json.dumps(put("ada")), "{", json.dumps(put("bob")), "null", '"x"', "[" * 200 + "]" * 200])
    results = client.post("/v1/users:bulk", data=body, content_type="application/x-ndjson").json["results"]
    assert [200, 400, 200, 400, 400, 422] == statuses(results)
    assert ["ada", None, "bob", None, None, None] == [one["id"] for one in results]


@pytest.mark.parametrize("data", ["\v[]", "\f[]", "\v", " \f\n"])
def test_what_json_does_not_take_for_space(client, installation, data):
    """Only blanks, tabs and ends of lines are empty: any other character is a line of its own, and no JSON."""
    lines = client.post("/v1/users:bulk", data=data, content_type="application/x-ndjson").json["results"]
    assert [400] == statuses(lines)
    assert [] == installation.stored()


@pytest.mark.parametrize("data", ["[", "[{]", '[{"op":"put","id":"a","doc":{}}', '["\\ud800"]'])
def test_a_wrong_array(client, installation, data):
    """An array that is no JSON fails as a whole, and nothing is written."""
    problem(client.post("/v1/users:bulk", data=data), 400, "malformed-json")
    assert [] == installation.stored()


ITEM_ERRORS = [
    (5, 400, "bad-request"),
    *[({"op": one, "id": "x", "doc": {}}, 400, "bad-request") for one in ([], {}, ["put"], {"put": 1}, 1, None)],
    (None, 400, "bad-request"),
    ([], 400, "bad-request"),
    ({}, 400, "bad-request"),
    ({"op": "put", "doc": {}}, 400, "bad-request"),
    ({"op": "post", "id": "x", "doc": {}}, 400, "bad-request"),
    ({"op": "PUT", "id": "x", "doc": {}}, 400, "bad-request"),
    ({"op": "put", "id": "x", "doc": {}, "ifmatch": "*"}, 400, "bad-request"),
    ({"op": "put", "id": "x", "doc": {}, "if_match": 5}, 400, "bad-request"),
    ({"op": "put", "id": "x", "doc": {}, "if_match": []}, 400, "bad-request"),
    ({"op": "put", "id": "x", "doc": {}, "if_match": [""]}, 400, "bad-request"),
    ({"op": "put", "id": "x", "doc": {}, "if_match": None}, 400, "bad-request"),
    ({"op": "delete", "id": "x", "if_match": None}, 400, "bad-request"),
    ({"op": "put", "id": "x"}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": []}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"$set": 1}}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"a": {"$bad": 1}}}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"_v": 1}}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"_id": "y"}}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"n": 10**30}}, 422, "invalid-document"),
    ({"op": "put", "id": "x", "doc": {"a": {"$oid": "z"}}}, 400, "malformed-json"),
    ({"op": "put", "id": "x", "doc": {"a": "x" * (1 << 20)}}, 413, "too-large"),
    *[({"op": "put", "id": one, "doc": {}}, 400, "invalid-id") for one in ("", "../x", "$where", "x" * 2000, "é")],
    *[
        ({"op": "put", "id": one, "doc": {}}, 400, "invalid-id")
        for one in (5, None, True, ["x"], {"a": 1}, 10**30)
    ],
    *[({"op": "put", "id": {name: "x"}, "doc": {}}, 400, "malformed-json") for name in ("$oid", "$uuid", "$date")],
    ({"op": "put", "id": {"$code": "x"}, "doc": {}}, 400, "invalid-id"),
    ({"op": "put", "id": {"$x": "x"}, "doc": {}}, 422, "invalid-document"),
    ({"op": "put", "id": {"$oid": OID}, "doc": {}}, 400, "invalid-id"),
    ({"op": "put", "id": {"$binary": {"base64": "aGk=", "subType": "04"}}, "doc": {}}, 400, "invalid-id"),
    ({"op": "delete", "id": "../x"}, 400, "invalid-id"),
    ({"op": "patch", "id": "x"}, 400, "invalid-patch"),
    ({"op": "patch", "id": "x", "doc": 5}, 400, "invalid-patch"),
    ({"op": "patch", "id": "x", "doc": [{"op": "add"}]}, 400, "invalid-patch"),
    ({"op": "patch", "id": "x", "doc": {"a": 1}}, 404, "not-found"),
    ({"op": "patch", "id": "old", "doc": [{"op": "remove", "path": "/x"}]}, 409, "patch-conflict"),
    ({"op": "patch", "id": "old", "doc": [{"op": "add", "path": "/$x", "value": 1}]}, 422, "invalid-document"),
    ({"op": "put", "id": "old", "doc": {}, "if_match": WRONG}, 412, "precondition-failed"),
    ({"op": "delete", "id": "x", "if_match": "*"}, 412, "precondition-failed"),
]


@pytest.mark.parametrize(("item", "status", "name"), ITEM_ERRORS)
def test_item_errors(client, item, status, name):
    """An item that is refused has an error, and those around it are written."""
    client.put("/v1/users/old", json={"n": 1})
    before, failed, after = bulk(client, put("before"), item, put("after"))
    assert [200, status, 200] == statuses([before, failed, after])
    assert {"type", "title", "detail"} == failed["error"].keys()
    assert failed["error"]["type"].startswith("urn:problem-type:writebehind:" + name)
    assert (item.get("id") if isinstance(item, dict) else None) == failed["id"]
    assert {"_id": "old", "n": 1} == document(client, "old")
    assert 404 == client.get("/v1/users/x").status_code


def test_errors_in_order(client):
    """Results stand in the order of their items, whatever becomes of them."""
    client.put("/v1/users/old", json={"n": 1})
    items = [item for item, _, _ in ITEM_ERRORS if isinstance(item, dict)]
    mixed = [one for at, item in enumerate(items) for one in (put(f"n{at}"), item)]
    expected = [one for at, item in enumerate(items) for one in (f"n{at}", item.get("id"))]
    halves = mixed[: len(items)], mixed[len(items) :]
    assert expected == [one["id"] for half in halves for one in bulk(client, *half)]


def test_duplicates_in_order(client):
    """Several operations on one document are carried out in their order."""
    results = bulk(
        client,
        put("ada", n=1),
        {"op": "patch", "id": "ada", "doc": {"m": 2}},
        {"op": "delete", "id": "ada"},
        {"op": "patch", "id": "ada", "doc": {"x": 1}},
        put("ada", n=3),
        {"op": "patch", "id": "ada", "doc": [{"op": "test", "path": "/n", "value": 3}, _add("/k", 4)]},
        put("bob", n=1),
        put("bob", n=2),
    )
    assert [200, 200, 204, 404, 201, 200, 200, 200] == statuses(results)
    assert [{"_id": "ada", "n": 3, "k": 4}, {"_id": "bob", "n": 2}] == [
        document(client, "ada"),
        document(client, "bob"),
    ]
    versions = [one["version"] for one in results if one["id"] == "ada" and "version" in one]
    assert sorted(set(versions)) == versions


def _add(path: str, value: object) -> dict:
    return {"op": "add", "path": path, "value": value}


@pytest.mark.parametrize("form", ["{}", '"{}"', ["x", "{}"], "*"])
@pytest.mark.parametrize("op", ["put", "patch", "delete"])
def test_if_match(client, form, op):
    """An item with the document's ETag, quoted or not or among others, is carried out."""
    etag = client.put("/v1/users/ada", json={}).headers["ETag"].strip('"')
    given = [one.format(etag) for one in form] if isinstance(form, list) else form.format(etag)
    item = {"op": op, "id": "ada", "doc": {"n": 1}, "if_match": given}
    assert [204 if op == "delete" else 200] == statuses(bulk(client, item))
    assert (404 if op == "delete" else 200) == client.get("/v1/users/ada").status_code


@pytest.mark.parametrize("op", ["put", "patch", "delete"])
def test_if_match_of_another_state(client, op):
    """An item whose ETag is not the document's is refused; that of an item before it is not yet known."""
    etag = client.put("/v1/users/ada", json={}).headers["ETag"]
    stale = {"op": op, "id": "ada", "doc": {"n": 2}, "if_match": etag}
    assert [200, 412] == statuses(bulk(client, put("ada", n=1), stale))
    assert {"_id": "ada", "n": 1} == document(client)


def test_created(client):
    """A put is 201 when it is known that there was no document."""
    client.delete("/v1/users/ada")
    assert [201, 200] == statuses(bulk(client, put("ada"), put("ada")))


@pytest.mark.parametrize(
    ("collection", "given", "name"),
    [
        ("orders", OID, OID),
        ("orders", {"$oid": OID}, OID),
        ("events", OID, OID),
        ("events", "ada", "ada"),
        ("numbers", "5", "5"),
        ("numbers", 5, "5"),
    ],
)
def test_id_types(client, collection, given, name):
    """Ids are texts that the collection's type reads, or native."""
    assert [name] == [one["id"] for one in bulk(client, put(given, n=1), collection=collection)]
    assert 1 == document(client, name, collection)["n"]


def test_persisted(client, sink):
    """With durability `persisted`, each result says that MongoDB has it, a document written twice too."""
    results = bulk(client, put("ada", n=1), put("bob"), put("ada", n=2), query_string={"durability": "persisted"})
    assert ["persisted"] * 3 == [one["durability"] for one in results]
    assert {"_id": "ada", "n": 2} == codec.decode(sink.entries["users/s:ada"].body)


def test_persisted_is_refused_of_some(client, sink):
    """The results of what MongoDB refuses say so, each write to such a document, and where the letter is."""
    sink.refuses = {"eve", "a/b"}
    items = [put("ada", n=1), put("eve", n=1), put("eve", n=2), put("a/b")]

    results = bulk(client, *items, query_string={"durability": "persisted"}, collection="free")

    assert [200, 422, 422, 422] == [one["status"] for one in results]
    assert "persisted" == results[0]["durability"]
    errors = [one["error"] for one in results[1:]]
    assert {"urn:problem-type:writebehind:dead-letter"} == {one["type"] for one in errors}
    letters = [client.get(one["letter"]).json for one in errors]
    assert [errors[1]["version"]] * 2 == [one["version"] for one in letters[:2]]
    assert "a/b" in {one["id"] for one in letters[2]["dead_letters"]}


def test_persisted_without_mongodb(client, sink):
    """When MongoDB does not take the writes, each result says what was reached."""
    sink.down = True
    results = bulk(client, put("ada", n=1), put("bob"), query_string={"durability": "persisted"})
    assert [("buffered", 200)] * 2 == [(one["durability"], one["status"]) for one in results]
    assert 1 == document(client)["n"]


def test_mongodb_is_needed_by_one_item(client, sink):
    """An item that needs MongoDB, when that is down, fails by itself."""
    sink.down = True
    results = bulk(client, put("ada"), {"op": "patch", "id": "bob", "doc": {}}, put("eve"))
    assert [200, 503, 200] == statuses(results)


@pytest.mark.parametrize("query", ["durability=sure", "x=1", "durability="])
def test_wrong_parameters(client, installation, query):
    """An unknown level or parameter is refused as a whole."""
    problem(client.post("/v1/users:bulk?" + query, json=[put("ada")]), 400, "bad-request")
    assert [] == installation.stored()


@pytest.mark.parametrize("end", [None, "\n"])
def test_too_many_items(client, installation, end):
    """More items than allowed are refused as a whole; as many as allowed are taken."""
    items = [put(f"n{number}") for number in range(101)]
    body = end.join(map(json.dumps, items)) if end else json.dumps(items)
    problem(client.post("/v1/users:bulk", data=body), 413, "too-large")
    assert [] == installation.stored()
    assert [200] * 100 == statuses(bulk(client, *items[:100]))


@pytest.mark.parametrize("path", ["/v1/nope:bulk", "/v1/system.users:bulk"])
def test_unknown_collection(client, path):
    """An unknown collection is refused as a whole."""
    problem(client.post(path, json=[put("ada")]), 404, "unknown-collection")


def test_schema(client):
    """Each item is checked by the collection's schema."""
    results = bulk(client, put("ada", name="Ada"), put("bob", name=5), collection="named")
    assert [200, 422] == statuses(results)


def test_changes_of_large_documents(client, monkeypatch):
    """Patches change so many bytes of documents and no more; the rest is refused, and can be sent again."""
    monkeypatch.setattr("writebehind.writing.bulk.MOST_CHANGED_BYTES", 1_000_000)
    client.put("/v1/users/ada", json={"text": "x" * 100_000})
    patches = [{"op": "patch", "id": "ada", "doc": {"n": n}} for n in range(10)]
    results = bulk(client, put("bob"), *patches, put("eve"))
    assert [200] * 6 + [413] * 6 == statuses(results)
    assert results[-1]["error"]["type"].endswith("too-much-work")
    assert 4 == document(client)["n"]
    assert 404 == client.get("/v1/users/eve").status_code
    assert [200] * 5 == statuses(bulk(client, *patches[5:]))


@pytest.mark.parametrize("if_match", ["*", ["x", "y"]])
def test_conditions_on_large_documents(client, monkeypatch, if_match):
    """What a condition reads counts as well."""
    monkeypatch.setattr("writebehind.writing.bulk.MOST_CHANGED_BYTES", 250_000)
    client.put("/v1/users/ada", json={"text": "x" * 100_000})
    item = {"op": "put", "id": "ada", "doc": {"text": "x" * 100_000}, "if_match": if_match}
    assert 413 == statuses(bulk(client, *[item] * 5))[-1]


def test_time_of_a_bulk(client, monkeypatch):
    """After some time no further operation begins, so that one request does not hold a thread for long."""
    monkeypatch.setattr("writebehind.writing.bulk.DEADLINE_S", -1.0)
    assert [413, 413] == statuses(bulk(client, put("ada"), put("bob")))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/users:bulk", [{"op": "delete", "id": f"a{number}"} for number in range(7)]),
        ("/v1/users:get", {"ids": [f"a{number}" for number in range(7)]}),
    ],
)
def test_each_item_counts_against_the_rate_of_the_client(client, path, body):
    """The server counts the request as one, and is told of the others."""
    told = []
    answer = client.post(path, json=body, environ_overrides={SPEND: told.append})

    assert (answer.status_code < 300, [6]) == (True, told)
