"""Cached queries over HTTP."""

from __future__ import annotations

from unittest.mock import Mock

import orjson
import pytest

from tests.unit.web.conftest import problem
from writebehind.errors import RedisUnavailableError
from writebehind.querying import cached_queries

LONDON = "/v1/asked/queries/in_city?city=London"
TYPED = {
    "i": "5",
    "n": "0.5",
    "f": "true",
    "t": "2026-01-01T00:00:00Z",
    "o": "64b7f0c2a1d3e4f5a6b7c8d9",
    "u": "3f2b8c1e-9d4a-4b6f-8e7a-1c2d3e4f5a6b",
}


def names(answer) -> list[str]:
    assert 200 == answer.status_code, answer.text
    return [one["_id"] for one in answer.json["documents"]]


def test_a_query(client, sink):
    """The documents, in order; from MongoDB first, from Redis then, with what was written meanwhile."""
    for rank in range(3):
        sink.has("asked", f"u{rank}", {"city": "London", "rank": rank})
    answers = [client.get(LONDON) for _ in range(2)]
    assert [["u2", "u1"]] * 2 == [names(one) for one in answers]
    assert "writebehind; fwd=miss; stored" == answers[0].headers["Cache-Status"]
    assert answers[1].headers["Cache-Status"].startswith("writebehind; hit; ttl=")
    assert "no-cache" == answers[1].headers["Cache-Control"]
    client.put("/v1/asked/new", json={"city": "London", "rank": 9})
    client.delete("/v1/asked/u2")
    assert ["new", "u1"] == names(client.get(LONDON))


def test_an_answer_has_an_etag(client):
    """It changes when the answer does, and spares the answer while it does not."""
    client.put("/v1/asked/a", json={"city": "London"})
    etag = client.get(LONDON).headers["ETag"]
    unchanged = client.get(LONDON, headers={"If-None-Match": etag})
    assert (304, b"", etag) == (unchanged.status_code, unchanged.data, unchanged.headers["ETag"])
    client.put("/v1/asked/a", json={"city": "London", "n": 1})
    assert 200 == client.get(LONDON, headers={"If-None-Match": etag}).status_code
    assert b"" == client.head(LONDON).data


def test_a_projection(client):
    """Only the listed fields are there, as Extended JSON."""
    client.put("/v1/asked/a", json={"name": {"$numberDecimal": "1.5"}, "age": 36})
    assert {"documents": [{"_id": "a", "name": {"$numberDecimal": "1.5"}}]} == client.get(
        "/v1/asked/queries/all"
    ).json


@pytest.mark.parametrize(
    ("document", "is_found"),
    [
        ({"a": 5, "b": 0.5}, True),
        ({"a": 5, "b": 0.6}, False),
        ({"a": "5", "b": 0.5}, False),
        ({"c": True, "d": {"$date": "2026-01-02T00:00:00Z"}}, True),
        ({"c": True, "d": {"$date": "2026-01-01T00:00:00Z"}}, False),
        ({"e": {"$oid": TYPED["o"]}}, True),
        ({"e": TYPED["o"]}, False),
        ({"e": {"$uuid": TYPED["u"]}}, True),
    ],
)
def test_typed_parameters(client, document, is_found):
    """A parameter is compared as a value of its type."""
    client.put("/v1/asked/x", data=orjson.dumps(document), content_type="application/json")
    assert (["x"] if is_found else []) == names(client.get("/v1/asked/queries/typed", query_string=TYPED))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("i", one) for one in ("", "x", "1.5", "01", "9" * 20)],
        *[("n", one) for one in ("", "x", "nan", "inf", "1e999")],
        *[("f", one) for one in ("", "yes", "True", "1")],
        *[("t", one) for one in ("", "x", "2026-01-01", "2026-01-01T00:00:00")],
        *[("o", one) for one in ("", "x", "g" * 24)],
        *[("u", one) for one in ("", "x")],
    ],
)
def test_values_of_another_type(client, name, value):
    """They are refused, with the parameter's name and type."""
    found = problem(client.get("/v1/asked/queries/typed", query_string=TYPED | {name: value}), 400, "bad-request")
    assert found["detail"].startswith(f"{name}: this is no value of type ")


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/v1/asked/queries/old", 404, "queries: in_city, typed, all"),
        ("/v1/users/queries/in_city?city=x", 404, "queries: none"),
        ("/v1/nowhere/queries/in_city", 404, "not configured"),
        ("/v1/asked/queries/in_city", 400, "city (string)"),
        ("/v1/asked/queries/in_city?town=x", 400, "city (string)"),
        ("/v1/asked/queries/in_city?city=x&limit=5", 400, "city (string)"),
        ("/v1/asked/queries/in_city?city=x&city=y", 400, "more than once"),
        ("/v1/asked/queries/in_city?city[$ne]=x", 400, "city (string)"),
        ("/v1/asked/queries/in_city?city=" + "x" * 600, 400, "up to 512 bytes"),
        ("/v1/asked/queries/", 404, ""),
    ],
)
def test_what_cannot_be_asked(client, path, status, detail):
    """The answer says what can be."""
    assert detail in problem(client.get(path), status)["detail"]


def test_what_looks_like_an_operator_is_a_text(client):
    """An argument is one value, whatever it looks like."""
    client.put("/v1/asked/a", json={"city": "London"})
    for text in ('{"$ne": null}', "$city", "{}"):
        assert [] == names(client.get("/v1/asked/queries/in_city", query_string={"city": text}))


def test_mongodb_away(client, sink):
    """A query that is not cached is 503 while MongoDB is away, and a cached one is answered."""
    sink.down = True
    problem(client.get(LONDON), 503, "mongodb-unavailable")
    sink.down = False
    sink.has("asked", "a", {"city": "London"})
    assert ["a"] == names(client.get(LONDON))
    sink.down = True
    assert ["a"] == names(client.get(LONDON))


def test_they_are_described(client):
    """The description has each query with its parameters."""
    described = client.get("/openapi.json").json["paths"]["/v1/asked/queries/typed"]["get"]
    own = {one["name"]: one["schema"] for one in described["parameters"] if "name" in one}
    assert ["i", "n", "f", "t", "o", "u"] == list(own)
    assert "date-time" == own["t"]["format"]


@pytest.mark.parametrize("path", ["/v1/asked/queries/all", "/v1/asked/queries/many"])
@pytest.mark.parametrize("where", ["pending", "stored", "bypassed"])
def test_much(client, sink, installation, monkeypatch, path, where):
    """An answer ends at so many bytes, and has the ids of the documents after that, which `:get` reads."""
    names = [f"u{n:02}" for n in range(30)]
    for name in names:
        document = {"name": name, "text": "x" * 10_000}
        if where == "pending":
            client.put(f"/v1/asked/{name}", json=document)
        else:
            sink.has("asked", name, document)
    if where == "bypassed":
        monkeypatch.setattr(installation.wire, "exchange", Mock(side_effect=RedisUnavailableError))
    # Neither all of them at once, nor those that are looked at and not answered.
    monkeypatch.setattr("writebehind.querying.answers.HELD_BYTES", 25_000)
    monkeypatch.setattr("writebehind.reading.portions.PORTION_BYTES", 25_000)
    answer = client.get(path)
    assert len(answer.data) < 120_000
    shown, rest = names_of(answer), answer.json.get("rest", [])
    assert (names, path.endswith("many")) == (sorted(shown + rest), bool(rest))
    if where != "pending":  # they have no order of their own
        assert names == shown + rest
    if rest:
        assert rest[0] in client.post("/v1/asked:get", json={"ids": rest}).json["documents"]


def names_of(answer) -> list[str]:
    return [one["name"] for one in answer.json["documents"]]


def test_a_document_that_changes_while_an_answer_is_made(client, installation, monkeypatch):
    """What is read once more, as too much was held, is answered only if it still satisfies the query."""
    for rank in range(3):
        client.put(f"/v1/asked/u{rank}", json={"city": "London", "rank": rank})
    monkeypatch.setattr("writebehind.querying.answers.HELD_BYTES", 0)
    order = cached_queries.in_order

    def changed(*arguments):
        client.put("/v1/asked/u2", json={"city": "Paris", "rank": 2})
        client.delete("/v1/asked/u1")
        return order(*arguments)

    monkeypatch.setattr(cached_queries, "in_order", changed)
    assert [] == names(client.get(LONDON))
    monkeypatch.setattr(cached_queries, "in_order", order)
    assert ["u0"] == names(client.get(LONDON))


def test_the_library_has_all(installation, client):
    """A caller in the process has every document: only an answer over HTTP has an end."""
    for n in range(30):
        client.put(f"/v1/asked/u{n:02}", json={"text": "x" * 10_000})
    assert 30 == len(installation.pipeline.collection("asked").query("many"))
