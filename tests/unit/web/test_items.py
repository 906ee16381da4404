"""The items of a bulk: found wherever they stand, and never more of them held than is worked on."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from tests.unit.web.batches import peak_of
from writebehind.errors import DocumentTooLargeError, InvalidDocumentError, MalformedDocumentError, RequestError
from writebehind.flask import items
from writebehind.flask.items import read_items

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)
MIB = 1 << 20
#: More objects and arrays than any of these bodies has.
MANY = 1 << 40


def found(data: bytes, *, most: int = 1000, most_bytes: int = MIB) -> list[object]:
    """The items that are found, as JSON reads them."""
    items = read_items(data, most=most, most_bytes=most_bytes, most_holders=MANY)
    return [json.loads(data[start:end]) for start, end in items.spans]


@given(
    values=st.lists(VALUES, max_size=12),
    space=st.sampled_from(["", " ", "\n\t ", " " * 300]),
    ascii_only=st.booleans(),
)
def test_items_of_an_array(values, space, ascii_only):
    """Every item of an array is found, however its bytes fall into what is looked at at once."""
    text = f"{space}[{space}" + f"{space},{space}".join(json.dumps(one, ensure_ascii=ascii_only) for one in values)
    data = (text + f"{space}]{space}").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "ENVELOPE_BYTES", 100)
        longest = max([len(json.dumps(one, ensure_ascii=ascii_only).encode()) for one in values], default=0)
        assert values == found(data, most_bytes=longest)


@given(st.lists(st.sampled_from([*'[]{},:"\\ 1ax.-e', "null", "é", "[]", "{}", '"a"', '"op"', "\n"]), max_size=12))
def test_whatever_is_no_array(parts):
    """A text that begins an array is found to be one just where JSON says so."""
    text = "[" + "".join(parts)
    try:
        expected = orjson.loads(text)
    except ValueError:
        with pytest.raises(RequestError):
            found(text.encode())
    else:
        assert expected == found(text.encode())


@pytest.mark.parametrize(
    "text",
    ["[1 2]", "[1,]", "[,1]", "[", "[1", "[1,", '["a', "[1]]", "[1] x", "[NaN]", "[01]", "[Infinity]", "[1;2]"],
)
def test_an_array_that_is_none(text):
    """What is no JSON is refused before anything is done."""
    with pytest.raises(MalformedDocumentError):
        found(text.encode())


def test_an_item_in_great_depth():
    """Nesting that no document may have is refused, as deep as it is."""
    for depth in (200, 2_000, 500_000):
        data = b'[{"op":"put","id":"a","doc":' + b"[" * depth + b"]" * depth + b"}]"
        with pytest.raises((InvalidDocumentError, RequestEntityTooLarge)):
            raise next(iter(read_items(data, most=10, most_bytes=MIB, most_holders=MANY)))


@pytest.mark.parametrize(
    "data",
    [
        b"x\n" * MIB,
        b"0\n" * MIB,
        b"\n" * (2 * MIB) + b"0\n" * 2_000,
        b"[" + b"0," * MIB + b"0]",
        b"[" + b"{}," * MIB + b"{}]",
        b"[" + b"[]," * MIB + b"[]]",
    ],
    ids=["lines", "numbers", "empty lines", "an array", "objects", "arrays"],
)
def test_far_too_many_items(data):
    """Items are counted while they are found: those that are too many cost neither time nor memory."""

    def refused() -> None:
        with pytest.raises(RequestEntityTooLarge, match=r"more than (1000 items|4004 lines)"):
            found(data)

    assert peak_of(refused) < 10 * MIB


@pytest.mark.parametrize("inner", [b"[],", b"{},", b'"",', b"[[[[]]]],", b'{"a":{}},'])
def test_an_item_of_very_many_values(inner):
    """Only one item at a time becomes values, and only if it is no larger than a document may be."""
    small = b'{"op":"put","id":"a","doc":{"a":[' + inner * 500 + b"0]}}"
    data = b"[" + small + (b"," + small) * 50 + b"]"
    assert peak_of(lambda: read_items(data, most=1000, most_bytes=len(small), most_holders=MANY)) < MIB + 4 * len(
        data
    )
    large = b'[{"op":"put","id":"a","doc":{"a":[' + inner * MIB + b"0]}}]"

    def refused() -> None:
        with pytest.raises(RequestEntityTooLarge, match="an item takes more than"):
            found(large, most_bytes=100_000)

    assert peak_of(refused) < 40 * MIB


def test_a_long_line():
    """A line that is larger than a document may be is an error by itself, and never read."""
    line = b'{"op":"put","id":"a","doc":{"a":[' + b"[]," * MIB + b"0]}}"
    data = b"%b\n%b\n" % (line, b'{"op":"delete","id":"b"}')
    items = read_items(data, most=10, most_bytes=100_000, most_holders=MANY)
    [long, short] = items
    assert (2, True, "b") == (len(items), isinstance(long, DocumentTooLargeError), short.id)


@pytest.mark.parametrize("end", [b"", b',"text":"' + b"[{" * 20_000 + b'\\"[\\\\"'])
def test_objects_and_arrays_are_counted_before_they_are_made(end):
    """No item has more than a document can have, and no body more than a bulk; in strings there are none."""

    def body(count: int) -> bytes:
        return b'[{"op":"put","id":"a","doc":{"a":[' + b"[]," * count + b"0]" + end + b"}}]"

    def first(data: bytes, most_holders: int) -> object:
        return next(iter(read_items(data, most=10, most_bytes=100_000, most_holders=most_holders)))

    assert "a" == first(body(3_000), 3_004).id
    with pytest.raises(RequestEntityTooLarge, match="more than 3003 objects"):
        first(body(3_000), 3_003)
    with pytest.raises(DocumentTooLargeError, match="objects and arrays"):
        raise first(body(30_000), MANY)


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n", b" \n", b"\t\r\n"])
def test_blank_lines_are_counted_as_well(blank):
    """Or a body of nothing but those would be looked through to its end; some are passed over."""
    with pytest.raises(RequestEntityTooLarge, match="lines"):
        found(blank * 100, most=10)

    assert [{}] * 10 == found((b"{}\r\n" + blank) * 10, most=10)
