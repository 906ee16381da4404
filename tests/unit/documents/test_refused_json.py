"""JSON text that is no document: one of two errors, each with a short message, whatever it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import wrapper_like_trees
from tests.unit.documents.conftest import MORE, nested, reference
from writebehind.documents.codec import (
    convert,
    decode,
    encode,
    loads,
    to_json,
)
from writebehind.errors import (
    InvalidDocumentError,
    MalformedDocumentError,
)

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
