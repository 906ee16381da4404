"""DBRefs, which hold fields of any name and number."""

from __future__ import annotations

import json

import bson
import pytest
from bson import (
    Code,
    DBRef,
)

from writebehind.documents import dbrefs
from writebehind.documents.codec import (
    decode,
    decode_exactly,
    encode,
    loads,
    to_json,
)
from writebehind.errors import InvalidDocumentError


def test_names_in_a_dbref_are_only_names():
    """A field of a DBRef may have the name of an attribute that other values have."""
    inner = DBRef("c", 1, None, {"items": float("nan"), "__iter__": None, "scope": 3, "as_doc": 4, "binary": 5})
    text = to_json(encode({"a": DBRef("c", inner), "b": Code("f", {"x": inner})}))

    assert encode(loads(text)) == encode({"a": DBRef("c", inner), "b": Code("f", {"x": inner})})


def test_what_looks_like_a_dbref_becomes_one_at_once():
    """The fields of a DBRef are put in order when they are first stored, not when they are next read."""
    body = encode({"a": {"$id": 1, "x": 2, "$ref": "c"}})

    assert body == bson.encode({"a": DBRef("c", 1, x=2)}) == encode(decode(body))


def dbref(count: int) -> dict[str, object]:
    """A document that is a DBRef, with so many fields of its own."""
    return {"$ref": "c", "$id": 1, **{f"f{n}": n for n in range(count)}}


def test_a_dbref_has_a_bounded_number_of_fields(monkeypatch):
    """Each of its fields costs a look at all of them: one with more is refused before it is encoded."""
    most = dbrefs.MOST_FIELDS
    assert dbref(most) == json.loads(to_json(encode(loads(json.dumps({"a": dbref(most)}).encode()))))["a"]

    monkeypatch.setattr(DBRef, "as_doc", lambda _: pytest.fail("it was encoded"))
    with pytest.raises(InvalidDocumentError, match="DBRef"):
        loads(json.dumps({"a": [dbref(most + 1)]}).encode())
    with pytest.raises(InvalidDocumentError, match="DBRef"):
        encode({"a": dbref(most + 1)})


@pytest.mark.parametrize("more", [{}, {"b": b"\x06\x0c\x0e"}])
def test_a_long_dbref_of_others_is_shown_and_not_changed(monkeypatch, more):
    """One that others put into MongoDB is read, whatever bytes are beside it, without the look at all for each."""
    body = bson.encode({"a": dbref(5_000), **more})
    monkeypatch.setattr(DBRef, "as_doc", lambda _: pytest.fail("it was encoded"))

    assert dbref(5_000) == json.loads(to_json(body))["a"]
    assert dbref(5_000) == dbrefs.fields(decode(body)["a"])
    with pytest.raises(InvalidDocumentError, match="DBRef"):
        decode_exactly(body)


def test_the_fields_of_a_dbref_are_those_of_bson():
    """What is read past `as_doc` is what that says."""
    for one in (DBRef("c", 1), DBRef("c", 1, "d"), DBRef("c", 1, "d", {"x": 2}), DBRef("c", 1, x=3)):
        assert dict(one.as_doc()) == dbrefs.fields(one)
