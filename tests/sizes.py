"""Sizes of documents around every threshold that something on the way changes its ways at."""

from __future__ import annotations

from typing import Any

import bson

from writebehind import Settings

#: From here on PyMongo hands over a `memoryview` in place of bytes.
DRIVER_VIEW = 4_096
#: What one TLS record holds, and where buffers of sockets begin to be filled more than once.
TLS_RECORD, SOCKET_BUFFER = 16_384, 65_536
#: Sizes of a BSON document, bytes: each threshold, and one less and more. The least holds an id and a text.
THRESHOLDS = (64, *(at + by for at in (DRIVER_VIEW, TLS_RECORD, SOCKET_BUFFER) for by in (-1, 0, 1)), 1_000_000)
#: Those of large documents that are not too large to be among many.
LARGE = [size for size in THRESHOLDS if DRIVER_VIEW - 1 <= size < 100_000]
#: By how much `_v` makes a document longer in MongoDB: a byte of type, the name and its end, an int64.
VERSION_BYTES = 12
#: The largest document that clients may write, where the settings say no other.
LIMIT: int = Settings.model_fields["max_document_bytes"].default
#: The largest that others may have in MongoDB, 16 MiB; and the largest that MongoDB would take with a version too.
FOREIGN_LIMIT = 16_777_216
FOREIGN = (FOREIGN_LIMIT - VERSION_BYTES, FOREIGN_LIMIT)
#: One of so many documents is as large as clients may write it, with room for a few other fields.
ONE_FULL_IN, LEAST_BESIDE = 2_000, 1_024


def sized(name: str, size: int, /, **fields: Any) -> dict[str, Any]:
    """A document of an id and some fields that takes exactly `size` bytes as BSON."""
    document = {"_id": name, **fields, "text": ""}
    document["text"] = "x" * (size - len(bson.encode(document)))
    assert size == len(bson.encode(document))
    return document


def mixed(number: int, one_in: int = 20) -> dict[str, str]:
    """What makes one of so many documents large: a text, of sizes around the thresholds; few are full."""
    if number % ONE_FULL_IN == ONE_FULL_IN // 2:
        return {"text": "x" * (LIMIT - LEAST_BESIDE)}
    turn, left = divmod(number, one_in)
    return {} if left else {"text": "x" * LARGE[turn % len(LARGE)]}
