"""Extended JSON and BSON: equal to `bson.json_util` in meaning, exact both ways, and refused where it is wrong."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import bson
import orjson
import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bson_strategies import (
    SCALARS,
    canonical_documents,
    codes_of,
    common_dates,
    dates,
    dbrefs_of,
    documents,
    python_scalars,
    relaxed_documents,
    scalars,
    values,
    wrapper_like_trees,
)
from writebehind.documents import dbrefs
from writebehind.documents.codec import (
    MAX_DEPTH,
    convert,
    decode,
    decode_exactly,
    dumps,
    encode,
    holds_more,
    loads,
    may_have_wrappers,
    parse,
    to_json,
)
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined
from writebehind.errors import (
    InvalidDocumentError,
    MalformedDocumentError,
    PatchConflictError,
    UnreadableDocumentError,
)

FEW = settings(max_examples=40)
MORE = settings(max_examples=300)

STANDARD = CodecOptions(
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
)
STANDARD_UUID = STANDARD.with_options(uuid_representation=UuidRepresentation.STANDARD)
RELAXED = json_util.RELAXED_JSON_OPTIONS.with_options(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS
)
CANONICAL = json_util.CANONICAL_JSON_OPTIONS.with_options(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS
)

OID = "5f43a1b2c3d4e5f601234567"
UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"
HOLDING_TYPES = {"dbref": dbrefs_of(scalars), "code with scope": codes_of(scalars)}


def reference(body: bytes) -> str:
    """What `json_util` says, with each float as it is written, so that -0.0 differs from 0."""
    return repr(json.loads(json_util.dumps(bson.decode(body, STANDARD), json_options=RELAXED)))


def nested(levels: int, innermost: object = 1) -> object:
    value = innermost
    for _ in range(levels):
        value = {"a": value}
    return value


def raw(kind: int, value: bytes) -> bytes:
    """A document of one element `x` as it stands in BSON, for the types that `bson` no longer writes."""
    return struct.pack("<i", 8 + len(value)) + bytes([kind]) + b"x\0" + value + b"\0"


# BSON to JSON text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*SCALARS, *HOLDING_TYPES])
def test_every_type_becomes_what_json_util_makes_of_it(kind):
    """The JSON of a value is that of `json_util`, for every type of BSON, alone and nested."""

    @FEW
    @given((SCALARS | HOLDING_TYPES)[kind])
    def check(value):
        body = bson.encode({"a": value, "b": [value, {"c": value}]})
        assert repr(json.loads(to_json(body))) == reference(body)

    check()


@FEW
@given(documents)
def test_every_document_becomes_what_json_util_makes_of_it(document):
    """The JSON of a whole document is that of `json_util`."""
    body = bson.encode(document)

    assert repr(json.loads(to_json(body))) == reference(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (bson.encode({"x": float("nan"), "y": None}), b'{"x":{"$numberDouble":"NaN"},"y":null}'),
        (bson.encode({"x": float("inf")}), b'{"x":{"$numberDouble":"Infinity"}}'),
        (bson.encode({"x": [float("-inf")]}), b'{"x":[{"$numberDouble":"-Infinity"}]}'),
        (raw(0x01, b"\x01" + bytes(5) + b"\xf0\xff"), b'{"x":{"$numberDouble":"NaN"}}'),
        (raw(0x01, b"\n" * 6 + b"\xf8\x7f"), b'{"x":{"$numberDouble":"NaN"}}'),
        (
            bson.encode({"x": Code("f", {"y": float("nan")})}),
            b'{"x":{"$code":"f","$scope":{"y":{"$numberDouble":"NaN"}}}}',
        ),
        (bson.encode({"x": -1, "y": None, "z": [1.5]}), b'{"x":-1,"y":null,"z":[1.5]}'),
        (bson.encode({"x": -0.0}), b'{"x":-0.0}'),
        (bson.encode({"x": Int64(-(1 << 63))}), b'{"x":-9223372036854775808}'),
        (bson.encode({"x": DatetimeMS(0)}), b'{"x":{"$date":"1970-01-01T00:00:00Z"}}'),
        (bson.encode({"x": DatetimeMS(7)}), b'{"x":{"$date":"1970-01-01T00:00:00.007Z"}}'),
        (bson.encode({"x": DatetimeMS(-1)}), b'{"x":{"$date":{"$numberLong":"-1"}}}'),
        (bson.encode({"x": DatetimeMS(253_402_300_799_999)}), b'{"x":{"$date":"9999-12-31T23:59:59.999Z"}}'),
        (
            bson.encode({"x": DatetimeMS(253_402_300_800_000)}),
            b'{"x":{"$date":{"$numberLong":"253402300800000"}}}',
        ),
        (bson.encode({"x": DatetimeMS(-(1 << 63))}), b'{"x":{"$date":{"$numberLong":"-9223372036854775808"}}}'),
        (bson.encode({"x": Binary(b"ab", 2)}), b'{"x":{"$binary":{"base64":"YWI=","subType":"02"}}}'),
        (bson.encode({"x": "\0\u2028\U0001f600"}), '{"x":"\\u0000\u2028\U0001f600"}'.encode()),
        (b"\x13\0\0\0\x10x\0\x01\0\0\0\x10x\0\x02\0\0\0\0", b'{"x":2}'),
    ],
)
def test_to_json_examples(body, text):
    """The text is relaxed Extended JSON to the letter, and what `json_util` says."""
    assert to_json(body) == text
    assert repr(json.loads(text)) == reference(body)


def test_names_in_a_dbref_are_only_names():
    """A field of a DBRef may have the name of an attribute that other values have."""
    inner = DBRef("c", 1, None, {"items": float("nan"), "__iter__": None, "scope": 3, "as_doc": 4, "binary": 5})
    text = to_json(encode({"a": DBRef("c", inner), "b": Code("f", {"x": inner})}))

    assert encode(loads(text)) == encode({"a": DBRef("c", inner), "b": Code("f", {"x": inner})})


def test_values_that_hold_values_may_be_nested_as_deep_as_others():
    """DBRefs in DBRefs are written and read up to the limit of levels."""
    value: object = float("nan")
    for _ in range(MAX_DEPTH - 1):
        value = DBRef("c", value)
    body = encode({"a": value, "b": None})

    assert encode(loads(to_json(body))) == body


@FEW
@given(values)
def test_dumps_writes_what_a_document_would_hold(value):
    """A value by itself has the text that it has in a document."""
    assert b'{"a":' + dumps(value) + b"}" == to_json(encode({"a": value}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"views": Int64(5), "a.b": Decimal128("1.50")}, b'{"views":5,"a.b":{"$numberDecimal":"1.50"}}'),
        ([1, None, True, "x"], b'[1,null,true,"x"]'),
        (float("nan"), b'{"$numberDouble":"NaN"}'),
        (None, b"null"),
        (UUID(UUID_TEXT), b'{"$binary":{"base64":"ABEiM0RVZneImaq7zN3u/w==","subType":"04"}}'),
        (datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), b'{"$date":"2020-01-01T00:00:00Z"}'),
        (Regex("a", "im"), b'{"$regularExpression":{"pattern":"a","options":"im"}}'),
        (Timestamp(1, 2), b'{"$timestamp":{"t":1,"i":2}}'),
        ([MinKey(), MaxKey()], b'[{"$minKey":1},{"$maxKey":1}]'),
    ],
)
def test_dumps_examples(value, text):
    """Native values of all sorts, inside a document or not, become relaxed Extended JSON."""
    assert dumps(value) == text


def test_dumps_and_to_json_take_the_deepest_document():
    """A document with as many levels as are allowed can be written by either way."""
    document = nested(MAX_DEPTH)

    assert dumps(document) == to_json(encode(document)) == orjson.dumps(document)


# Native values and BSON ---------------------------------------------------------------------------------


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


def test_what_looks_like_a_dbref_becomes_one_at_once():
    """The fields of a DBRef are put in order when they are first stored, not when they are next read."""
    body = encode({"a": {"$id": 1, "x": 2, "$ref": "c"}})

    assert body == bson.encode({"a": DBRef("c", 1, x=2)}) == encode(decode(body))


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


# What others have written -------------------------------------------------------------------------------

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


@pytest.mark.parametrize("canonical", [False, True])
def test_levels_that_others_may_have_stored(canonical):
    """MongoDB keeps up to 200 levels, all of which are shown; what is deeper is an error of ours."""
    assert to_json(bson.encode(nested(200, "x")), canonical=canonical) == orjson.dumps(nested(200, "x"))
    with pytest.raises(UnreadableDocumentError):
        to_json(bson.encode(nested(400)), canonical=canonical)


# Canonical JSON -----------------------------------------------------------------------------------------


@FEW
@given(documents)
def test_canonical_json_becomes_what_json_util_makes_of_it(document):
    """Canonical JSON is that of `json_util`."""
    body = encode(document)
    wanted = json_util.dumps(bson.decode(body, STANDARD), json_options=CANONICAL)
    assert json.loads(to_json(body, canonical=True)) == json.loads(wanted)


@FEW
@given(canonical_documents)
def test_canonical_json_keeps_every_type(document):
    """BSON is the same after a trip through canonical JSON: an int64 stays one, however small it is."""
    body = encode(document)
    assert encode(loads(to_json(body, canonical=True))) == body


# JSON text to native values -----------------------------------------------------------------------------


@FEW
@given(relaxed_documents)
def test_relaxed_json_keeps_what_it_can_tell_apart(document):
    """BSON is the same after a trip through relaxed JSON, unless it holds what relaxed JSON cannot tell apart."""
    body = encode(document)

    assert encode(loads(to_json(body))) == body


@FEW
@given(documents)
def test_relaxed_json_is_the_same_after_a_trip_through_bson(document):
    """JSON that this module wrote is written again from what it reads."""
    text = to_json(encode(document))

    assert to_json(encode(loads(text))) == text


@FEW
@given(canonical_documents)
def test_canonical_json_is_read_exactly(document):
    """Canonical JSON from `json_util` becomes the BSON that it was made of."""
    body = encode(document)
    text = json_util.dumps(bson.decode(body, STANDARD), json_options=CANONICAL)

    assert encode(loads(text.encode())) == body


@given(SCALARS["decimal128"])
def test_decimals_are_read_as_json_util_reads_them(value):
    """A decimal keeps its digits and its exponent, and is one value however its text came about."""
    text = json_util.dumps({"a": value}, json_options=CANONICAL)

    assert encode(loads(text.encode())) == bson.encode(json_util.loads(text))


@MORE
@given(common_dates)
def test_dates_are_read_as_json_util_reads_them(text):
    """A date in any form of ISO 8601 is the date that `json_util` reads, to the millisecond."""
    data = json.dumps({"a": {"$date": text}})

    assert encode(loads(data.encode())) == bson.encode(json_util.loads(data, json_options=RELAXED))


def test_every_millisecond_of_a_second_is_exact():
    """No fraction of a second is rounded, whether by the fast path or by the other."""
    for number in range(1_000):
        for zone in ("Z", "+00:00"):
            date = loads(b'{"$date":"2020-01-01T00:00:00.%03d%b"}' % (number, zone.encode()))
            assert date.microsecond == number * 1_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$oid":"' + OID + '"}', ObjectId(OID)),
        ('{"$date":"2020-01-01T00:00:00Z"}', datetime(2020, 1, 1, tzinfo=UTC)),
        ('{"$date":"2020-01-01T02:00:00.1230+0200"}', datetime(2020, 1, 1, 0, 0, 0, 123_000, UTC)),
        ('{"$date":5}', datetime(1970, 1, 1, 0, 0, 0, 5_000, UTC)),
        ('{"$date":{"$numberLong":"-1"}}', datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        ('{"$date":{"$numberLong":"253402300800000"}}', DatetimeMS(253_402_300_800_000)),
        ('{"$numberInt":"-2147483648"}', -(1 << 31)),
        ('{"$numberLong":"9223372036854775807"}', Int64((1 << 63) - 1)),
        ('{"$numberLong":"5"}', Int64(5)),
        ('{"$numberDouble":"-Infinity"}', -math.inf),
        ('{"$numberDouble":"1"}', 1.0),
        ('{"$numberDecimal":"1.50"}', Decimal128("1.50")),
        ('{"$binary":{"base64":"aGk=","subType":"00"}}', b"hi"),
        ('{"$binary":{"base64":"aGk=","subType":"80"}}', Binary(b"hi", 0x80)),
        ('{"$binary":"aGk=","$type":"05"}', Binary(b"hi", 5)),
        ('{"$type":5,"$binary":"aGk="}', Binary(b"hi", 5)),
        ('{"$binary":"aGk=","$type":"ffffff80"}', Binary(b"hi", 0x80)),
        ('{"$uuid":"' + UUID_TEXT + '"}', Binary(UUID(UUID_TEXT).bytes, 4)),
        ('{"$regularExpression":{"pattern":"a","options":"xi"}}', Regex("a", "ix")),
        ('{"$regex":"a","$options":"i"}', Regex("a", "i")),
        ('{"$regex":"a"}', Regex("a")),
        ('{"$timestamp":{"t":4294967295,"i":1}}', Timestamp(4_294_967_295, 1)),
        ('{"$minKey":1}', MinKey()),
        ('{"$maxKey":1}', MaxKey()),
        ('{"$code":"f"}', Code("f")),
        (
            '{"$scope":{"options":5,"x":{"$oid":"' + OID + '"}},"$code":"f"}',
            Code("f", {"options": 5, "x": ObjectId(OID)}),
        ),
        ('{"$symbol":"s"}', Symbol("s")),
        ('{"$undefined":true}', Undefined()),
        ('{"$ref":"c","$id":{"$oid":"' + OID + '"}}', DBRef("c", ObjectId(OID))),
        (
            '{"x":1,"$id":1,"$db":"d","$ref":"c","_extra":{"y":2}}',
            DBRef("c", 1, "d", {"x": 1, "_extra": {"y": 2}}),
        ),
        (
            '{"$ref":"c","$id":1,"id":2,"collection":3,"database":4}',
            DBRef("c", 1, None, {"id": 2, "collection": 3, "database": 4}),
        ),
        ('{"$dbPointer":{"$ref":"c","$id":{"$oid":"' + OID + '"}}}', DBPointer("c", ObjectId(OID))),
        ('{"\\u0024oid":"' + OID + '"}', ObjectId(OID)),
        ('{"a":1,"a":2}', {"a": 2}),
        ("18446744073709551615", 18_446_744_073_709_551_615),
        ("18446744073709551616", 18_446_744_073_709_551_616),
        ("-9223372036854775809", -9_223_372_036_854_775_809),
        ("[99999999999999999999, 0.00000000000000000000001]", [99_999_999_999_999_999_999, 1e-23]),
        ('"$oid"', "$oid"),
        ('{"a":"$oid"}', {"a": "$oid"}),
        ('{"a$":1,"a.b":2,"":3}', {"a$": 1, "a.b": 2, "": 3}),
        ("-0.0", -0.0),
    ],
)
def test_loads_examples(text, value):
    """Each form of each type is read, and nothing that only resembles one is changed."""
    found = loads(text.encode())

    assert found == value
    assert type(found) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)


MALFORMED = [
    b"",
    b" ",
    b"\xef\xbb\xbf{}",
    b'{"a":1}'.decode().encode("utf-16"),
    b"{",
    b"{'a':1}",
    b'{"a":1,}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":1e400}',
    b"01",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'{"\\udc00":1}',
    b'{"a":"\\ud800","b":99999999999999999999}',
    b"1" + b"0" * 1_000_000,
    b"[" + b"9" * 4_400 + b"]",
    b'{"a":1}{"b":2}',
    b'{"$oid":5}',
    b'{"$oid":null}',
    b'{"$oid":"x"}',
    b'{"$oid":"5f43a1b2 3d4e5f60123456 "}',
    b'{"$oid":{"$code":"5f43a1b2c3d4e5f601234567"}}',
    b'{"$date":"garbage"}',
    b'{"$date":""}',
    b'{"$date":null}',
    b'{"$date":true}',
    b'{"$date":1.5}',
    b'{"$date":1e300}',
    b'{"$date":{"$numberDouble":"NaN"}}',
    b'{"$date":9223372036854775808}',
    b'{"$date":99999999999999999999}',
    b'{"$date":"2020-02-30T00:00:00Z"}',
    b'{"$date":"2020-01-01T00:00:60Z"}',
    b'{"$date":"0000-01-01T00:00:00Z"}',
    b'{"$date":"0001-01-01T00:00:00+01:00"}',
    b'{"$date":"2020-01-01T00:00:00.9999Z"}',
    b'{"$date":"2020-01-01T00:00:00+99:99"}',
    b'{"$date":"2020-01-01T00:00:00"}',
    '{"$date":"\uff12020-01-01T00:00:00Z"}'.encode(),
    b'{"$numberInt":"99999999999"}',
    b'{"$numberInt":"2147483648"}',
    b'{"$numberInt":5}',
    b'{"$numberInt":"1_0"}',
    b'{"$numberInt":"%b"}' % (b"9" * 5_000),
    b'{"$numberLong":"9223372036854775808"}',
    b'{"$numberLong":"%b"}' % (b"9" * 1_000_000),
    b'{"$numberLong":5.7}',
    b'{"$numberLong":null}',
    b'{"$numberDouble":"x"}',
    b'{"$numberDouble":"1e400"}',
    b'{"$numberDouble":1}',
    b'{"$numberDouble":"1_0"}',
    b'{"$numberDouble":" 1"}',
    b'{"$numberDouble":"inf"}',
    '{"$numberDouble":"\u0661"}'.encode(),
    b'{"$numberDecimal":"x"}',
    b'{"$numberDecimal":"1E6145"}',
    b'{"$numberDecimal":"12345678901234567890123456789012345"}',
    b'{"$numberDecimal":1}',
    b'{"$numberDecimal":"1_0"}',
    b'{"$numberDecimal":" 1"}',
    '{"$numberDecimal":"\uff11"}'.encode(),
    b'{"$binary":{"base64":"!!","subType":"zz"}}',
    b'{"$binary":{"base64":"!!","subType":"00"}}',
    b'{"$binary":{"base64":"aGk","subType":"00"}}',
    b'{"$binary":{"base64":"_-==","subType":"00"}}',
    b'{"$binary":{"base64":"aGl=","subType":"00"}}',
    b'{"$binary":{"base64":"aGk=\\n","subType":"00"}}',
    b'{"$binary":"aGk=","$type":"ffffff05"}',
    b'{"$binary":{"base64":"aGk=","subType":"-1"}}',
    b'{"$binary":{"base64":"aGk=","subType":"100"}}',
    b'{"$binary":{"base64":"aGk=","subType":0}}',
    b'{"$binary":{"base64":"aGk=","subType":"00","x":1}}',
    b'{"$binary":{"base64":"aGk="}}',
    b'{"$binary":[]}',
    b'{"$binary":"aGk="}',
    b'{"$binary":"!!","$type":"00"}',
    b'{"$binary":"aGk=","$type":-1}',
    b'{"$binary":"aGk=","$type":null}',
    b'{"$uuid":"x"}',
    b'{"$uuid":"7_ffd264-44b3-4c69-90e8-e7d1dfc035d4"}',
    b'{"$uuid":"73ff-d26444b-34c6-990e8e-7d1dfc035d4"}',
    b'{"$uuid":"{73ffd264-44b3-4c69-90e8-e7d1dfc035d4}"}',
    b'{"$uuid":"73ffd26444b34c6990e8e7d1dfc035d4"}',
    b'{"$uuid":5}',
    b'{"$regularExpression":"ab"}',
    b'{"$regularExpression":{"pattern":"a"}}',
    b'{"$regularExpression":{"pattern":"a","options":"i","x":1}}',
    b'{"$regularExpression":{"pattern":1,"options":""}}',
    b'{"$regularExpression":{"pattern":"a","options":"i\\u0000"}}',
    b'{"$regularExpression":{"pattern":"a","options":"g"}}',
    b'{"$regularExpression":{"pattern":"a","options":"ii"}}',
    b'{"$regularExpression":{"pattern":"a","options":null}}',
    b'{"$regex":"a","$options":5}',
    b'{"$timestamp":{"t":-1,"i":0}}',
    b'{"$timestamp":{"t":4294967296,"i":0}}',
    b'{"$timestamp":{"t":"1","i":0}}',
    b'{"$timestamp":{"t":1}}',
    b'{"$timestamp":{"t":true,"i":0}}',
    b'{"$timestamp":{"t":1.0,"i":0}}',
    b'{"$timestamp":5}',
    b'{"$minKey":2}',
    b'{"$minKey":true}',
    b'{"$minKey":1.0}',
    b'{"$maxKey":"1"}',
    b'{"$code":1}',
    b'{"$code":"f","$scope":5}',
    b'{"$code":"f","$scope":null}',
    b'{"$code":"f","$scope":{"$oid":"5f43a1b2c3d4e5f601234567"}}',
    b'{"$symbol":5}',
    b'{"$undefined":{"x":1}}',
    b'{"$dbPointer":5}',
    b'{"$dbPointer":{"$ref":"c","$id":5}}',
]

INVALID = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 1_000_000,
    b"[" * 1_000 + b"]" * 1_000,
    b"[" * 101 + b"]" * 101,
    b'{"a":' * 105 + b"1" + b"}" * 105,
    b'{"a":' * 105 + b"99999999999999999999" + b"}" * 105,
    b'{"$unknown":1}',
    b'{"$":1}',
    b'{"a":[{"b":{"$set":{}}}]}',
    b'{"a":1,"$b":2}',
    b'{"$oid":"5f43a1b2c3d4e5f601234567","x":1}',
    b'{"x":1,"$oid":"5f43a1b2c3d4e5f601234567"}',
    b'{"$date":"2020-01-01T00:00:00Z","$numberInt":"1"}',
    b'{"$numberLong":"5","x":1}',
    b'{"$undefined":true,"x":1}',
    b'{"$code":"f","x":1}',
    b'{"$code":"f","$scope":{},"x":1}',
    b'{"$regex":"a","$options":"","x":1}',
    b'{"$regex":5}',
    b'{"$regex":5,"$options":""}',
    b'{"$regex":{"$regularExpression":{"pattern":"a","options":""}},"$options":"i"}',
    b'{"$options":"i"}',
    b'{"$binary":{"base64":"","subType":"00"},"x":1}',
    b'{"$binary":"","$type":"00","x":1}',
    b'{"$minKey":1,"$maxKey":1}',
    b'{"$scope":{}}',
    b'{"$id":1}',
    b'{"$ref":"c"}',
    b'{"$ref":5}',
    b'{"$ref":5,"$id":1}',
    b'{"$ref":"c","x":1}',
    b'{"$ref":"c","$id":1,"$db":5}',
    b'{"$ref":"c","$id":1,"$db":null}',
    b'{"$ref":"c","$id":1,"$x":2}',
    b'{"$ref":"c","$id":1,"$oid":"5f43a1b2c3d4e5f601234567"}',
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data)[:60])
def test_malformed_json(data):
    """What is not JSON, or a wrapper with a wrong value, is a MalformedDocumentError with a short message."""
    with pytest.raises(MalformedDocumentError) as caught:
        loads(data)

    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("data", INVALID, ids=lambda data: repr(data)[:60])
def test_invalid_documents(data):
    """Names that make no type, fields beside a wrapper and too many levels are an InvalidDocumentError."""
    with pytest.raises(InvalidDocumentError) as caught:
        loads(data)

    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":9223372036854775808}',
        b'{"a":99999999999999999999}',
        b'{"a\\u0000b":1}',
        b'{"a":{"$regularExpression":{"pattern":"a\\u0000b","options":""}}}',
        b'{"a":{"$ref":"c","$id":1,"x\\u0000":2}}',
        b'{"a":{"$code":"f","$scope":' + b'{"a":' * 100 + b"1" + b"}" * 102,
    ],
)
def test_what_is_json_but_not_bson(data):
    """What JSON can say and BSON cannot hold is an InvalidDocumentError at the latest when it is encoded."""
    with pytest.raises(InvalidDocumentError):
        encode(loads(data))


@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1])
def test_wrappers_do_not_count_as_levels(levels):
    """A document of as many levels as are allowed may have wrapped values in its last one."""
    data = b'{"a":' * levels + b'{"b":{"$date":{"$numberLong":"5"}}}' + b"}" * levels

    assert encode(loads(data)) == bson.encode(nested(levels, {"b": DatetimeMS(5)}))


def test_an_empty_object_or_array_is_a_level():
    """The limit holds for levels that have nothing in them."""
    assert loads(b'{"a":' * 99 + b"[]" + b"}" * 99) == nested(99, [])
    with pytest.raises(InvalidDocumentError):
        loads(b'{"a":' * 100 + b"[]" + b"}" * 100)
    with pytest.raises(InvalidDocumentError):
        encode(nested(100, []))


def test_convert_takes_parts_of_what_was_parsed():
    """Parsing first and converting parts later is the same as loading, and leaves the parsed tree alone."""
    data = b'[{"doc":{"a":{"$binary":"aGk=","$type":5},"b":[{"$ref":"c","$id":{"$oid":"%b"}}]}}]' % OID.encode()
    tree = parse(data)

    assert convert(tree[0]["doc"]) == loads(data)[0]["doc"]
    assert tree == json.loads(data)
    assert [convert(value) for value in (5, "x", None, 1.5)] == [5, "x", None, 1.5]


def test_convert_refuses_a_tree_of_any_depth():
    """A tree that did not come from `parse` and is too deep to walk is refused like any other."""
    with pytest.raises(InvalidDocumentError):
        convert(nested(10_000))


@MORE
@given(wrapper_like_trees)
def test_nothing_else_is_ever_raised(tree):
    """Whatever stands in place of a wrapper is read or is one of two errors; what is read can be written."""
    try:
        body = encode({"a": loads(json.dumps(tree).encode())})
    except (MalformedDocumentError, InvalidDocumentError):
        return

    assert encode(decode(body)) == body
    text = to_json(body)
    if not any(name in text for name in (b"$symbol", b"$undefined", b"$dbPointer")):
        assert repr(json.loads(text)) == reference(body)


@MORE
@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,$oidate019eE.-+\\u \0', max_size=40).map(str.encode))
def test_no_bytes_raise_anything_else(data):
    """Whatever bytes a client sends are read or are one of two errors."""
    try:
        encode({"a": loads(data)})
    except (MalformedDocumentError, InvalidDocumentError):
        return


@given(st.integers(-(10**30), 10**30))
def test_integers_are_exact_or_refused(number):
    """An integer is stored as it is written, or refused: it is never rounded."""
    assert loads(b'{"a":%d}' % number) == {"a": number}
    if -(1 << 63) <= number < 1 << 63:
        assert decode(encode({"a": number})) == {"a": number}
    else:
        with pytest.raises(InvalidDocumentError):
            encode({"a": number})


@pytest.mark.parametrize("digits", [18, 19, 20, 21, 40])
@pytest.mark.parametrize("start", range(40))
def test_a_long_integer_is_exact_wherever_it_stands(start, digits):
    """Each place in a text is looked at, whatever stands before it."""
    number = -(int("9876543210" * 5) // 10 ** (50 - digits))  # a negative one is beyond 64 bits from 19 digits on
    assert [" " * start, number] == loads(json.dumps([" " * start, number]).encode())


@pytest.mark.parametrize("name", ["$oid", r"\u0024oid", r"\u0024o\u0069d"])
@pytest.mark.parametrize("before", ["", "$", "\\\\", '\\"'])
def test_a_wrapper_is_seen_however_it_is_written(before, name):
    """A name that begins with a dollar, spelt out or not, makes a value of its own type."""
    text = f'{{"t":"{before}","a":{{"{name}":"5f43a1b2c3d4e5f601234567"}}}}'.encode()

    assert may_have_wrappers(text)
    assert ObjectId("5f43a1b2c3d4e5f601234567") == loads(text)["a"]


def test_a_test_operation_can_compare_what_was_stored():
    """What is loaded from JSON equals what is decoded from BSON, so that a patch can test for it."""
    text = (
        b'{"a":{"$date":"2020-01-01T00:00:00.123Z"},"b":{"$binary":{"base64":"aGk=","subType":"00"}},'
        b'"c":{"$uuid":"%b"},"d":{"$numberDecimal":"1.5"},"e":{"$date":{"$numberLong":"-99999999999999"}}}'
    ) % UUID_TEXT.encode()

    assert decode(encode(loads(text))) == loads(text)


@given(st.recursive(st.text(alphabet='[]{}"\\ a\n'), lambda inner: st.lists(inner, max_size=4), max_leaves=30))
def test_objects_and_arrays_are_counted_outside_of_strings(value):
    """Objects and arrays in JSON text are counted without reading it, whatever its strings have in them."""

    def count(one: object) -> int:
        return 1 + sum(map(count, one)) if isinstance(one, list) else 0

    text = json.dumps({"a": value}).encode()
    number = 1 + count(value)
    assert (True, False) == (holds_more(text, number - 1), holds_more(text, number))


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


def test_quotes_and_brackets_are_counted_a_slice_at_a_time():
    """A text of quotes and brackets alone makes no millions of objects, and slices change no count."""
    text = b'["[[[",' * 40_000 + b"{}"
    brackets = 40_000 + 1
    assert (True, False) == (holds_more(text, brackets - 1), holds_more(text, brackets))
