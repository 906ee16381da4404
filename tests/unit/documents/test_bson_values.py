"""Native values and BSON: inverse on bytes, equal to what `bson` encodes, refused where something is lost."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import bson
import pytest
from bson import (
    Binary,
    Code,
    DBRef,
    Int64,
    Regex,
)
from bson.binary import UuidRepresentation
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from hypothesis import given

from tests.bson_strategies import (
    dates,
    documents,
    python_scalars,
)
from tests.unit.documents.conftest import FEW, STANDARD, UUID_TEXT, nested, raw
from writebehind.documents.codec import (
    decode,
    decode_exactly,
    encode,
    to_json,
)
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.errors import (
    InvalidDocumentError,
    PatchConflictError,
    UnreadableDocumentError,
)

STANDARD_UUID = STANDARD.with_options(uuid_representation=UuidRepresentation.STANDARD)


@FEW
@given(documents)
def test_decode_and_encode_are_inverse_on_bytes(document):
    """A body stays the same, byte for byte, when it is decoded and encoded."""
    body = encode(document)

    assert encode(decode(body)) == body


@given(python_scalars)
def test_python_values_survive(value):
    """What users pass, such as dates in any time zone and UUIDs, is stored once and never changes again."""
    body = encode({"a": value})

    assert encode(decode(body)) == body


@FEW
@given(documents)
def test_encode_is_the_encoding_of_bson(document):
    """The bytes are those that any other driver user would write."""
    assert encode(document) == bson.encode(document)


@given(dates)
def test_every_date_survives(date):
    """Each of the 2**64 dates stays the same; those that Python knows are aware datetimes in UTC."""
    decoded = decode(encode({"a": date}))["a"]

    if -62_135_596_800_000 <= int(date) <= 253_402_300_799_999:
        assert isinstance(decoded, datetime)
        assert decoded.utcoffset() == timedelta(0)
        assert (decoded - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == int(date)
    else:
        assert decoded == date


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        (5, 5),
        (Int64(5), Int64(5)),
        (b"x", b"x"),
        (Binary(b"x", 4), Binary(b"x", 4)),
        (Binary(bytes(16), 3), Binary(bytes(16), 3)),
        (UUID(UUID_TEXT), Binary(UUID(UUID_TEXT).bytes, 4)),
        (datetime(2020, 1, 1, 0, 0, 0, 123_999), datetime(2020, 1, 1, 0, 0, 0, 123_000, UTC)),  # noqa: DTZ001 - naive is UTC
        ((1, 2), [1, 2]),
        (SON(a=1), {"a": 1}),
        (DBRef("c", 1, "d", x=2), DBRef("c", 1, "d", x=2)),
        (Code("f", {"x": 1}), Code("f", {"x": 1})),
        (RawBSONDocument(bson.encode({"a": 1})), {"a": 1}),
    ],
)
def test_decoded_types(value, decoded):
    """A value comes back with its type."""
    found = decode(encode({"a": value}))["a"]

    assert found == decoded
    assert type(found) is type(decoded)


@pytest.mark.parametrize(
    "document",
    [
        {"a": 1 << 63},
        {"a": -(1 << 63) - 1},
        {"a": Int64(1 << 63)},
        {"a\0b": 1},
        {1: 2},
        {None: 2},
        {"a": {b"b": 1}},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": Code("\ud800")},
        {"a": Regex("\ud800")},
        {"a": Regex("a\0b")},
        {"a": Regex(b"\xff")},
        {"a": object()},
        {"a": {1, 2}},
        {"a": Decimal(1)},
        {"a": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9)))},
        {"a": DBRef("c", object())},
        nested(MAX_DEPTH + 1),
        nested(5_000),
        {"a": [[nested(MAX_DEPTH - 2)]]},
        {"a": DBRef("c", nested(MAX_DEPTH - 1))},
        {"a": Code("f", nested(MAX_DEPTH))},
        {"a": RawBSONDocument(bson.encode(nested(MAX_DEPTH)))},
        {"a": ({"b": (nested(MAX_DEPTH - 3),)},)},
        {"a": MappingProxyType({"b": nested(MAX_DEPTH - 1)})},
        [1],
        5,
        None,
    ],
    ids=lambda document: repr(document)[:40] if not isinstance(document, dict) or "a" not in document else None,
)
def test_encode_refuses(document):
    """What BSON or MongoDB cannot take is an InvalidDocumentError with a message of bounded length."""
    with pytest.raises(InvalidDocumentError) as caught:
        encode(document)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "document",
    [
        nested(MAX_DEPTH),
        nested(MAX_DEPTH - 1, [1]),
        nested(MAX_DEPTH, Code("f")),
        nested(MAX_DEPTH - 1, Code("f", {"x": 1})),
        nested(MAX_DEPTH - 1, DBRef("c", 1)),
        nested(MAX_DEPTH, UUID(UUID_TEXT)) | {str(number): {} for number in range(200)},
        nested(MAX_DEPTH - 1, (1, 2)),
        nested(MAX_DEPTH, Regex("x")),
        {str(number): {} for number in range(500)},
        {"a": Binary(b"\x03\x04" * 500)},
    ],
    ids=range(10),
)
def test_encode_takes_what_is_deep_or_wide(document):
    """As many levels as MongoDB takes, and any number of fields, are stored."""
    assert encode(document) == bson.encode(document, codec_options=STANDARD_UUID)


NO_UTF8 = {
    "string": raw(0x02, struct.pack("<i", 3) + b"\xff\xfe\0"),
    "end of a character": raw(0x02, struct.pack("<i", 3) + b"a\xc3\0"),
    "surrogate": raw(0x02, struct.pack("<i", 4) + b"\xed\xa0\x80\0"),
    "regular expression": raw(0x0B, b"\xff\0i\0"),
    "code": raw(0x0D, struct.pack("<i", 2) + b"\xff\0"),
    "symbol": raw(0x0E, struct.pack("<i", 2) + b"\xff\0"),
    "db pointer": raw(0x0C, struct.pack("<i", 2) + b"\xff\0" + bytes(12)),
}
NO_UTF8["name"] = struct.pack("<i", 8) + b"\x0a\xff\0\0"
NO_UTF8 |= {
    "inner document": raw(0x03, NO_UTF8["string"]),
    "inner name": raw(0x03, NO_UTF8["name"]),
    "array": raw(0x04, NO_UTF8["string"]),
}
READERS = [decode, decode_exactly, to_json, lambda body: to_json(body, canonical=True)]


@pytest.mark.parametrize("body", NO_UTF8.values(), ids=NO_UTF8)
@pytest.mark.parametrize("read", READERS)
def test_what_is_no_utf8(body, read):
    """MongoDB does not look whether a string is UTF-8: one that is not is an error, and nothing replaces it."""
    with pytest.raises(UnreadableDocumentError):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\x13\0\0\0\x10x\0\x01\0\0\0\x10x\0\x02\0\0\0\0",
        raw(0x03, b"\x13\0\0\0\x10x\0\x01\0\0\0\x10x\0\x02\0\0\0\0"),
        raw(0x0B, b"a\0gi\0"),
    ],
    ids=["names", "inner names", "options"],
)
def test_what_a_change_would_lose(body):
    """Fields of the same name, and options that there are none of, are no part of a native value."""
    with pytest.raises(PatchConflictError, match="replace it as a whole"):
        decode_exactly(body)


@FEW
@given(documents)
def test_all_others_can_be_changed(document):
    """Whatever this module or a driver wrote is exact."""
    for body in (encode(document), bson.encode(document)):
        assert encode(decode_exactly(body)) == encode(document)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        bytes(5),
        raw(0x08, b"\x02"),
        raw(0x14, b""),
        raw(0x05, struct.pack("<i", 2) + b"\x02ab"),
        raw(0x02, struct.pack("<i", 2) + b"ab"),
        raw(0x02, struct.pack("<i", -1) + b"\0"),
        raw(0x03, b"\xff\xff\xff\x7f\0"),
        bson.encode({"a": 1})[:-2],
    ],
    ids=range(10),
)
@pytest.mark.parametrize("read", READERS)
def test_what_cannot_be_read(body, read):
    """What is no BSON is one error, which names the reason and is short."""
    with pytest.raises(UnreadableDocumentError) as caught:
        read(body)

    assert len(str(caught.value)) < 400
