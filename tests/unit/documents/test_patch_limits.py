"""Patches that would take far more than they are long: copies of copies, deep pointers, long messages."""

from __future__ import annotations

from functools import reduce

import pytest
from bson import Code, DBRef, Regex

from tests.unit.documents.patching import MOST_BYTES, patched
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.documents.patches import json_patch
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError, RequestError


@pytest.mark.parametrize(
    "value",
    [
        ["x"] * 100,
        "x" * 1000,
        b"x" * 1000,
        Regex("x" * 1000),
        Code("x", {"y": "x" * 1000}),
        DBRef("c", 1, extra={"x": ["x"] * 100}),
        {"a": {"b": ["x"] * 100}},
    ],
)
def test_copy_bomb(value):
    """Copies of a large value of any type are refused before they fill the memory."""
    ops = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(200)]
    with pytest.raises(InvalidPatchError, match="too large"):
        patched({"a": value}, *ops)


def test_doubling_copies():
    """Copies that each double the document are refused early."""
    ops = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]
    with pytest.raises(InvalidPatchError, match="too large"):
        patched({"a": 1}, *ops)


def test_copies_within_the_limit():
    """As many copies as the limit allows are made."""
    ops = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(100)]
    assert 101 == len(patched({"a": "x" * 900}, *ops))


@pytest.mark.parametrize("name", ["path", "from"])
@pytest.mark.parametrize("parts", [MAX_DEPTH + 1, 490_000])
def test_pointers_have_no_more_parts_than_documents_have_levels(name, parts):
    """A long pointer is refused by its length, before it is taken apart."""
    op = {"op": "copy", "path": "/a", "from": "/a"} | {name: "/a" * parts}
    with pytest.raises(InvalidDocumentError, match="100 levels"):
        json_patch([op], most_bytes=MOST_BYTES)


def deep(levels: int, leaf: object) -> object:
    for _ in range(levels):
        leaf = {"n": leaf}
    return leaf


@pytest.mark.parametrize(
    "last",
    [
        {"op": "copy", "from": "/a", "path": "/c"},
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a/x", "value": 1},
        {"op": "remove", "path": "/x"},
    ],
)
def test_json_patch_that_digs(last):
    """Operations that build more levels than Python can recurse into are refused as any other."""
    down = "/b" + "/n" * 90 + "/x"
    dig = [
        {"op": "add", "path": "/b", "value": deep(90, {})},
        {"op": "move", "from": "/a", "path": down},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    with pytest.raises(RequestError):
        patched({"a": 1}, *dig * 30, last)


def test_short_messages():
    """A message does not repeat a large document."""
    with pytest.raises(PatchConflictError) as caught:
        patched({"a": "x" * 10_000}, {"op": "test", "path": "/a", "value": "y"})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"k\0": 1, "l": []}, id="NUL in a name"),
        pytest.param({"k": 1 << 70, "l": []}, id="a number beyond 64 bits"),
        pytest.param({"l": [], "deep": reduce(lambda inner, _: [inner], range(MAX_DEPTH), 0)}, id="too deep"),
    ],
)
def test_what_no_document_can_have_is_not_copied(value):
    """A copy doubles a document: one of what has no size, as it cannot be stored, is refused before it is made."""
    copies = [{"op": "copy", "from": "/x", "path": "/x/l/0"}] * 30
    document = {}
    with pytest.raises(InvalidDocumentError):
        json_patch([{"op": "add", "path": "/x", "value": value}, *copies], most_bytes=1 << 20)(document)

    assert {"x": value} == document
