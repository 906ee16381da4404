"""The version field of raw BSON: what goes in comes out, and no other byte changes."""

from __future__ import annotations

import struct

import bson
import pytest
from bson import Binary, Code, Int64, MaxKey, MinKey
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bson_strategies import INT32, INT64, documents, names, scalars, values
from tests.tiers import examples
from writebehind.documents import raw_bson
from writebehind.documents.elements import element
from writebehind.documents.raw_bson import VERSION_END, append_version, etag, first_element, split_version

# Documents of every type are slow to make up, and few make a difference here.
FEW = settings(max_examples=examples(40))
UNVERSIONED = documents.filter(lambda document: "_v" not in document)
OTHER_FIELDS = st.lists(st.tuples(names.filter(lambda name: name != "_v"), values), max_size=4)
VERSIONS = st.integers(0, VERSION_END - 1)


def _encoded(fields: list[tuple[str, object]]) -> bytes:
    """A document of fields in this order: `bson.encode` itself would move an `_id` to the front."""
    elements = b"".join(bson.encode({name: value})[4:-1] for name, value in fields)
    return struct.pack("<i", len(elements) + 5) + elements + b"\0"


def _raw(kind: int, value: bytes) -> bytes:
    """A document of one element `x` as it stands in BSON, for the types that `bson` no longer writes."""
    return struct.pack("<i", 8 + len(value)) + bytes([kind]) + b"x\0" + value + b"\0"


ELEMENTS = {
    "double": bson.encode({"x": 0.5}),
    "string": bson.encode({"x": "\x12_v\0"}),
    "document": bson.encode({"x": {"_v": Int64(5)}}),
    "array": bson.encode({"x": [{"_v": Int64(5)}, "_v"]}),
    "binary": bson.encode({"x": Binary(b"\x12_v\0" + bytes(9), 0x80)}),
    "old binary": bson.encode({"x": Binary(b"\x12_v\0", 2)}),
    "undefined": _raw(0x06, b""),
    "object id": bson.encode({"x": bson.ObjectId(b"\x12_v\0\x12_v\0\x12_v\0")}),
    "boolean": bson.encode({"x": True}),
    "date": bson.encode({"x": bson.DatetimeMS(-1)}),
    "null": bson.encode({"x": None}),
    "regular expression": bson.encode({"x": bson.Regex("_v", "i")}),
    "empty regular expression": bson.encode({"x": bson.Regex("", "")}),
    "db pointer": _raw(0x0C, struct.pack("<i", 3) + b"_v\0" + bytes(12)),
    "code": bson.encode({"x": Code("_v")}),
    "symbol": _raw(0x0E, struct.pack("<i", 3) + b"_v\0"),
    "code with scope": bson.encode({"x": Code("_v", {"_v": Int64(5)})}),
    "int32": bson.encode({"x": 5}),
    "timestamp": bson.encode({"x": bson.Timestamp(1, 2)}),
    "int64": bson.encode({"x": Int64(5)}),
    "decimal128": bson.encode({"x": bson.Decimal128("1.5")}),
    "min key": bson.encode({"x": MinKey()}),
    "max key": bson.encode({"x": MaxKey()}),
}


@FEW
@given(UNVERSIONED, VERSIONS)
def test_append_and_split_are_inverse(document, version):
    """What `append_version` made of a body and a version, `split_version` takes apart to the same two."""
    body = bson.encode(document)

    assert split_version(append_version(body, version)) == (body, version)


@FEW
@given(UNVERSIONED, VERSIONS)
def test_append_writes_what_bson_would(document, version):
    """A document with its version is what `bson` encodes with an int64 `_v` as the last field."""
    assert append_version(bson.encode(document), version) == bson.encode(document | {"_v": Int64(version)})


@FEW
@given(OTHER_FIELDS, OTHER_FIELDS, INT64)
def test_split_finds_the_version_anywhere(before, after, version):
    """A version is found in any place, and the other fields keep their bytes."""
    assert split_version(_encoded([*before, ("_v", Int64(version)), *after])) == (
        _encoded([*before, *after]),
        version if 0 <= version < VERSION_END else 0,
    )


@FEW
@given(UNVERSIONED)
@example({"a_v": Int64(5), "x_v": "_v", "_v2": 1, "_V": 2, "v": Int64(3), "_": 1})
@example({"a": {"_v": Int64(5)}, "b": [{"_v": Int64(6)}], "c": Code("_v", {"_v": Int64(7)}), "d": "\x12_v"})
@example({"a": Binary(b"\x12_v\0" + struct.pack("<q", 7))})
def test_split_leaves_what_has_no_version(document):
    """Without a top-level `_v` the document stays as it is, whatever names and values look like one."""
    body = bson.encode(document)

    assert split_version(body) == (body, 0)


@FEW
@given(scalars.filter(lambda value: not isinstance(value, int) or isinstance(value, bool)))
@example("5")
@example(True)
@example({"_v": Int64(5)})
@example(5.0)
def test_a_version_of_another_type_counts_as_none(value):
    """A `_v` that is no integer is taken out and means version 0."""
    assert split_version(bson.encode({"a": 1, "_v": value, "b": 2})) == (bson.encode({"a": 1, "b": 2}), 0)


@given(INT32)
def test_an_int32_is_a_version_too(version):
    """A `_v` that other hands wrote as int32 counts, unless it is negative."""
    assert split_version(bson.encode({"_v": version})) == (bson.encode({}), max(0, version))


@pytest.mark.parametrize("element", ELEMENTS.values(), ids=ELEMENTS.keys())
def test_every_element_type_is_walked_over(element):
    """Behind an element of any type of BSON the version is found, and the element keeps its bytes."""
    with_version = append_version(element, 77)

    assert bson.decode(with_version)["_v"] == 77
    assert split_version(with_version) == (element, 77)


def test_an_unknown_element_type_is_an_error():
    """A type that BSON does not know ends the walk with a ValueError instead of a guess."""
    with pytest.raises(ValueError, match="0x14"):
        split_version(append_version(_raw(0x14, b""), 1))


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken_apart(buffer):
    """What the driver hands over, which is a view of its buffer from 4,096 bytes on, becomes bytes."""
    body, version = split_version(buffer(append_version(bson.encode({"a": "x" * 5_000}), 7)))

    assert (bytes, bson.encode({"a": "x" * 5_000}), 7) == (type(body), body, version)
    assert type(split_version(buffer(body))[0]) is bytes


def test_the_empty_document():
    """An empty document takes a version and gives it back."""
    assert split_version(append_version(bson.encode({}), 1)) == (bson.encode({}), 1)
    assert split_version(bson.encode({})) == (bson.encode({}), 0)


@FEW
@given(UNVERSIONED, VERSIONS)
def test_the_driver_takes_it(document, version):
    """`RawBSONDocument`, which the driver sends, reads the version and every field."""
    any_date = CodecOptions(RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS)
    raw = RawBSONDocument(append_version(bson.encode(document), version), any_date)

    assert raw["_v"] == version
    assert set(raw) == {*document, "_v"}


@FEW
@given(documents, documents)
def test_etags_differ_as_bodies_do(one, other):
    """Two bodies have one ETag if they are the same bytes, and different ETags if not."""
    one, other = bson.encode(one), bson.encode(other)

    assert (etag(one) == etag(other)) == (one == other)


def test_an_etag_is_32_hexadecimal_digits_for_good():
    """The ETag of a body never changes, as it is kept in Redis and by clients."""
    assert etag(bson.encode({"a": 1})) == etag(bytes(bytearray(bson.encode({"a": 1}))))
    assert etag(b"") == "cae66941d9efbd404e4d88758ea67670"


@given(st.lists(st.tuples(names, values), min_size=1, max_size=3))
def test_the_first_element(fields):
    """It is cut off where it ends, whatever its type and whatever comes after it."""
    assert _encoded(fields[:1]) == first_element(_encoded(fields))


@pytest.mark.parametrize("document", ELEMENTS.values(), ids=ELEMENTS)
def test_the_first_element_of_each_type(document):
    """Also of the types that `bson` no longer writes."""
    assert document == first_element(append_version(document, 5))


def test_a_first_element_that_is_none():
    """A type that nobody knows has no known length."""
    with pytest.raises(ValueError, match="0x55"):
        first_element(_raw(0x55, b""))


def test_any_number_of_versions_is_taken_out_in_one_walk(monkeypatch):
    """Others may have put `_v` there a hundred thousand times: the document is not copied for each."""
    looks = []
    monkeypatch.setattr(raw_bson, "element", lambda *given: looks.append(1) or element(*given))
    fields = [("a", 1), *[("_v", n) for n in range(1, 100_000)], ("b", 2)]

    body, version = split_version(_encoded(fields))

    assert (bson.encode({"a": 1, "b": 2}), 1) == (body, version)
    assert 2 >= len(looks)
