"""Entries whose bodies are changed in Redis by other hands, under their own ETag and version."""

from __future__ import annotations

from collections.abc import Callable

import bson

from writebehind import Pipeline
from writebehind.documents.entry import BODY_AT, Entry
from writebehind.documents.ids import DocumentId

#: What becomes of a body: another document, one of another size, one bit, its end, all of it.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "another value": lambda body: body[:-6] + bytes([body[-6] ^ 1]) + body[-5:],
    "another document": lambda body: bson.encode({"_id": bson.decode(body)["_id"], "n": "theirs"}),
    "one bit": lambda body: body[:4] + bytes([body[4] ^ 0x40]) + body[5:],
    "cut off": lambda body: body[:-3],
    "nothing": lambda body: b"",
}


def damage(
    pipeline: Pipeline,
    name: str,
    changed: Callable[[bytes], bytes] = DAMAGES["another document"],
    *,
    of: str = "users",
) -> Entry:
    """Change the body of a document's entry; the entry as it was."""
    wire, key = pipeline.store._wire, pipeline.store.cache.key(DocumentId.of(of, name).member)
    before = wire.call("GET", key)
    after = before[:BODY_AT] + changed(before[BODY_AT:])
    assert before != after
    wire.call("SET", key, after, "KEEPTTL")
    return Entry.parse(before)
