"""What others wrote and no driver would: it fails nothing beside it, is not lost, and is shown where it can be."""

from __future__ import annotations

import struct

import bson
import pytest

from tests.unit.web.conftest import problem
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId

MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
CANONICAL = "application/json;profile=canonical"


def document(name: str, *elements: bytes) -> bytes:
    content = bson.encode({"_id": name})[4:-1] + b"".join(elements)
    return struct.pack("<i", len(content) + 5) + content + b"\0"


NO_UTF8 = b"\x02text\0" + struct.pack("<i", 4) + b"a\xff\xfe\0"
TWICE = b"\x10n\0\1\0\0\0" + b"\x10n\0\2\0\0\0"
SYMBOL = b"\x0es\0" + struct.pack("<i", 2) + b"s\0"
#: Documents that are no valid BSON, by name.
UNREADABLE = {
    "no_utf8": document("no_utf8", NO_UTF8),
    "no_utf8_name": document("no_utf8_name", b"\x0ax\xff\0"),
    "no_utf8_inside": document("no_utf8_inside", b"\x03in\0" + document("x", NO_UTF8)),
    "no_boolean": document("no_boolean", b"\x08b\0\2"),
}
#: Other documents, and how each is shown.
FOREIGN = {
    "twice": (document("twice", TWICE), {"n": 2}),
    "symbol": (document("symbol", SYMBOL), {"s": {"$symbol": "s"}}),
    "undefined": (document("undefined", b"\x06u\0"), {"u": {"$undefined": True}}),
}
#: Those that a change would lose something of, and the problem that it is.
INEXACT = {"twice": "patch-conflict", **dict.fromkeys(UNREADABLE, "unreadable-document")}


@pytest.fixture(autouse=True)
def foreign(sink) -> None:
    for name, body in (UNREADABLE | {name: body for name, (body, _) in FOREIGN.items()}).items():
        for collection in ("users", "asked"):
            sink.entries[f"{collection}/s:{name}"] = Entry.loaded(body, 0)
    sink.has("users", "ada", {"name": "Ada"})
    sink.has("asked", "ada", {"name": "Ada"})


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_shown(client, name):
    """What is valid BSON is shown, whatever it has."""
    response = client.get(f"/v1/users/{name}")
    assert (200, {"_id": name} | FOREIGN[name][1]) == (response.status_code, response.json)


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("accept", ["*/*", CANONICAL])
def test_it_is_a_problem_of_its_own(client, name, accept):
    """What is none is a problem, and nothing stands in place of its bytes; its ETag serves to replace it."""
    response = client.get(f"/v1/users/{name}", headers={"Accept": accept})
    assert "replaced or deleted" in problem(response, 409, "unreadable-document")["detail"]
    condition = {"If-Match": response.headers["ETag"]}
    assert 200 == client.put(f"/v1/users/{name}", json={}, headers=condition).status_code


@pytest.mark.parametrize("accept", ["*/*", CANONICAL])
def test_its_neighbours_are_shown(client, accept):
    """Reading several shows all that can be shown, and has a problem for each of the others."""
    ids = [*UNREADABLE, *FOREIGN, "ada", "nobody"]
    response = client.post("/v1/users:get", json={"ids": ids}, headers={"Accept": accept})
    assert 200 == response.status_code
    assert {*FOREIGN, "ada"} == response.json["documents"].keys()
    assert ["nobody"] == response.json["missing"]
    assert UNREADABLE.keys() == response.json["unreadable"].keys()
    for one in response.json["unreadable"].values():
        assert one["type"].endswith("unreadable-document")


def test_queries_find_its_neighbours(client, installation):
    """So do queries, with and without a projection, for which only what is wanted must be readable."""
    for query in ("all", "everything"):
        response = client.get(f"/v1/asked/queries/{query}")
        assert 200 == response.status_code, response.text
        shown = {one["_id"] for one in response.json["documents"]}
        assert {*FOREIGN, "ada"} <= shown
        assert {*UNREADABLE} == (shown & {*UNREADABLE}) | {*response.json.get("unreadable", ())}
    assert response.json["unreadable"].keys() == UNREADABLE.keys()
    assert {*FOREIGN, "ada"} == {
        one["_id"] for one in installation.pipeline.collection("asked").query("everything")
    }


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
    assert "replace" in problem(response, 409, INEXACT[name])["detail"]
    assert not [one for one in installation.stored() if one.endswith(":pending")]


@pytest.mark.parametrize("name", INEXACT)
def test_a_bulk_goes_on_beside_it(client, name):
    """In a bulk that change fails alone."""
    items = [{"op": "patch", "id": one, "doc": {"x": 1}} for one in (name, "ada")]
    response = client.post("/v1/users:bulk", json=items)
    assert [409, 200] == [one["status"] for one in response.json["results"]]


@pytest.mark.parametrize("name", [*UNREADABLE, *FOREIGN])
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


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/users/eve"), ("POST", "/v1/users")])
def test_an_empty_timestamp_of_the_document_itself(client, method, path):
    """MongoDB puts its own time there, and Redis would have something else: it is refused; within, it is kept."""
    empty, other = {"$timestamp": {"t": 0, "i": 0}}, {"$timestamp": {"t": 0, "i": 1}}
    refused = problem(client.open(path, method=method, json={"at": empty}), 422, "invalid-document")
    assert "Timestamp(0, 0)" in refused["detail"]
    assert client.open(path, method=method, json={"at": other, "in": {"at": empty}}).status_code in {200, 201}
