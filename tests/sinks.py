"""Writes, as the sink takes them."""

from __future__ import annotations

import bson

from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.mongodb.outcomes import Result, Write
from writebehind.mongodb.sink import Sink

COLLECTION = "users"


def write(name: str, version: int, /, **fields: object) -> Write:
    document_id = DocumentId.of(COLLECTION, name)
    body = bson.encode({"_id": name, **fields})
    return Write(document_id, Entry(version, Kind.DOCUMENT, etag(body), body))


def deletion(name: str, version: int) -> Write:
    return Write(DocumentId.of(COLLECTION, name), Entry(version, Kind.DELETED))


def results(sink: Sink, *writes: Write) -> list[Result]:
    return [outcome.result for outcome in sink.write(COLLECTION, writes)]
