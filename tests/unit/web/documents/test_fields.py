"""Single documents of which a reader wants some fields."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem

WHOLE = {
    "name": "Ada",
    "address": {"city": "London", "zip": "W1"},
    "seen": [{"at": 1, "by": 2}, 3],
    "n": {"$numberLong": "1"},
}
PATH = "/v1/users/ada"


@pytest.fixture
def ada(client):
    return client.put(PATH, json=WHOLE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name", {"name": "Ada"}),
        ("address.city,name", {"name": "Ada", "address": {"city": "London"}}),
        ("address.city,address.zip", {"address": WHOLE["address"]}),
        ("seen.at", {"seen": [{"at": 1}]}),
        ("nothing,name.x", {}),
        ("_id", {}),
        ("%6Eame", {"name": "Ada"}),
    ],
)
def test_fields(client, ada, fields, expected):
    """The answer has these fields and the id, as a projection of MongoDB's has them."""
    answer = client.get(f"{PATH}?fields={fields}")
    assert {"_id": "ada"} | expected == answer.json
    assert 200 == client.head(f"{PATH}?fields={fields}").status_code


def test_the_etag_is_of_the_whole_document(client, ada):
    """A reader of some fields can write on a condition, and is told whether the document has changed."""
    answer = client.get(PATH + "?fields=name")
    assert ada.headers["ETag"] == answer.headers["ETag"]
    etag = {"If-None-Match": answer.headers["ETag"]}
    assert 304 == client.get(PATH + "?fields=name", headers=etag).status_code
    client.post(PATH + ":increment", json={"visits": 1})
    assert 200 == client.get(PATH + "?fields=name", headers=etag).status_code


def test_types_are_kept(client, ada):
    """The canonical form tells the types of what is wanted."""
    answer = client.get(PATH + "?fields=n", headers={"Accept": "application/json;profile=canonical"})
    assert {"$numberLong": "1"} == answer.json["n"]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "fields=",
            "fields=a,",
            "fields=a..b",
            "fields=$a",
            "fields=a,a",
            "fields=a,a.b",
            "fields=a%00",
            "field=a",
        ),
        *("fields=a&fields=b", "fields=a&x=1", "fields=" + "a." * 100 + "a", "fields=a" + ",a" * 100),
        "fields=" + ",".join(f"a{n}" for n in range(101)),
    ],
)
def test_wrong_fields(client, ada, query):
    """What is no list of paths is refused: a misspelt one must not silently mean less."""
    problem(client.get(f"{PATH}?{query}"), 400, "bad-request")
