"""Pages of the documents of a collection, over HTTP."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.unit.web.conftest import problem
from writebehind.flask.problems import SPEND


def listed(client, path: str, **query: str) -> list[dict]:
    """The documents of all pages."""
    found: list[dict] = []
    after: str | None = None
    while True:
        asked = "&".join(
            f"{name}={quote(value)}" for name, value in (query | ({"after": after} if after else {})).items()
        )
        page = client.get(f"{path}?{asked}").json
        found += page["documents"]
        after = page["after"]
        if after is None:
            return found


def test_all_documents(client, sink):
    """They come page by page in the order of their ids, with what is pending and without what is deleted."""
    for n in range(5):
        sink.has("users", f"u{n}", {"n": n})
    client.put("/v1/users/u1x", json={"n": 1.5})
    client.put("/v1/users/u3", json={"n": 33})
    client.delete("/v1/users/u0")

    first = client.get("/v1/users?limit=2")
    second = client.get(f"/v1/users?limit=2&after={first.json['after']}")
    last = client.get(f"/v1/users?after={second.json['after']}")

    assert [{"_id": "u1", "n": 1}, {"_id": "u1x", "n": 1.5}] == first.json["documents"]
    assert [{"_id": "u2", "n": 2}, {"_id": "u3", "n": 33}] == second.json["documents"]
    assert {"documents": [{"_id": "u4", "n": 4}], "after": None} == last.json
    assert {"documents": [], "after": None} == client.get("/v1/events").json


def test_an_answer(client, sink):
    """It says where it is from, has an ETag and a form, and HEAD has its headers."""
    sink.has("users", "ada", {"n": 1})
    answer = client.get("/v1/users")
    assert ("writebehind; fwd=miss", "no-cache", "Accept") == tuple(
        answer.headers[name] for name in ("Cache-Status", "Cache-Control", "Vary")
    )
    tag = answer.headers["ETag"]
    assert 304 == client.get("/v1/users", headers={"If-None-Match": tag}).status_code
    assert 412 == client.get("/v1/users", headers={"If-Match": '"other"'}).status_code
    head = client.head("/v1/users?limit=5")
    assert (200, tag, b"") == (head.status_code, head.headers["ETag"], head.data)
    canonical = client.get("/v1/users", headers={"Accept": "application/json;profile=canonical"})
    assert [{"_id": "ada", "n": {"$numberInt": "1"}}] == canonical.json["documents"]
    client.put("/v1/users/ada", json={"n": 2})
    assert tag != client.get("/v1/users").headers["ETag"]


def test_fields(client, sink):
    """Each document has the wanted fields and its id, on every page."""
    for n in range(3):
        sink.has("users", f"u{n}", {"n": n, "a": {"b": 1, "c": 2}})
    client.put("/v1/users/u1", json={"a": {"b": 7}, "x": 1})
    wanted = [{"_id": "u0", "a": {"b": 1}}, {"_id": "u1", "a": {"b": 7}}, {"_id": "u2", "a": {"b": 1}}]
    assert wanted == listed(client, "/v1/users", fields="a.b", limit="1")


def test_ids_with_special_characters(client):
    """A cursor is one word of a URL, whatever the id is."""
    names = ["\t", " ", "%2F", "&after=", "+", "a/b", "ä", "\U0001f600"]
    items = [{"op": "put", "id": one, "doc": {}} for one in reversed(names)]
    client.post("/v1/free:bulk", json=items)
    assert names == [one["_id"] for one in listed(client, "/v1/free", limit="1")]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "limit must be from 1 to 1000"),
        ("limit=1001", "limit must be from 1 to 1000"),
        ("limit=x", "limit must be from 1 to 1000"),
        ("limit=1&limit=2", "limit is given more than once"),
        ("after=", "no cursor of users"),
        ("after=nonsense", "no cursor of users"),
        ("after=%00", "no cursor of users"),
        ("after=" + "A" * 2_000, "no cursor of users"),
        ("fields=", "is no path"),
        ("fields=a&name=x", "name one field and its value"),
        ("limit=5&name=x", "name one field and its value"),
    ],
)
def test_what_is_no_page(client, query, detail):
    """The answer says what can be asked for."""
    assert detail in problem(client.get(f"/v1/users?{query}"), 400)["detail"]


def test_a_cursor_of_another_collection(client, sink):
    """It is refused, so that nobody mistakes the rest of one for that of another."""
    for n in range(3):
        sink.has("users", f"u{n}", {})
        sink.has("free", f"u{n}", {})
    after = client.get("/v1/users?limit=1").json["after"]
    assert "no cursor of free" in problem(client.get(f"/v1/free?after={after}"), 400)["detail"]
    assert 200 == client.get(f"/v1/users?after={after}").status_code


def test_a_page_that_is_long_enough(client, sink):
    """It ends with the document that brings it to its most; canonical ones are longer."""
    for n in range(6):
        sink.has("users", f"u{n}", {"numbers": list(range(4_000))})
    pages = [len(client.get("/v1/users").json["documents"])]
    headers = {"Accept": "application/json;profile=canonical"}
    answer = client.get("/v1/users", headers=headers).json
    pages.append(len(answer["documents"]))
    assert [3, 2] == pages
    rest = client.get(f"/v1/users?after={answer['after']}&fields=x").json
    assert "u2" == rest["documents"][0]["_id"]


def test_what_a_page_counts_for(client, sink):
    """Each document of it is an item, of which the server has counted one by now."""
    spent: list[int] = []
    for n in range(5):
        sink.has("users", f"u{n}", {})
    for query in ("limit=3", "limit=1", "after=" + client.get("/v1/users?limit=4").json["after"]):
        client.get(f"/v1/users?{query}", environ_overrides={SPEND: spent.append})
    client.get("/v1/events", environ_overrides={SPEND: spent.append})
    assert [2] == spent


def test_a_document_that_is_no_bson(client, sink):
    """It has a problem in its place, and the others are answered."""
    sink.has("users", "ada", {"n": 1})
    sink.has("users", "bad", {"n": "xx"})
    one = sink.entries["users/s:bad"]
    sink.entries["users/s:bad"] = type(one)(one.version, one.kind, one.etag, one.body.replace(b"xx", b"\xff\xff"))
    answer = client.get("/v1/users").json
    assert ["ada"] == [one["_id"] for one in answer["documents"]]
    assert answer["unreadable"]["bad"]["type"].endswith("unreadable-document")
    assert answer["after"] is None


def test_mongodb_is_away(client, sink):
    """Nobody knows what there is."""
    client.put("/v1/users/ada", json={})
    sink.down = True
    answer = client.get("/v1/users")
    problem(answer, 503, "mongodb-unavailable")
    assert "Retry-After" in answer.headers


def test_too_much_is_pending(client, monkeypatch):
    """A page that would miss some of it is refused."""
    monkeypatch.setattr("writebehind.querying.listing.MOST_UNSETTLED", 0)
    monkeypatch.setattr("writebehind.querying.listing.LEAST_UNSETTLED", 0)
    client.put("/v1/users/ada", json={})
    answer = client.get("/v1/users")
    problem(answer, 503, "too-much-pending")
    assert "5" == answer.headers["Retry-After"]


def test_a_collection_that_is_not_there(client):
    """It has no pages."""
    problem(client.get("/v1/nothing"), 404, "unknown-collection")
