"""Values that documents are looked up by: their types, equal numbers, and what cannot be asked."""

from __future__ import annotations

from uuid import uuid4

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from tests.integration.conftest import flush_all
from tests.integration.unique_fields.conftest import lasting, name_of
from writebehind import Settings
from writebehind.errors import RequestError
from writebehind.querying.unique_fields import aliases_of


def test_what_cannot_be_asked(users):
    """Other fields, and values of other types."""
    with pytest.raises(RequestError, match=r"fields: username, number, address\.city"):
        users.look_up("name", "ada")
    for number in ("x", "1.5", ""):
        with pytest.raises(RequestError, match="type int"):
            users.look_up("number", number)


def test_a_document_with_a_date_that_python_cannot_hold(users):
    """It is written and found, as what it can be looked up by is another field."""
    written = {"username": "ada", "born": DatetimeMS(253_402_300_800_000)}
    users.put("u1", written)
    assert "u1" == name_of(users, "ada")


def test_aliases_of_a_document():
    """Every value of the right type at a listed field, or below it, has an alias; others have none."""
    oid, uuid = ObjectId(), uuid4()
    kinds = {"s": "string", "i": "int", "o": "objectid", "u": "uuid", "a.b": "string"}
    document = {"s": "x y", "i": 5, "o": oid, "u": Binary.from_uuid(uuid), "a": {"b": "é"}}
    names = [alias.name for alias in aliases_of("c", bson.encode(document), kinds)]
    assert ["c/s=s:x y", "c/i=i:5", f"c/o=o:{oid}", f"c/u=u:{uuid}", "c/a.b=s:é"] == names
    wrong = {"s": 5, "i": True, "o": "x", "u": b"x", "a": [{"b": "x"}]}
    assert [] == aliases_of("c", bson.encode(wrong), kinds)
    assert [] == aliases_of("c", bson.encode({"s": "", "a": None}), kinds)
    assert [] == aliases_of("c", bson.encode({"s": "x" * 513}), kinds)
    assert 1 == len(aliases_of("c", bson.encode({"s": "x" * 512}), kinds))
    no_text = bson.encode({"s": "abcd"}).replace(b"abcd", b"ab\xff\xfe")
    assert [] == aliases_of("c", no_text, kinds)


EQUAL = [42, Int64(42), 42.0, Decimal128("42"), Decimal128("4.20E+1")]


def test_numbers_that_are_equal():
    """A number has one alias, whatever its type; one that no 64-bit integer is equal to has none."""
    kinds = {"i": "int"}
    for equal, name in ((EQUAL, "c/i=i:42"), ([0, 0.0, -0.0, Decimal128("-0")], "c/i=i:0")):
        assert {name} == {alias.name for one in equal for alias in aliases_of("c", bson.encode({"i": one}), kinds)}
    for one in (
        42.5,
        float("nan"),
        float("inf"),
        float(1 << 63),
        Decimal128("NaN"),
        Decimal128("1E+30"),
        True,
        "42",
    ):
        assert [] == aliases_of("c", bson.encode({"i": one}), kinds)


@pytest.mark.parametrize("number", EQUAL)
def test_a_number_is_found_by_one_that_is_equal(pipeline, users, stored, number):
    """Whether MongoDB alone has it, or it is pending, or was written and is settled."""
    stored.insert_one({"_id": "u1", "number": number})
    assert "u1" == users.look_up("number", "42")[0].text
    users.put("u2", {"number": number})
    assert "u2" == users.look_up("number", 42.0)[0].text
    users.put("u2", {"number": 43})
    assert "u1" == users.look_up("number", Decimal128("42"))[0].text
    users.put("u1", {"number": number, "name": "Ada"})
    flush_all(pipeline)
    assert [] == lasting(pipeline)
    assert "u1" == users.look_up("number", "42")[0].text


@pytest.mark.parametrize("field", ["", "_id", "a..b", "$x", "a.$b", ".a"])
def test_wrong_fields(settings, field):
    """Settings that could never work are refused at the start."""
    with pytest.raises(ValueError, match="lookup"):
        Settings.model_validate(settings.model_dump() | {"collections": {"users": {"lookup": {field: "string"}}}})


def test_a_value_that_several_documents_have_in_mongodb(pipeline, users, stored):
    """Without the unique index: the one is found that has the value as it was last acknowledged."""
    for name in ("a", "b", "c"):
        stored.insert_one({"_id": name, "username": "ada"})
    users.put("a", {})
    users.put("b", {"username": "bob"})

    assert users.id("c") == users.look_up("username", "ada")[0]
    users.delete("c")
    assert users.look_up("username", "ada")[0] is None
