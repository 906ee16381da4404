"""What others wrote and JSON cannot say exactly: it is shown, fails nothing beside it, and is not lost."""

from __future__ import annotations

import struct

import bson
import pytest

from tests.unit.web.conftest import problem
from writebehind.codec import decode
from writebehind.entry import Entry
from writebehind.ids import DocumentId

MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def document(name: str, *elements: bytes) -> bytes:
    content = bson.encode({"_id": name})[4:-1] + b"".join(elements)
    return struct.pack("<i", len(content) + 5) + content + b"\0"


NO_UTF8 = b"\x02text\0" + struct.pack("<i", 4) + b"a\xff\xfe\0"
TWICE = b"\x10n\0\1\0\0\0" + b"\x10n\0\2\0\0\0"
SYMBOL = b"\x0es\0" + struct.pack("<i", 2) + b"s\0"
#: Documents by name, and how each is shown.
FOREIGN = {
    "no_utf8": (document("no_utf8", NO_UTF8), {"text": "a\ufffd\ufffd"}),
    "no_utf8_name": (document("no_utf8_name", b"\x0ax\xff\0"), {"x\ufffd": None}),
    "twice": (document("twice", TWICE), {"n": 2}),
    "symbol": (document("symbol", SYMBOL), {"s": {"$symbol": "s"}}),
    "undefined": (document("undefined", b"\x06u\0"), {"u": {"$undefined": True}}),
}
#: Those that a change would lose something of.
INEXACT = ["no_utf8", "no_utf8_name", "twice"]


@pytest.fixture(autouse=True)
def foreign(sink) -> None:
    for name, (body, _) in FOREIGN.items():
        for collection in ("users", "asked"):
            sink.entries[f"{collection}/s:{name}"] = Entry.loaded(body, 0)
    sink.has("users", "ada", {"name": "Ada"})
    sink.has("asked", "ada", {"name": "Ada"})


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_shown(client, name):
    """Reading one is a success, whatever it has."""
    response = client.get(f"/v1/users/{name}")
    assert (200, {"_id": name} | FOREIGN[name][1]) == (response.status_code, response.json)


def test_its_neighbours_are_shown(client):
    """So is reading several, and the others are as they are."""
    response = client.post("/v1/users:get", json={"ids": [*FOREIGN, "ada", "nobody"]})
    shown = {name: {"_id": name} | one for name, (_, one) in FOREIGN.items()}
    assert 200 == response.status_code
    assert {"documents": shown | {"ada": {"_id": "ada", "name": "Ada"}}, "missing": ["nobody"]} == response.json


def test_queries_find_it(client):
    """So are queries, with and without a projection."""
    for query in ("all", "everything"):
        response = client.get(f"/v1/asked/queries/{query}")
        assert 200 == response.status_code, response.text
        assert {*FOREIGN, "ada"} == {one["_id"] for one in response.json["documents"]}


@pytest.mark.parametrize("name", INEXACT)
@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("PATCH", "", b'{"x":1}', MERGE),
        ("PATCH", "", b'[{"op":"add","path":"/x","value":1}]', JSON_PATCH),
        ("POST", ":increment", b'{"x":1}', {}),
    ],
)
def test_no_change_loses_what_it_does_not_name(client, installation, name, method, path, body, headers):
    """A change is refused and stores nothing, where it would store less or other than there is."""
    response = client.open(f"/v1/users/{name}{path}", method=method, data=body, headers=headers)
    assert "replace it as a whole" in problem(response, 409, "patch-conflict")["detail"]
    assert not [one for one in installation.stored() if one.endswith(":pending")]


@pytest.mark.parametrize("name", INEXACT)
def test_a_bulk_goes_on_beside_it(client, name):
    """In a bulk that change fails alone."""
    items = [{"op": "patch", "id": one, "doc": {"x": 1}} for one in (name, "ada")]
    response = client.post("/v1/users:bulk", json=items)
    assert [409, 200] == [one["status"] for one in response.json["results"]]


@pytest.mark.parametrize("name", FOREIGN)
def test_it_can_be_replaced_and_deleted(client, name):
    """To write it anew, or to delete it, what there is need not be understood."""
    assert client.put(f"/v1/users/{name}", json={"x": 1}).status_code in {200, 201}
    assert {"_id": name, "x": 1} == client.get(f"/v1/users/{name}").json
    assert 204 == client.delete(f"/v1/users/{name}").status_code


@pytest.mark.parametrize("name", ["symbol", "undefined"])
def test_deprecated_types_survive_a_change(client, installation, name):
    """A symbol beside a field that is patched is a symbol afterwards, in BSON too."""
    body = FOREIGN[name][0]
    assert 200 == client.patch(f"/v1/users/{name}", data=b'{"x":1}', headers=MERGE).status_code
    entry = installation.pipeline.collection("users").read(name).entry
    assert body[4:-1] + b"\x10x\0\1\0\0\0" == entry.body[4:-1]


def test_an_id_that_is_no_utf8_is_nobody_elses():
    """Its bytes and the text that stands for them in JSON do not name one document."""
    assert DocumentId.stored("c", "a\udcff") is None
    assert DocumentId.stored("c", "a\ufffd") is not None


def test_a_native_value_tells_the_bytes(installation):
    """Through the library the bytes of such a string can be had."""
    found = installation.pipeline.collection("users").get("no_utf8")
    assert b"a\xff\xfe" == found["text"].encode(errors="surrogateescape")
    assert found == decode(FOREIGN["no_utf8"][0])


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/users/eve"), ("POST", "/v1/users")])
def test_an_empty_timestamp_of_the_document_itself(client, method, path):
    """MongoDB puts its own time there, and Redis would have something else: it is refused; within, it is kept."""
    empty, other = {"$timestamp": {"t": 0, "i": 0}}, {"$timestamp": {"t": 0, "i": 1}}
    refused = problem(client.open(path, method=method, json={"at": empty}), 422, "invalid-document")
    assert "Timestamp(0, 0)" in refused["detail"]
    assert client.open(path, method=method, json={"at": other, "in": {"at": empty}}).status_code in {200, 201}
