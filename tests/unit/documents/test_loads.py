"""JSON text to native values: exact, equal to what `bson.json_util` reads, and refused beyond what BSON holds."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from uuid import UUID

import bson
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
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import (
    SCALARS,
    canonical_documents,
    common_dates,
)
from tests.unit.documents.conftest import CANONICAL, FEW, MORE, RELAXED, STANDARD, UUID_TEXT
from writebehind.documents.codec import (
    convert,
    decode,
    encode,
    loads,
    may_have_wrappers,
    parse,
)
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined
from writebehind.errors import InvalidDocumentError

OID = "5f43a1b2c3d4e5f601234567"


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


def test_convert_takes_parts_of_what_was_parsed():
    """Parsing first and converting parts later is the same as loading, and leaves the parsed tree alone."""
    data = b'[{"doc":{"a":{"$binary":"aGk=","$type":5},"b":[{"$ref":"c","$id":{"$oid":"%b"}}]}}]' % OID.encode()
    tree = parse(data)

    assert convert(tree[0]["doc"]) == loads(data)[0]["doc"]
    assert tree == json.loads(data)
    assert [convert(value) for value in (5, "x", None, 1.5)] == [5, "x", None, 1.5]


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
