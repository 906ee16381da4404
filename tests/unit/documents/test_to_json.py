"""BSON to JSON text, relaxed and canonical: equal to `bson.json_util` in meaning, and exact both ways."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
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
    Regex,
    Timestamp,
    json_util,
)
from hypothesis import given

from tests.bson_strategies import (
    SCALARS,
    canonical_documents,
    codes_of,
    dbrefs_of,
    documents,
    relaxed_documents,
    scalars,
    values,
)
from tests.unit.documents.conftest import CANONICAL, FEW, STANDARD, UUID_TEXT, nested, raw, reference
from writebehind.documents.codec import (
    dumps,
    encode,
    loads,
    to_json,
)
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.errors import UnreadableDocumentError

HOLDING_TYPES = {"dbref": dbrefs_of(scalars), "code with scope": codes_of(scalars)}


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


@pytest.mark.parametrize("canonical", [False, True])
def test_nesting_that_others_may_have_stored(canonical):
    """MongoDB keeps up to 200 levels, all of which are shown; what is deeper is an error of ours."""
    assert to_json(bson.encode(nested(200, "x")), canonical=canonical) == orjson.dumps(nested(200, "x"))
    with pytest.raises(UnreadableDocumentError):
        to_json(bson.encode(nested(400)), canonical=canonical)


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
