"""The public suites of JSON Patch, JSON and BSON over HTTP, from the folder that PUBLIC_SUITES names.

Nothing of them is kept here; each test tells how many cases hold, which is never fewer than the figures below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from writebehind.documents.codec import encode, loads
from writebehind.documents.entry import Entry

FOLDER = os.environ.get("PUBLIC_SUITES", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="PUBLIC_SUITES names no folder of public test suites")

PATCH = {"Content-Type": "application/json-patch+json"}
CANONICAL = {"Accept": "application/json;profile=canonical"}
NAME = "x"
PATH = f"/v1/users/{NAME}"

#: How many cases hold at least: of JSON Patch; JSON that is refused, and that is taken; documents of the BSON
#: corpus that are taken, other forms of them, BSON that is refused, and text that is refused.
PATCHES, NO_JSON, JSON = 181, 376, 188
DOCUMENTS, DEGENERATE, NO_BSON, NO_TEXT = 713, 325, 75, 179


def suites(name: str) -> Iterator[tuple[str, Any]]:
    """The files of one suite that hold cases, parsed."""
    for path in sorted((Path(FOLDER) / name).glob("*.json")):
        yield path.stem, json.loads(path.read_bytes())


def said(wrong: list[str]) -> str:
    return "\n".join(wrong[:20])


# JSON Patch ---------------------------------------------------------------------------------------------


def patch_cases() -> Iterator[tuple[str, dict]]:
    for name, cases in suites("json-patch"):
        for at, case in enumerate(cases):
            if "patch" in case and not case.get("disabled"):
                yield f"{name} {at} {case.get('comment', '')}", case


def wrapped(value: Any) -> Any:
    """An operation, with its pointers one level deeper."""
    if not isinstance(value, dict):
        return value
    deeper = {name: f"/doc{value[name]}" for name in ("path", "from") if isinstance(value.get(name), str)}
    malformed = {name: one for name, one in deeper.items() if value[name] and not value[name].startswith("/")}
    return value | deeper | {name: value[name] for name in malformed}


def exactly(value: Any) -> str:
    """A text that tells 1 from 1.0 and from true, whatever the order of members."""
    return json.dumps(value, sort_keys=True)


def holds(client, document: Any, patch: Any, expected: Any) -> bool:
    """Whether a document becomes what is expected; `None` for a patch that is refused and changes nothing."""
    assert client.put(PATH, data=json.dumps(document)).status_code in {200, 201}
    response = client.patch(PATH, data=json.dumps(patch), headers=PATCH)
    found = client.get(PATH).json
    del found["_id"]
    if expected is None:
        return response.status_code in {400, 409, 422} and exactly(found) == exactly(document)
    return response.status_code == 200 and exactly(found) == exactly(expected)


def test_json_patch(client):
    """Each enabled case holds: as it is where it is about objects, and for a document within another one."""
    wrong, held = [], 0
    for name, case in patch_cases():
        document, patch, expected = case["doc"], case["patch"], case.get("expected", case["doc"])
        outer = [wrapped(one) for one in patch] if isinstance(patch, list) else patch
        tried = [({"doc": document}, outer, None if "error" in case else {"doc": expected})]
        if isinstance(document, dict) and isinstance(expected, dict):
            tried.append((document, patch, None if "error" in case else expected))
        for one in tried:
            held += holds(client, *one) or wrong.append(f"{name}: {one}") or 0
    assert [] == wrong, said(wrong)
    assert held >= PATCHES


# JSON ---------------------------------------------------------------------------------------------------


def json_texts(kind: str) -> Iterator[tuple[str, bytes]]:
    """The texts of one kind: `y` for JSON, `n` for none, `i` for what a parser may take or not."""
    for path in sorted((Path(FOLDER) / "json-parsing").glob(f"{kind}_*.json")):
        yield path.stem, path.read_bytes()


def statuses(client, text: bytes) -> list[int]:
    """How a text is answered as a value of a document, put by itself and in a bulk."""
    single = client.put(PATH, data=b'{"a":' + text + b"}")
    item = b'[{"op":"put","id":"x","doc":{"a":' + text + b"}}]"
    bulk = client.post("/v1/users:bulk", data=item)
    inner = bulk.json["results"][0]["status"] if bulk.status_code == 207 else bulk.status_code
    return [single.status_code, inner]


def test_json_that_is_none(client, installation):
    """Whatever is no JSON is refused, and nothing of it is stored."""
    found = {name: statuses(client, text) for name, text in json_texts("n")}
    wrong = [f"{name}: {found[name]}" for name in found if not {*found[name]} <= {400, 422}]
    assert [] == wrong, said(wrong)
    assert 2 * len(found) >= NO_JSON
    assert [] == installation.stored()


def test_json(client):
    """Whatever is JSON is taken, but for a name that BSON cannot hold."""
    found = {name: statuses(client, text) for name, text in json_texts("y")}
    wrong = [f"{name}: {found[name]}" for name in found if not {*found[name]} <= {200, 201}]
    assert ["y_object_escaped_null_in_key: [422, 422]"] == wrong, said(wrong)
    assert 2 * (len(found) - len(wrong)) >= JSON


def test_json_that_may_be_taken_or_not(client):
    """What a parser may take or not is taken or refused, and never an error of the server."""
    for name, text in json_texts("i"):
        assert {*statuses(client, text)} <= {200, 201, 400, 422}, name


# BSON ---------------------------------------------------------------------------------------------------


def corpus(part: str) -> Iterator[tuple[str, dict, dict]]:
    """The cases of one part of the BSON corpus, each with its file."""
    for name, suite in suites("bson-corpus"):
        for case in suite.get(part, ()):
            yield f"{name}: {case['description']}", case, suite


def put(client, text: str) -> int:
    return int(client.put(PATH, data=text.encode()).status_code)


def stored(installation) -> bytes:
    """The elements of the document but for its id, as they stand in Redis."""
    body = installation.pipeline.collection("users").read(NAME).entry.body
    return body[4 + len(encode({"_id": NAME})[4:-1]) : -1]


def shown(client, headers: dict) -> Any:
    """The document as an answer has it, with its text parsed by the standard library, without its id."""
    found = json.loads(client.get(PATH, headers=headers).data)
    del found["_id"]
    return found


def test_bson(client, installation):
    """Each document that can be stored is stored byte by byte, and shown as canonical and relaxed JSON has it."""
    refused, wrong, taken = [], [], 0
    for name, case, _ in corpus("valid"):
        if put(client, case["canonical_extjson"]) not in {200, 201}:
            refused.append(name)
            continue
        taken += 1
        elements = bytes.fromhex(case["canonical_bson"])[4:-1]
        if not case.get("lossy") and elements != stored(installation):
            wrong.append(f"{name}: {stored(installation)!r}")
        if not same_json(shown(client, CANONICAL), case["canonical_extjson"]):
            wrong.append(f"{name}: {shown(client, CANONICAL)}")
        if "relaxed_extjson" in case and not same_json(shown(client, {}), case["relaxed_extjson"]):
            wrong.append(f"{name}: {shown(client, {})}")
    assert [] == wrong, said(wrong)
    assert taken >= DOCUMENTS, said(refused)


def same_json(found: Any, text: str) -> bool:
    """Whether a parsed answer is what a text says; a double may be written in more than one way."""
    return encode(loads(json.dumps(found).encode())) == encode(loads(text.encode())) and (
        kinds(found) == kinds(json.loads(text))
    )


def kinds(value: Any) -> Any:
    """The wrappers and members of parsed JSON without its texts."""
    if isinstance(value, dict):
        return {name: kinds(one) for name, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else type(value)


def test_bson_in_other_words(client, installation):
    """Other forms of a document become the same one: degenerate JSON, and relaxed JSON where that is exact."""
    wrong, held = [], 0
    for name, case, _ in corpus("valid"):
        if "degenerate_extjson" not in case:
            continue
        is_taken = put(client, case["degenerate_extjson"]) in {200, 201}
        if is_taken and stored(installation) == bytes.fromhex(case["canonical_bson"])[4:-1]:
            held += 1
        else:
            wrong.append(name)
    assert [] == wrong, said(wrong)
    assert held >= DEGENERATE


def test_what_is_no_bson(client, sink):
    """A body in MongoDB that is no BSON is a problem of its own."""
    wrong, held = [], 0
    for at, (name, case, _) in enumerate(corpus("decodeErrors")):
        sink.entries[f"users/s:d{at}"] = Entry.loaded(bytes.fromhex(case["bson"]), 0)
        status = client.get(f"/v1/users/d{at}").status_code
        held += status == 409 or wrong.append(f"{name}: {status}") or 0
    assert [] == wrong, said(wrong)
    assert held >= NO_BSON


def test_what_is_no_extended_json(client, installation):
    """Text that the corpus calls wrong is refused, but for one form of old that says exactly what it means."""
    taken, refused = [], 0
    for name, case, suite in corpus("parseErrors"):
        text = case["string"]
        if suite["bson_type"] == "0x13":
            text = json.dumps({"d": {"$numberDecimal": text}})
        if put(client, text) in {400, 422}:
            refused += 1
        else:
            taken.append(name)
    assert ["top: Bad $date (number, not string or hash)"] == taken, said(taken)
    assert refused >= NO_TEXT
    assert not [one for one in installation.stored() if not one.startswith("wb:")]
