"""Large documents become text in pieces, and the text is the same as of the whole."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import bson
import pytest
from bson.code import Code
from bson.dbref import DBRef
from bson.int64 import Int64
from bson.regex import Regex
from hypothesis import given

from tests.bson_strategies import documents
from writebehind.documents import codec
from writebehind.documents.elements import ARRAY, INT32, OBJECT, STRING, SYMBOL, document, field
from writebehind.documents.extended_json import pieces
from writebehind.documents.extended_json.pieces import in_pieces
from writebehind.errors import UnreadableDocumentError

MIB = 1 << 20
ONE = (1).to_bytes(4, "little")


def equal_names(inner: bytes) -> bytes:
    """Two fields of the same name, and between them another."""
    return document([field(INT32, b"a", ONE), inner, field(INT32, b"a", bytes(4))])


LARGE = {
    "an array": bson.encode({"a": [1] * 120_000}),
    "objects": bson.encode({"a": [{}] * 50_000, "b": [[], {"c": None}] * 30_000}),
    "names": bson.encode({"top": {f"n{n}": n for n in range(120_000)}, "end": "ü\n"}),
    "nested": bson.encode({"a": {"b": [{"c": [Int64(n) for n in range(70_000)]}, "x" * 100_000]}, "d": 1.5}),
    "numbers that JSON has none for": bson.encode({"a": [float("inf"), float("nan"), None] * 40_000}),
    "dates": bson.encode({"a": [datetime(2026, 1, 1, tzinfo=UTC)] * 90_000}),
    "a reference": bson.encode({"a": DBRef("x", 1, "db", more="x" * MIB), "b": 1}),
    "a string": bson.encode({"a": "\x01" * (MIB + 1)}),
    "characters of all lengths": bson.encode({"a": "aü€𝄞" * (MIB // 8), "b": ["𝄞" * (MIB // 8)]}),
    "code": bson.encode({"a": Code("ü\n" * (MIB // 2))}),
    "a symbol": document([field(SYMBOL, b"a", (MIB + 1).to_bytes(4, "little") + b"\n" * MIB + b"\0")]),
    "a regular expression": bson.encode({"a": Regex("\n" * (MIB + 1), "i")}),
    "equal names": equal_names(
        field(OBJECT, b"b", equal_names(field(ARRAY, b"c", bson.encode({"0": "x" * MIB}))))
    ),
}


@pytest.mark.parametrize("write", [codec._relaxed_json, codec._canonical_json], ids=["relaxed", "canonical"])
@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_large_documents_have_the_text_of_the_whole(body, write):
    """In both forms, whatever takes the bytes: many values, long ones, names, or levels."""
    assert len(body) > MIB
    assert write(body) == codec.to_json(body, canonical=write is codec._canonical_json)


@given(given=documents)
@pytest.mark.parametrize("write", [codec._relaxed_json, codec._canonical_json], ids=["relaxed", "canonical"])
def test_pieces_of_any_size_make_up_the_whole(given, write):
    """However small they are."""
    body = codec.encode(given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "RUN_BYTES", 20)
        assert write(body) == in_pieces(body, write)


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize(
    "body", [LARGE["an array"], bson.encode({"a": "\x01" * 4 * MIB})], ids=["array", "string"]
)
def test_large_documents_take_a_few_times_their_bytes(body, canonical):
    """A million values do not exist at once, nor several copies of a long text."""
    tracemalloc.start()
    try:
        text = codec.to_json(body, canonical=canonical)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2 * len(text) + len(body) + 8 * MIB


@pytest.mark.parametrize("length", [0, 8, 1 << 20, 1 << 31, (1 << 32) - 1])
def test_lengths_that_lead_elsewhere_are_told(length):
    """What is no BSON stays unreadable when it is large."""
    inner = bson.encode({"0": "x" * MIB, "1": 1})
    body = document([field(ARRAY, b"a", length.to_bytes(4, "little") + inner[4:]), field(INT32, b"b", ONE)])

    with pytest.raises(UnreadableDocumentError):
        codec.to_json(body)


@pytest.mark.parametrize("end", [b"", b"x"])
def test_a_string_without_an_end_is_told(end):
    """It is no BSON, whether or not its parts are characters."""
    text = b"x" * MIB + end
    body = document([field(STRING, b"a", len(text).to_bytes(4, "little") + text)])

    with pytest.raises(UnreadableDocumentError):
        codec.to_json(body)


@pytest.mark.parametrize("at", [b"\xff", b"\x80" * 100_000, b"\xed\xa0\x80", b"\xf0\x9d"])
def test_a_large_string_that_is_no_utf8_is_told(at):
    """Wherever its parts end."""
    text = b"x" * MIB + at + b"\0"
    body = document([field(STRING, b"a", len(text).to_bytes(4, "little") + text)])

    with pytest.raises(UnreadableDocumentError):
        codec.to_json(body)


WHOLE = {
    "equal names": equal_names(field(ARRAY, b"b", bson.encode({"0": "x" * pieces.MOST_WHOLE}))),
    "within": bson.encode({"a": {"$b": [{}] * 400_000}}),
    "a scope": bson.encode({"a": Code("f()", {"a": "x" * pieces.MOST_WHOLE})}),
    "control characters that are no string": bson.encode({"a": Regex("\x01" * (pieces.MOST_TEXT // 5))}),
    "a name": bson.encode({"\x01" * (pieces.MOST_TEXT // 5): 1}),
}


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_what_cannot_be_divided_is_shown_up_to_a_limit(body, canonical):
    """Its values, or its text, would take many times its bytes at once."""
    with pytest.raises(UnreadableDocumentError, match="cannot be shown in parts"):
        codec.to_json(body, canonical=canonical)
