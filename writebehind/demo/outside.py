"""Documents that other programs have in MongoDB: the largest that it takes, which clients may not write."""

from __future__ import annotations

from typing import Any

import bson
from bson import Int64
from pymongo import MongoClient

from writebehind.demo.ledger import Expected, stored
from writebehind.demo.records import VERSION_BYTES, Key, Record

COLLECTION = "archives"
#: MongoDB's limit, bytes as BSON.
LARGEST_BYTES = 16 << 20
#: What becomes of each document, its size as BSON, and its version; 0 for none.
_DOCUMENTS = {
    "left": (LARGEST_BYTES, 0),
    "deleted": (LARGEST_BYTES - VERSION_BYTES, 0),
    "replaced": (LARGEST_BYTES, 7),
}
#: The same, with what is written over the one that is replaced.
LEFT, DELETED, REPLACED = (Record(COLLECTION, name, {"text": "shorter"}) for name in _DOCUMENTS)


def outside() -> dict[Key, Expected]:
    """Their state in MongoDB."""
    made = {}
    for name, (size, version) in _DOCUMENTS.items():
        key = COLLECTION, name
        empty = len(bson.encode(stored(key, {"text": ""}))) + (VERSION_BYTES if version else 0)
        made[key] = Expected({"text": "x" * (size - empty)}, version)
    return made


def write(client: MongoClient[Any], database: str, documents: dict[Key, Expected]) -> None:
    """Write them past the pipeline."""
    for key, one in documents.items():
        version = {"_v": Int64(one.version)} if one.version else {}
        client[database][key[0]].insert_one(stored(key, one.document or {}) | version)
