"""Documents by a unique field, over HTTP."""

from __future__ import annotations

from uuid import UUID

import pytest
from bson import ObjectId

from tests.unit.web.conftest import problem


def test_a_document_by_a_unique_field(client):
    """The answer is that of the document itself, and says where it is."""
    etag = client.put("/v1/people/a~b", json={"username": "ada l."}).headers["ETag"]
    response = client.get("/v1/people?username=ada%20l.")
    assert (200, {"_id": "a~b", "username": "ada l."}) == (response.status_code, response.json)
    assert ("/v1/people/a~b", etag) == (response.headers["Content-Location"], response.headers["ETag"])
    assert "writebehind; hit" == response.headers["Cache-Status"]
    assert 304 == client.get("/v1/people?username=ada%20l.", headers={"If-None-Match": etag}).status_code


def test_a_value_that_nobody_has(client):
    """It is a 404; so is a value that somebody had."""
    answers = [client.get("/v1/people?username=ada") for _ in range(2)]
    for answer, status in zip(answers, ("fwd=miss", "; hit"), strict=True):
        problem(answer, 404, "not-found")
        assert status in answer.headers["Cache-Status"]
    client.put("/v1/people/x", json={"username": "ada"})
    assert 200 == client.get("/v1/people?username=ada").status_code
    client.put("/v1/people/x", json={"username": "countess"})
    problem(client.get("/v1/people?username=ada"), 404, "not-found")


def test_a_document_that_only_mongodb_has(client, sink):
    """It is found there, and in Redis from then on."""
    sink.has("people", "x", {"number": 5})
    answers = [client.get("/v1/people?number=5") for _ in range(2)]
    assert [{"_id": "x", "number": 5}] * 2 == [one.json for one in answers]
    assert ["writebehind; fwd=miss; stored", True] == [
        answers[0].headers["Cache-Status"],
        answers[1].headers["Cache-Status"].startswith("writebehind; hit; ttl="),
    ]


@pytest.mark.parametrize("other", [42, ObjectId("0123456789abcdef01234567"), UUID(int=7), "a?b"], ids=repr)
def test_a_document_that_no_address_names(client, sink, other):
    """A document of others under an id of another type is found, without the address of another document."""
    sink.has("people", other, {"number": 5})
    client.put(f"/v1/people/{str(other).replace('?', 'q')}", json={"number": 6})

    answer = client.get("/v1/people?number=5")

    assert (200, 5) == (answer.status_code, answer.json["number"])
    assert "Content-Location" not in answer.headers


@pytest.mark.parametrize("number", ["42", "42.0", "4.2e1", '{"$numberDecimal": "42.0"}', '{"$numberLong": "42"}'])
def test_a_number_by_one_that_is_equal(client, number):
    """A number is found by its value, whatever type it has; and so is a document by its id."""
    client.put("/v1/people/x", data=f'{{"number": {number}}}', content_type="application/json")
    assert "x" == client.get("/v1/people?number=42").json["_id"]
    created = client.post("/v1/numbers", data=f'{{"_id": {number}, "n": 1}}', content_type="application/json")
    assert (201, "/v1/numbers/42") == (created.status_code, created.headers["Location"])
    assert {"_id": 42, "n": 1} == client.get("/v1/numbers/42").json


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?limit=5&username=ada", "?username=… or ?number=…; or no field, for a list"),
        ("?name=ada", "fields: username, number"),
        ("?username=ada&number=5", "name one field"),
        ("?username=ada&username=bob", "name one field"),
        ("?username=", "takes a value of type string"),
        ("?username=%ff", ""),
        ("?number=five", "takes a value of type int"),
        ("?number=5.0", "takes a value of type int"),
        ("?username[$ne]=x", "fields: username, number"),
        ("?username=" + "x" * 600, "up to 512 bytes"),
    ],
)
def test_what_cannot_be_looked_up(client, query, detail):
    """The answer says what can be."""
    response = client.get("/v1/people" + query)
    if detail:
        assert detail in problem(response, 400)["detail"]
    else:
        assert response.status_code in {400, 404}


def test_a_collection_without_lookups(client):
    """The answer says so."""
    assert "list none under lookup" in problem(client.get("/v1/users?name=x&n=1"), 400)["detail"]
    assert "list it under lookup" in problem(client.get("/v1/users?name=x"), 400)["detail"]


def test_a_value_that_another_document_has_too(client):
    """The answer to a write names the other one, by every way to write, as long as it has the value."""
    assert "shared" not in client.put("/v1/people/x", json={"username": "ada", "number": 1}).json
    merge = {"Content-Type": "application/merge-patch+json"}
    client.put("/v1/people/y", json={"username": "bob"})

    answers = [
        client.put("/v1/people/y", json={"username": "ada"}).json,
        client.patch("/v1/people/y", json={"number": 1}, headers=merge).json,
        client.post("/v1/people/y:increment", json={"visits": 1}).json,
        client.post("/v1/people:bulk", json=[{"op": "put", "id": "y", "doc": {"number": 1}}]).json["results"][0],
    ]
    both = {"username": "x", "number": "x"}
    assert [{"username": "x"}, both, both, {"number": "x"}] == [one.get("shared") for one in answers]

    client.put("/v1/people/x", json={})
    assert "shared" not in client.put("/v1/people/y", json={"username": "ada", "number": 1}).json
