"""Updates as JSON: operators around Extended JSON."""

from __future__ import annotations

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import documents
from tests.unit.documents.patching import MORE, json_values
from tests.unit.mql.updates.updating import updated
from writebehind.documents.codec import encode
from writebehind.errors import InvalidDocumentError, InvalidPatchError, MalformedDocumentError, RequestError
from writebehind.mql.updates.reading import loads
from writebehind.mql.updates.update import OPERATORS

OID = "5f43a1b2c3d4e5f601234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"$set": {"a": {"$oid": "5f43a1b2c3d4e5f601234567"}, "b": {"c": [{"$numberLong": "1"}]}}}',
            {"$set": {"a": ObjectId(OID), "b": {"c": [Int64(1)]}}},
        ),
        ('{"$inc": {"a": {"$numberDecimal": "1.5"}}}', {"$inc": {"a": Decimal128("1.5")}}),
        (
            '{"$push": {"a": {"$each": [{"$oid": "5f43a1b2c3d4e5f601234567"}], "$sort": {"x": 1}}}}',
            {"$push": {"a": {"$each": [ObjectId(OID)], "$sort": {"x": 1}}}},
        ),
        ('{"$push": {"a": {"$oid": "5f43a1b2c3d4e5f601234567"}}}', {"$push": {"a": ObjectId(OID)}}),
        (
            '{"$pull": {"a": {"$in": [{"$oid": "5f43a1b2c3d4e5f601234567"}]}}}',
            {"$pull": {"a": {"$in": [ObjectId(OID)]}}},
        ),
        ('{"$pull": {"a": {"x": {"$gte": {"$numberLong": "1"}}}}}', {"$pull": {"a": {"x": {"$gte": Int64(1)}}}}),
        (
            '{"$pull": {"a": {"$or": [{"x": 1}, {"y": {"$ne": null}}]}}}',
            {"$pull": {"a": {"$or": [{"x": 1}, {"y": {"$ne": None}}]}}},
        ),
        ("[1]", [1]),
    ],
)
def test_updates(text, expected):
    """Values become native ones, and operators stay where they may stand."""
    assert expected == loads(text.encode())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", MalformedDocumentError),
        ('{"$set": {"a": {"$oid": 1}}}', MalformedDocumentError),
        ('{"$set": {"a": {"$gt": 1}}}', InvalidDocumentError),
        ('{"$push": {"a": {"$each": [{"$each": []}]}}}', InvalidDocumentError),
        ('{"$pull": {"a": {"$elemMatch": {"x": 1}}}}', InvalidPatchError),
        ('{"$pull": {"a": {"x": {"$size": 1}}}}', InvalidPatchError),
    ],
)
def test_refused_json(text, error):
    """No value has a name that begins with `$`, and no condition an operator that is not offered."""
    with pytest.raises(error):
        loads(text.encode())


@MORE
@given(
    documents,
    st.dictionaries(
        st.sampled_from([*OPERATORS, "a"]),
        st.dictionaries(
            st.sampled_from(["a", "b", "a.b", "a.0", "", "_id", "$", "a.$id"]),
            json_values
            | st.dictionaries(
                st.sampled_from(["$each", "$sort", "$slice", "$gt", "$in", "$or", "x"]), json_values
            ),
            max_size=3,
        )
        | json_values,
        max_size=3,
    ),
)
def test_only_refusals(document, update):
    """Whatever is sent as an update gives a document or a refusal, and nothing else."""
    try:
        found = updated(document | {"a": [1, {"x": 2}]}, update)
    except RequestError:
        return
    assert encode(found)
