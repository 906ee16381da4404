"""Statements as bytes: the same as the driver makes of objects."""

from __future__ import annotations

from uuid import UUID

import bson
import pytest
from bson import ObjectId

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId, Id
from writebehind.mongodb.outcomes import Write, operation
from writebehind.mongodb.update_command import id_of, statement


@pytest.mark.parametrize(
    "value", ["ada", "", "Zoë\0", "x" * 512, 5, -(2**63), ObjectId(b"123456789012"), UUID(int=7)], ids=repr
)
@pytest.mark.parametrize("version", [0, 1_700_000_000_000_000, (1 << 52) - 1])
def test_a_statement_is_what_the_driver_would_send(value: Id, version: int) -> None:
    """Filter, guard and document, byte for byte."""
    body = bson.encode({"_id": "whatever", "text": "Ada", "list": [1, {"a": None}]})
    write = Write(DocumentId.of("users", value), Entry.loaded(body, version))
    expected = operation(write, None)

    sent = bson.encode({"q": expected._filter, "u": expected._doc, "upsert": True})

    assert sent == statement(id_of(write.id.value), version.to_bytes(8, "little"), body).raw
