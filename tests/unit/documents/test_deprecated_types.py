"""The types that `bson` makes others of stay what they are, wherever they stand, through BSON and through JSON."""

from __future__ import annotations

import struct

import bson
import pytest
from bson import Code, DBRef, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bson_strategies import codes_of, dbrefs_of, documents_of, object_ids, scalars, texts
from tests.tiers import examples
from writebehind.documents.codec import decode, decode_exactly, dumps, encode, loads, to_json
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined, may_be_in
from writebehind.errors import InvalidDocumentError, UnreadableDocumentError

FEW = settings(max_examples=examples(60))
OID = ObjectId("5f43a1b2c3d4e5f601234567")

deprecated = st.builds(Symbol, texts) | st.just(Undefined()) | st.builds(DBPointer, texts, object_ids)
deprecated_documents = documents_of(
    st.recursive(
        deprecated | scalars,
        lambda inner: st.lists(inner, max_size=3) | documents_of(inner) | dbrefs_of(inner) | codes_of(inner),
        max_leaves=10,
    ),
    6,
)


def raw(kind: int, value: bytes) -> bytes:
    return struct.pack("<i", 8 + len(value)) + bytes([kind]) + b"x\0" + value + b"\0"


@pytest.mark.parametrize(
    ("value", "body", "text"),
    [
        (Symbol("s"), raw(0x0E, struct.pack("<i", 2) + b"s\0"), b'{"x":{"$symbol":"s"}}'),
        (
            Symbol("\0é"),
            raw(0x0E, struct.pack("<i", 4) + b"\0\xc3\xa9\0"),
            '{"x":{"$symbol":"\\u0000é"}}'.encode(),
        ),
        (Undefined(), raw(0x06, b""), b'{"x":{"$undefined":true}}'),
        (
            DBPointer("c", OID),
            raw(0x0C, struct.pack("<i", 2) + b"c\0" + OID.binary),
            b'{"x":{"$dbPointer":{"$ref":"c","$id":{"$oid":"5f43a1b2c3d4e5f601234567"}}}}',
        ),
    ],
)
def test_each_type(value, body, text):
    """Each has its BSON and its Extended JSON, relaxed and canonical."""
    assert body == encode({"x": value})
    assert {"x": value} == decode(body) == loads(text)
    assert text == to_json(body) == to_json(body, canonical=True)
    assert text == b'{"x":' + dumps(value) + b"}"


@FEW
@given(deprecated_documents)
def test_they_survive_wherever_they_stand(document):
    """In arrays, objects, DBRefs and the scope of code, among values of all types, nothing changes."""
    body = encode(document)
    assert body == encode(decode(body))
    assert encode(decode_exactly(body)) == body
    assert to_json(body) == to_json(encode(loads(to_json(body))))


@FEW
@given(deprecated_documents, deprecated)
def test_none_is_overlooked(document, value):
    """A document that has such a value is noticed, however it is named and whatever stands around it."""
    for holder in (value, [value], {"": value}, DBRef("c", value), Code("f", {"": value})):
        assert may_be_in(encode(document | {"": holder}))
        assert may_be_in(encode({"": holder} | {name: one for name, one in document.items() if name}))


@pytest.mark.parametrize("value", [Symbol(""), Symbol("s" * 300), Undefined(), DBPointer("c", OID)])
@pytest.mark.parametrize("size", [0, 1, 5, 11, 13, 62, 63, 64, 65, 70_000])
def test_none_is_overlooked_by_its_name(value, size):
    """However long its name is, and whatever it ends."""
    name = "n" * size
    for document in ({name: value}, {"a": {"b": [{name: value}]}, "name": 1, "n": None}, {"a": value, name: 6}):
        body = encode(document)
        assert may_be_in(body)
        assert document == decode(body)


@pytest.mark.parametrize("size", [5, 11, 13])
def test_a_length_is_no_type(size):
    """Texts, objects and small numbers that begin with a byte like such a type's do not make reading slow."""
    plain = {"a": "x" * size, "b": {"n": 5}, "c": ["y" * size, "z" * size], "d": "é" * (size // 2) + "x", "e": 14}
    assert not may_be_in(encode(plain))


def test_documents_of_all_sizes():
    """A symbol stays one behind a string of any length, where a length may look like a type."""
    for size in [*range(300), 4_095, 4_096, 65_535, 65_536]:
        body = encode({"a": "x" * size, "b": Symbol("s")})
        assert {"a": "x" * size, "b": Symbol("s")} == decode(body)


@pytest.mark.parametrize("kind", ["\x06", "\x0c", "\x0e"])
def test_texts_that_look_like_them(kind):
    """A text of nothing but what begins such a value is read in no more time than another: within its size."""
    text = kind * 900_000
    body = encode({"a": text, "b": 1})
    assert {"a": text, "b": 1} == decode(body) == decode_exactly(body) == loads(to_json(body))


@pytest.mark.parametrize("value", [Symbol("\ud800"), DBPointer("\udfff", OID), [Symbol("s"), object()]])
def test_what_bson_cannot_hold_beside_them(value):
    """A document that has one is refused for its other values like any other."""
    with pytest.raises(InvalidDocumentError):
        encode({"x": value})


def test_names_beside_them():
    """So are its names."""
    for name in ("a\0b", "\ud800", 5):
        with pytest.raises(InvalidDocumentError):
            encode({"x": Symbol("s"), name: 1})


@pytest.mark.parametrize("cut", range(5, 26))
def test_what_is_no_bson(cut):
    """A body that is cut off is an error of ours, and no other."""
    body = encode({"a": Symbol("s"), "b": DBPointer("c", OID)})
    wrong = struct.pack("<i", cut + 1) + body[4:cut] + b"\0"
    try:
        whole = bson.decode(wrong)
    except bson.errors.InvalidBSON:
        with pytest.raises(UnreadableDocumentError):
            decode(wrong)
    else:
        assert whole.keys() == decode(wrong).keys()
