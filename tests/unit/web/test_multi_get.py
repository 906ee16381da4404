"""The route that reads many documents at once."""

from __future__ import annotations

import pytest

from tests.unit.web.batches import OID, peak_of
from tests.unit.web.conftest import problem
from writebehind.documents.ids import MAX_ID_BYTES


def get(client, *ids: object, collection: str = "users") -> dict:
    response = client.post(f"/v1/{collection}:get", json={"ids": ids})
    assert (200, "application/json") == (response.status_code, response.content_type)
    return response.json


def test_get(client, sink):
    """`:get` answers what is there by its id, from Redis and from MongoDB, and what is missing in order."""
    client.put("/v1/users/ada", json={"n": 1})
    client.delete("/v1/users/gone")
    sink.has("users", "bob", {"n": 2})
    expected = {
        "documents": {"ada": {"_id": "ada", "n": 1}, "bob": {"_id": "bob", "n": 2}},
        "missing": ["zoe", "gone", "eve"],
    }
    for _ in range(2):
        assert expected == get(client, "zoe", "ada", "gone", "bob", "eve")


def test_get_nothing(client):
    """No ids give no documents."""
    assert {"documents": {}, "missing": []} == get(client)


def test_get_twice_the_same(client):
    """An id that is given twice is answered once."""
    client.put("/v1/users/ada", json={})
    assert {"documents": {"ada": {"_id": "ada"}}, "missing": ["bob"]} == get(client, "ada", "bob", "ada", "bob")


def test_get_by_type(client):
    """Ids are read by the collection's type, and answered as they were given."""
    client.put("/v1/orders/" + OID, json={"n": 1})
    found = get(client, OID.upper(), "0" * 24, collection="orders")
    assert {"documents": {OID.upper(): {"_id": {"$oid": OID}, "n": 1}}, "missing": ["0" * 24]} == found


def test_get_quotes_ids(client):
    """Ids with quotes and control characters are quoted in the answer."""
    name = 'a"b\\\n\0é'
    client.post("/v1/free", json={"_id": name})
    assert {"documents": {name: {"_id": name}}, "missing": ['"']} == get(client, name, '"', collection="free")


def test_get_too_many(client):
    """More ids than allowed are refused."""
    problem(client.post("/v1/users:get", json={"ids": [f"n{number}" for number in range(101)]}), 413, "too-large")
    assert 100 == len(get(client, *[f"n{number}" for number in range(100)])["missing"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *(('{"ids":["ada","' + bad + '"]}', 400) for bad in ("../x", "$where", "", "é", "x" * 2000)),
        *((body, 400) for body in ("{}", "[]", "5", "null", '{"ids":null}', '{"ids":"ada"}', '{"ids":{"a":1}}')),
        *((body, 400) for body in ('{"ids":[5]}', '{"ids":[null]}', '{"ids":[["a"]]}', '{"id":["ada"]}', "{", "")),
        ('{"ids":[{"$oid":"5f43a1b2c3d4e5f601234567"}]}', 400),
        ('{"ids":[{"$x":1}]}', 422),
    ],
)
def test_get_what_is_no_list_of_ids(client, body, status):
    """What is no list of ids of the collection's type is refused as a whole."""
    problem(client.post("/v1/users:get", data=body), status)


def test_get_much(client):
    """An answer ends at so many bytes, and says which ids are left; asking for those leads to all."""
    names = [f"n{number}" for number in range(30)]
    for name in names[1:]:
        client.put(f"/v1/users/{name}", json={"text": "x" * 20_000})
    found, missing, rest, answers = {}, [], names, 0
    while rest:
        response = client.post("/v1/users:get", json={"ids": rest})
        assert len(response.data) < 130_000
        found |= response.json["documents"]
        missing += response.json["missing"]
        rest = response.json.get("rest", [])
        answers += 1
    assert (names[1:], names[:1], 6) == (list(found), missing, answers)


@pytest.mark.parametrize(
    "data",
    [
        '{"ids":[' + "{}," * 200_000 + "{}]}",
        '{"ids":[' + "[]," * 200_000 + "[]]}",
        '{"ids":[' + '"",' * 200_000 + '""]}',
        '{"ids":[' + '"aa",' * 200_000 + '"aa"]}',
    ],
)
def test_get_of_far_too_many(client, data):
    """A list with far too many values is refused before it is made."""
    peak = peak_of(lambda: problem(client.post("/v1/users:get", data=data), 413 if '"' in data[8:10] else 422))
    assert peak < 5 * len(data)


@pytest.mark.parametrize("character", ["x", "\x01", '"', "\xe9", "\u6771", "\U0001f600"])
def test_every_id_is_told_with_its_error(client, character):
    """As it was sent, however it is escaped: the longest that ids may be, and one that is too long."""
    longest = character * (MAX_ID_BYTES // len(character.encode()))
    ids = [longest, longest + character * 3]

    results = client.post("/v1/users:bulk", json=[{"op": "patch", "id": one, "doc": {}} for one in ids]).json[
        "results"
    ]

    assert ids == [one["id"] for one in results]
    assert {"error"} <= set(results[0]) & set(results[1])
