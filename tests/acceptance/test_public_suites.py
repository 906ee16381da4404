"""The public suites, from the folder PUBLIC_SUITES, on the real system: what they hold reaches MongoDB as is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from writebehind.documents.codec import encode, loads
from writebehind.documents.raw_bson import split_version

FOLDER = os.environ.get("PUBLIC_SUITES", "")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not FOLDER, reason="PUBLIC_SUITES names no folder of public test suites"),
]
CANONICAL = {"Accept": "application/json;profile=canonical"}
TAKEN = {200, 201}
#: What MongoDB has and the server of the tests refuses; of the deprecated types it makes others.
UNKNOWN = {"Y10K"}


def cases(suite: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the files of a suite hold, each with a name that can be an id."""
    for path in sorted((Path(FOLDER) / suite).glob("*.json")):
        found = json.loads(path.read_bytes())
        for at, case in enumerate(found if isinstance(found, list) else found.get("valid", ())):
            kept = case if isinstance(found, list) else case | {"deprecated": found.get("deprecated", False)}
            yield f"{suite}-{path.stem}-{at}", kept


def bulk(system, items: list[str]) -> list[int]:
    """The statuses of operations, each given as its JSON text."""
    answer = system.http.post(
        "/v1/users:bulk", content="\n".join(items), headers={"Content-Type": "application/x-ndjson"}
    )
    return [one["status"] for one in answer.raise_for_status().json()["results"]]


def read(system, names: list[str]) -> dict[str, Any]:
    """The documents as canonical JSON, parsed."""
    answer = system.http.post("/v1/users:get", json={"ids": names}, headers=CANONICAL).raise_for_status().json()
    assert "rest" not in answer
    return answer["documents"]


def test_bson_reaches_mongodb(system):
    """Each document of the BSON corpus that is taken is in MongoDB byte by byte, and read back as it was sent."""
    corpus = {
        name: case
        for name, case in cases("bson-corpus")
        if not (case.get("lossy") or case["deprecated"] or case["description"] in UNKNOWN)
    }
    items = [f'{{"op":"put","id":"{name}","doc":{case["canonical_extjson"]}}}' for name, case in corpus.items()]
    taken = [
        name
        for name, status in zip(corpus, bulk(system, [one.replace("\n", " ") for one in items]), strict=True)
        if status in TAKEN
    ]
    assert len(taken) > len(corpus) - 20
    system.wait_until_drained()
    stored = system.database["users"].with_options(CodecOptions(RawBSONDocument))
    wrong = []
    for name in taken:
        body, _ = split_version(stored.find_one({"_id": name}).raw)
        if not body.endswith(bytes.fromhex(corpus[name]["canonical_bson"])[4:]):
            wrong.append(name)
    assert [] == wrong
    for name, document in read(system, taken).items():
        body = encode(loads(json.dumps(document).encode()))
        assert body.endswith(bytes.fromhex(corpus[name]["canonical_bson"])[4:]), name


def test_patches_reach_mongodb(system):
    """Each case of JSON Patch, on a document within another one, ends in MongoDB as it says."""
    suite = {name: case for name, case in cases("json-patch") if "patch" in case and not case.get("disabled")}
    items, wanted = [], {}
    for name, case in suite.items():
        items.append(json.dumps({"op": "put", "id": name, "doc": {"doc": case["doc"]}}))
        items.append(json.dumps({"op": "patch", "id": name, "doc": wrapped(case["patch"])}))
        wanted[name] = case["doc"] if "error" in case else case.get("expected", case["doc"])
    statuses = bulk(system, items)
    for (name, case), put, patched in zip(suite.items(), statuses[::2], statuses[1::2], strict=True):
        assert put in TAKEN
        assert (patched in TAKEN) is ("error" not in case), name
    system.wait_until_drained()
    found = {one["_id"]: one["doc"] for one in system.database["users"].find({"_id": {"$in": list(suite)}})}
    assert wanted == found


def wrapped(patch: Any) -> Any:
    """A patch with its pointers one level deeper; what is no patch stays as it is."""
    if isinstance(patch, list):
        return [wrapped_operation(one) if isinstance(one, dict) else one for one in patch]
    return [patch]


def wrapped_operation(operation: dict[str, Any]) -> dict[str, Any]:
    pointers = {name: operation[name] for name in ("path", "from") if isinstance(operation.get(name), str)}
    return operation | {name: f"/doc{one}" for name, one in pointers.items() if not one or one.startswith("/")}
