"""How far a write has come when it is answered: durability, write modes, and MongoDB that is away."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import MERGE, WRONG, cache_status
from writebehind.documents import codec
from writebehind.documents.durability import Confirmed, Durability
from writebehind.redis.store import Store

ALL_WRITES = [
    ("PUT", "/v1/users/ada", {"json": {"n": 1}}),
    ("POST", "/v1/users", {"json": {"n": 1}}),
    ("PATCH", "/v1/users/old", {"data": '{"n":1}', "content_type": MERGE}),
    ("DELETE", "/v1/users/old", {}),
    ("POST", "/v1/users/ada:increment", {"json": {"n": 1}}),
]


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


@pytest.mark.parametrize(("method", "path", "body"), ALL_WRITES)
@pytest.mark.parametrize(("reached", "replicas"), [("replicated", 2), ("buffered", 1)])
def test_what_was_confirmed(client, old, monkeypatch, method, path, body, reached, replicas):
    """An answer says how many replicas have the write, whether they are enough or not."""
    client.get("/v1/users/ada")
    commit_many = Store.commit_many
    of_all = {"durability": Durability(reached), "confirmed": Confirmed(disk=False, replicas=replicas)}
    monkeypatch.setattr(
        Store, "commit_many", lambda *given: [one._replace(**of_all) for one in commit_many(*given)]
    )

    response = client.open(path, method=method, query_string={"durability": "replicated"}, **body)
    item = {"op": "put", "id": "bob", "doc": {}}
    [many] = client.post("/v1/users:bulk", json=[item], query_string={"durability": "replicated"}).json["results"]

    assert (response.status_code == 202) == (reached == "buffered")
    for one in [many] if response.status_code == 204 else [response.json, many]:
        assert (reached, {"disk": False, "replicas": replicas}) == (one["durability"], one["confirmed"])
