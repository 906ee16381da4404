"""Ids: each type has a text, an `_id` and a member that lead to each other, and refuses everything else."""

from __future__ import annotations

from enum import Enum
from uuid import UUID

import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import values
from writebehind.documents.ids import MAX_ID_BYTES, DocumentId, new_id, read_id
from writebehind.errors import InvalidIdError
from writebehind.settings.collection import CollectionSettings

PATTERN = CollectionSettings().id_pattern
ANYTHING = r"[\s\S]*"
KINDS = ["string", "objectid", "int", "uuid", "auto"]

HEX = "5f43a1b2c3d4e5f601234567"
OID = ObjectId(HEX)
UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"
A_UUID = UUID(UUID_TEXT)
BINARY_UUID = Binary.from_uuid(A_UUID, UuidRepresentation.STANDARD)
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


def document_of(given: object, kind: str, pattern: str = PATTERN) -> DocumentId:
    return DocumentId.of("c", read_id(given, kind, pattern))


@pytest.mark.parametrize(
    ("kind", "text", "value", "member"),
    [
        ("string", "ada", "ada", "c/s:ada"),
        ("string", HEX, HEX, f"c/s:{HEX}"),
        ("string", "5", "5", "c/s:5"),
        ("string", "a:b", "a:b", "c/s:a:b"),
        ("string", "~a.b@c+d=e,f|g-h_i", "~a.b@c+d=e,f|g-h_i", "c/s:~a.b@c+d=e,f|g-h_i"),
        ("string", "x" * MAX_ID_BYTES, "x" * MAX_ID_BYTES, "c/s:" + "x" * MAX_ID_BYTES),
        ("objectid", HEX, OID, f"c/o:{HEX}"),
        ("auto", HEX, OID, f"c/o:{HEX}"),
        ("auto", HEX[:-1], HEX[:-1], f"c/s:{HEX[:-1]}"),
        ("auto", "ada", "ada", "c/s:ada"),
        ("int", "0", Int64(0), "c/i:0"),
        ("int", "-7", Int64(-7), "c/i:-7"),
        ("int", str(INT64_MAX), Int64(INT64_MAX), f"c/i:{INT64_MAX}"),
        ("int", str(INT64_MIN), Int64(INT64_MIN), f"c/i:{INT64_MIN}"),
        ("uuid", UUID_TEXT, BINARY_UUID, f"c/u:{UUID_TEXT}"),
    ],
)
def test_text_to_member_and_back(kind, text, value, member):
    """A text gives one `_id` of the collection's type and one member, and both lead back to the text."""
    document = document_of(text, kind)
    assert ("c", value, text, member) == (document.collection, document.value, document.text, document.member)
    assert type(value) is type(document.value)
    assert document == DocumentId.from_member(member)


@pytest.mark.parametrize(
    ("kind", "native", "text"),
    [
        ("objectid", OID, HEX),
        ("auto", OID, HEX),
        ("int", 5, "5"),
        ("int", Int64(5), "5"),
        ("int", 5.0, "5"),
        ("int", -0.0, "0"),
        ("int", Decimal128("5.00"), "5"),
        ("int", Decimal128("9223372036854775807"), str(INT64_MAX)),
        ("uuid", A_UUID, UUID_TEXT),
        ("uuid", BINARY_UUID, UUID_TEXT),
        ("string", "ada", "ada"),
    ],
)
def test_native_ids_are_the_same_document_as_their_text(kind, native, text):
    """A native id and its text name the same document."""
    assert document_of(text, kind) == document_of(native, kind)


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        ("objectid", HEX.upper(), HEX),
        ("auto", HEX.upper(), HEX),
        ("uuid", UUID_TEXT.upper(), UUID_TEXT),
    ],
)
def test_hexadecimal_case_does_not_make_another_document(kind, text, canonical):
    """Upper-case digits name the document whose canonical text has lower-case ones."""
    assert document_of(canonical, kind) == document_of(text, kind)
    assert canonical == document_of(text, kind).text


REFUSED = [
    *[
        ("string", text)
        for text in ("", "../x", "..", ".x", "a/b", "a b", " a", "a\n", "a\0b", "é", "\u0663", "$where")
    ],
    *[
        ("string", text)
        for text in ("x" * 2000, "x" * (MAX_ID_BYTES + 1), "\ud800", "a?b", "a#b", "a%2Fb", "a\\b")
    ],
    *[("auto", text) for text in ("", "../x", "é", "$where", HEX + "/")],
    *[
        ("objectid", text)
        for text in ("", HEX[:-1], HEX + "0", "g" * 24, "\u0663" * 24, HEX + "\n", " " + HEX[1:])
    ],
    *[
        ("int", text)
        for text in ("", "01", "+1", "-0", "1.0", "1e3", " 1", "1\n", "1_0", "0x1", "\u0663", "\u00b2", "--1", "-")
    ],
    *[("int", text) for text in (str(INT64_MAX + 1), str(INT64_MIN - 1), "9" * 20, "9" * 5000)],
    *[
        ("uuid", text)
        for text in ("", "ada", UUID_TEXT[:-1], UUID_TEXT + "0", "{" + UUID_TEXT + "}", UUID_TEXT + "\n")
    ],
    *[("uuid", text) for text in (UUID_TEXT.replace("-", ""), "urn:uuid:" + UUID_TEXT, "+" + UUID_TEXT[1:])],
    *[
        ("uuid", text)
        for text in ("\u0661" * 32, "0x" + "1" * 30, "1_" * 15 + "11", UUID_TEXT.replace("0", "\u0660"))
    ],
]


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_refused_texts(kind, text):
    """A text that is not of the collection's id type is refused."""
    with pytest.raises(InvalidIdError):
        read_id(text, kind, PATTERN)


@pytest.mark.parametrize("text", ["\ud800", "é" * (MAX_ID_BYTES // 2 + 1)])
def test_no_pattern_permits_what_cannot_be_a_key(text):
    """Lone surrogates and more bytes than the limit are refused whatever the pattern says."""
    with pytest.raises(InvalidIdError):
        read_id(text, "string", ANYTHING)


@pytest.mark.parametrize(
    ("kind", "native"),
    [
        *[
            ("string", native)
            for native in (5, 1.0, True, None, OID, A_UUID, b"ada", ["a"], {"a": 1}, Code("ada"))
        ],
        *[("objectid", native) for native in (5, None, A_UUID, OID.binary, Code(HEX))],
        *[("auto", native) for native in (5, None, A_UUID, Code("ada"))],
        *[("int", native) for native in (True, False, None, OID, INT64_MAX + 1, INT64_MIN - 1, 10**30)],
        *[("int", native) for native in (1.5, float(1 << 63), float("nan"), float("inf"), 1e300, "1.0")],
        *[("int", Decimal128(native)) for native in ("1.5", "NaN", "sNaN", "Infinity", "1E+6144", "1E-6176")],
        *[("uuid", native) for native in (5, None, OID, A_UUID.bytes, Binary(A_UUID.bytes, 3), Binary(b"hi", 4))],
    ],
)
def test_refused_natives(kind, native):
    """A value of another BSON type than the collection's ids is refused."""
    with pytest.raises(InvalidIdError):
        read_id(native, kind, ANYTHING)


@given(st.sampled_from(KINDS), st.text() | values, st.sampled_from([PATTERN, ANYTHING]))
def test_anything_is_an_id_or_refused(kind, anything, pattern):
    """Whatever is given is refused as an id, or its document has a text and a member that lead back to it."""
    try:
        document = document_of(anything, kind, pattern)
    except InvalidIdError:
        return
    assert document == document_of(document.text, kind, pattern)
    assert document == DocumentId.from_member(document.member)


@given(st.integers(INT64_MIN, INT64_MAX))
def test_integers_have_one_text(number):
    """Every 64-bit integer is the id of exactly the document whose text is its decimal form."""
    assert str(number) == document_of(number, "int").text
    assert document_of(number, "int") == document_of(str(number), "int")


@pytest.mark.parametrize(("kind", "expected"), [("string", str), ("objectid", ObjectId), ("auto", ObjectId)])
def test_generated_ids(kind, expected):
    """A generated id is of the collection's type, and no two are the same."""
    first, second = new_id(kind), new_id(kind)
    assert (expected, expected) == (type(first), type(second))
    assert first != second
    assert first == read_id(first, kind, PATTERN)


def test_generated_uuid():
    """A generated UUID is a random one of version 4."""
    assert 4 == new_id("uuid").version


def test_integers_are_not_generated():
    """Ids of type int cannot be made up."""
    with pytest.raises(InvalidIdError, match="not generated"):
        new_id("int")


class Name(str, Enum):  # noqa: UP042 - a StrEnum formats as its value
    """A text to BSON, which formats as something else."""

    ADA = "ada"


class Number(int, Enum):
    """A number to BSON, which formats as something else."""

    ONE = 1


class Shown:
    """Shows something else than it holds."""

    def __str__(self) -> str:
        return "else"

    def __format__(self, spec: str) -> str:
        return "else"


class ShownText(Shown, str):
    """A text."""

    __slots__ = ()


class ShownNumber(Shown, int):
    """A number."""


class ShownObjectId(Shown, ObjectId):
    """An ObjectId."""


class ShownUuid(Shown, UUID):
    """A UUID."""


@pytest.mark.parametrize(
    ("kind", "given", "plain"),
    [
        ("string", Name.ADA, "ada"),
        ("auto", Name.ADA, "ada"),
        ("string", ShownText("ada"), "ada"),
        ("int", Number.ONE, 1),
        ("int", ShownNumber(1), 1),
        ("objectid", ShownObjectId(HEX), OID),
        ("uuid", ShownUuid(UUID_TEXT), A_UUID),
    ],
)
def test_an_id_is_what_it_holds(kind, given, plain):
    """A subclass of an id's type, such as an enum, names the document of what it holds, not of what it shows."""
    document = document_of(given, kind)
    assert document_of(plain, kind) == document
    assert type(document.text) is str
    assert type(document_of(plain, kind).value) is type(document.value)


@pytest.mark.parametrize(
    "member",
    [
        *("", "c", "c/", "/s:ada", "c/x:1", "c/s", "c/o:zz", f"c/o:{HEX.upper()}", "c/u:zz", "c/i:zz", "c/i:"),
        *(
            f"c/u:{{{UUID_TEXT}}}",
            f"c/u:{UUID_TEXT.upper()}",
            "c/i: 5",
            "c/i:05",
            "c/i:-0",
            "c/i:1_0",
            "c/i:\u0663",
        ),
        *(f"c/i:{INT64_MAX + 1}", "c/i:" + "9" * 5_000),
    ],
)
def test_what_is_no_member(member):
    """A text that no document has as its member is refused, also where it could be read as the id of one."""
    with pytest.raises(ValueError, match="is not a member"):
        DocumentId.from_member(member)


def test_a_string_and_an_objectid_of_the_same_text_differ():
    """Ids of different types that have the same text are different documents."""
    assert document_of(HEX, "string") != document_of(HEX, "objectid")


@pytest.mark.parametrize(
    ("stored", "member"),
    [
        (7.0, "c/i:7"),
        (-0.0, "c/i:0"),
        (float(INT64_MIN), f"c/i:{INT64_MIN}"),
        (7.5, None),
        (float(1 << 63), None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal128("7"), "c/i:7"),
        (Decimal128("7E+0"), "c/i:7"),
        (Decimal128("70E-1"), "c/i:7"),
        (Decimal128("-0"), "c/i:0"),
        (Decimal128("7.5"), None),
        (Decimal128("sNaN"), None),
        (Decimal128("9223372036854775808"), None),
        (Decimal128("1E+6144"), None),
        (True, None),
    ],
)
def test_whole_numbers_that_are_stored_as_other_types(stored, member):
    """To MongoDB they are the same id as the integer, and JavaScript writes no other numbers than doubles."""
    found = DocumentId.stored("c", stored)
    assert member == (found and found.member)
