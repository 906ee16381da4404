"""Elements of a BSON document where they stand."""

from __future__ import annotations

import bson
import pytest
from hypothesis import given

from tests.bson_strategies import documents
from writebehind.documents.elements import without


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("a", {"b": {"a": 2, "c": 3}, "d": [{"a": 4}]}),
        ("b", {"a": 1, "d": [{"a": 4}]}),
        ("b.a", {"a": 1, "b": {"c": 3}, "d": [{"a": 4}]}),
        ("b.x", {"a": 1, "b": {"a": 2, "c": 3}, "d": [{"a": 4}]}),
        ("a.x", {"a": 1, "b": {"a": 2, "c": 3}, "d": [{"a": 4}]}),
        ("d.a", {"a": 1, "b": {"a": 2, "c": 3}, "d": [{"a": 4}]}),
    ],
)
def test_a_document_without_a_field(path, left):
    """The field alone is missing, wherever it stands; not in an array, and not in what is no document."""
    document = {"a": 1, "b": {"a": 2, "c": 3}, "d": [{"a": 4}]}

    assert left == bson.decode(without(bson.encode(document), path.encode().split(b".")))


@given(documents)
def test_the_other_fields_keep_their_bytes(document):
    """Whatever their types."""
    raw = bson.encode({**document, "gone": 1})

    assert bson.encode({name: value for name, value in document.items() if name != "gone"}) == without(
        raw, [b"gone"]
    )
