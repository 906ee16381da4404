"""Documents as relaxed or canonical Extended JSON: what `Accept` asks for, and never less."""

from __future__ import annotations

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from tests.sizes import THRESHOLDS, sized
from tests.unit.web.conftest import problem
from writebehind.documents.codec import encode, loads, to_json
from writebehind.documents.entry import Entry

CANONICAL = {"Accept": "application/json;profile=canonical"}
VALUES = {
    "small": Int64(5),
    "int": 5,
    "double": 5.0,
    "zero": -0.0,
    "nan": float("nan"),
    "decimal": Decimal128("1.50"),
    "date": DatetimeMS(0),
    "far": DatetimeMS(-(1 << 63)),
    "id": ObjectId("5f43a1b2c3d4e5f601234567"),
    "in": {"list": [Int64(1), 1, 1.0, None, True, "x"]},
}


@pytest.fixture
def body(sink) -> bytes:
    """A document with values that relaxed JSON does not tell the types of."""
    found = encode({"_id": "ada"} | VALUES)
    for collection in ("users", "asked"):
        sink.entries[f"{collection}/s:ada"] = Entry.loaded(found, 0)
    sink.entries["people/s:ada"] = Entry.loaded(encode({"_id": "ada", "username": "ada"} | VALUES), 0)
    return found


def stored(installation, name: str = "ada") -> bytes:
    return installation.pipeline.collection("users").read(name).entry.body


def test_get_and_put_keep_every_byte(client, installation, body):
    """What was read as canonical JSON and is written again is the same document, with the same ETag."""
    found = client.get("/v1/users/ada", headers=CANONICAL)
    assert (200, "application/json; profile=canonical") == (found.status_code, found.content_type)
    condition = {"If-Match": found.headers["ETag"], "Content-Type": found.content_type}
    written = client.put("/v1/users/ada", data=found.data, headers=condition)
    assert 200 == written.status_code
    assert body == stored(installation)


@pytest.mark.parametrize("size", THRESHOLDS)
def test_documents_of_all_sizes(client, installation, size):
    """However large it is."""
    wanted = encode(sized("ada", size, n=Int64(1)))
    client.put("/v1/users/ada", data=to_json(wanted, canonical=True))
    found = client.get("/v1/users/ada", headers=CANONICAL)
    assert wanted == stored(installation) == encode(loads(found.data))


def test_every_reading_route(client, body):
    """Single reads, lookups, several at once and queries all take it."""
    wanted = loads(to_json(body, canonical=True))
    several = client.post("/v1/users:get", json={"ids": ["ada"]}, headers=CANONICAL)
    answered = client.get("/v1/asked/queries/everything", headers=CANONICAL)
    projected = client.get("/v1/asked/queries/all", headers=CANONICAL)
    looked_up = client.get("/v1/people?username=ada", headers=CANONICAL)
    for response in (several, answered, projected, looked_up):
        assert (200, "application/json; profile=canonical") == (response.status_code, response.content_type)
    assert body == encode(loads(several.data)["documents"]["ada"])
    assert body == encode(loads(answered.data)["documents"][0])
    assert b'{"$numberLong":"5"}' in looked_up.data
    assert repr(wanted) == repr(loads(client.get("/v1/users/ada", headers=CANONICAL).data))


@pytest.mark.parametrize(
    ("accept", "canonical"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html, */*;q=0.1", False),
        ("application/json;profile=relaxed", False),
        ("application/json;profile=canonical", True),
        ("Application/JSON; Profile=Canonical", True),
        ('application/json;profile="canonical"', True),
        ("text/html, application/json;profile=canonical;q=0.5, */*;q=0.1", True),
        ("application/json, application/json;profile=canonical;q=0.5", False),
        ("application/json;q=0.5, application/json;profile=canonical", True),
        ("application/json;profile=canonical;q=0, application/json", False),
        ("application/xml;profile=canonical, */*", False),
        ("application/json;profile=other, */*;q=0.1", False),
    ],
)
def test_what_accept_asks_for(client, body, accept, canonical):
    """The range of `application/json` that is liked most decides; a cache has to look at the header."""
    response = client.get("/v1/users/ada", headers={"Accept": accept})
    assert (200, "Accept") == (response.status_code, response.headers["Vary"])
    assert canonical is (b"$numberLong" in response.data.partition(b"far")[0])
    assert canonical is response.content_type.endswith("profile=canonical")


@pytest.mark.parametrize("accept", ["application/json;profile=cannonical", "application/json;profile=json"])
@pytest.mark.parametrize("path", ["/v1/users/ada", "/v1/asked/queries/all"])
def test_a_profile_that_there_is_none_of(client, body, accept, path):
    """A misspelt profile is refused: it must not mean less."""
    refused = problem(client.get(path, headers={"Accept": accept}), 406, "not-acceptable")
    assert "canonical" in refused["detail"]


def test_each_form_has_a_tag_of_its_own(client, body):
    """The two forms are two representations: no cache takes one for the other, and either tag serves a write."""
    relaxed, canonical = client.get("/v1/users/ada"), client.get("/v1/users/ada", headers=CANONICAL)
    tags = relaxed.headers["ETag"], canonical.headers["ETag"]
    assert tags[0] != tags[1]
    for tag, headers, status in ((tags[0], {}, 304), (tags[0], CANONICAL, 200), (tags[1], CANONICAL, 304)):
        again = client.get("/v1/users/ada", headers=headers | {"If-None-Match": tag})
        assert status == again.status_code
    assert 412 == client.get("/v1/users/ada", headers={"If-Match": '"x"'}).status_code
    for tag in tags:
        assert 200 == client.get("/v1/users/ada", headers={"If-Match": tag}).status_code
        item = {"op": "put", "id": "ada", "doc": {}, "if_match": tag}
        written = client.post("/v1/users:bulk", json=[item]).json["results"][0]
        assert 200 == written["status"]
        client.put("/v1/users/ada", data=to_json(body, canonical=True))
    assert 412 == client.put("/v1/users/ada", json={}, headers={"If-Match": '"x-canonical"'}).status_code
    assert 200 == client.put("/v1/users/ada", json={}, headers={"If-Match": tags[1]}).status_code


def test_relaxed_json_is_what_it_was(client, body):
    """Without a wish nothing changes."""
    assert to_json(body) == client.get("/v1/users/ada").data
