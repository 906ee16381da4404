"""The values of a shard key that a document's id holds."""

from __future__ import annotations

from uuid import UUID

import pytest
from bson import Decimal128, Int64, ObjectId

from writebehind.documents.ids import DocumentId
from writebehind.documents.shard_key import KeyPart, ShardKey, address, addresses
from writebehind.errors import InvalidDocumentError, InvalidIdError

TENANT = ShardKey(("tenant", "_id"), (KeyPart("tenant", "([^:]+):.*", "string"),))
REGION = ShardKey(("at.region",), (KeyPart("at.region", r"(-?\d+):.*", "int"),))
OID = "64b7f0c2a1d3e4f5a6b7c8d9"


def orders(*ids: str) -> list[DocumentId]:
    return [DocumentId.of("orders", one) for one in ids]


def test_the_filter_of_one_document():
    """A filter has the key where the id has it; where there is no key, or an id has none, only the id."""
    [acme, bare] = orders("acme:1", "acme")
    assert {"_id": "acme:1", "tenant": "acme"} == address(acme, TENANT)
    assert {"_id": "acme:1"} == address(acme, None)
    assert {"_id": "acme"} == address(bare, TENANT)


def test_the_filter_of_several_documents():
    """Each value of the key is there once; one id without them leaves them all out, so that none is missed."""
    several = orders("acme:1", "bolt:1", "acme:2")
    ids = {"$in": ["acme:1", "bolt:1", "acme:2"]}
    assert {"_id": ids, "tenant": {"$in": ["acme", "bolt"]}} == addresses(several, TENANT)
    assert {"_id": ids} == addresses(several, None)
    assert {"_id": {"$in": ["acme:1", "bare"]}} == addresses(orders("acme:1", "bare"), TENANT)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "7", "7"),
        ("int", "7", Int64(7)),
        ("int", "07", None),
        ("int", "x", None),
        ("objectid", OID, ObjectId(OID)),
        ("uuid", "6f1c0e9e-1d6b-4b8e-9d6a-0d3f3a5b7c11", UUID("6f1c0e9e-1d6b-4b8e-9d6a-0d3f3a5b7c11")),
        ("string", "", None),
    ],
)
def test_types_of_values(kind, text, value):
    """A value has the type of the setting; a text that is none of it is no value."""
    found = KeyPart("f", "(.*)", kind).value(text)
    assert (value if not isinstance(value, UUID) else DocumentId.of("", value).value) == found
    assert type(found) is type(value) or isinstance(value, UUID)


def test_fields_are_filled_in():
    """A document without the fields gets them, also within others, and what was given stays as it was."""
    [one] = orders("7:x")
    given = {"_id": "7:x", "at": {"city": "Ulm"}}
    assert {"_id": "7:x", "at": {"city": "Ulm", "region": 7}} == REGION.fill(given, one)
    assert {"_id": "7:x", "at": {"city": "Ulm"}} == given
    assert {"at": {"region": 7}} == REGION.fill({}, one)


@pytest.mark.parametrize("region", [7, 7.0, Int64(7), Decimal128("7")])
def test_numbers_that_are_equal_to_mongodb(region):
    """A number of another type may stand there, as MongoDB finds it by the same key."""
    [one] = orders("7:x")
    assert {"at": {"region": region}} == REGION.fill({"at": {"region": region}}, one)


@pytest.mark.parametrize(
    "at", [{"region": 8}, {"region": "7"}, {"region": None}, {"region": [7]}, [{"region": 7}], 1]
)
def test_another_value_is_refused(at):
    """A document cannot have another shard key than its id says."""
    [one] = orders("7:x")
    with pytest.raises(InvalidDocumentError, match=r"'at\.region' is part of the shard key"):
        REGION.fill({"at": at}, one)


def test_an_id_without_the_values():
    """An id that does not hold the key is refused in words that name the key."""
    [one] = orders("acme")
    with pytest.raises(InvalidIdError, match=r"'acme' .* shard key tenant, _id"):
        TENANT.check(one)
