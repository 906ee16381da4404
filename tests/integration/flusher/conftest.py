"""Documents that share a partition, and short ways to write and flush them."""

from __future__ import annotations

import bson
import pytest

from tests.commits import commit_one
from writebehind import Pipeline
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.raw_bson import etag
from writebehind.flushing.flusher import Flusher
from writebehind.redis.commits import CommitRequest

PARTITION = 0


def names(pipeline: Pipeline, count: int, collection: str = "users") -> list[str]:
    """Ids of documents that share partition 0."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if pipeline.store.partition_of(f"{collection}/s:{number}") == PARTITION:
            found.append(str(number))
        number += 1
    return found


def commit(pipeline: Pipeline, name: str, /, *, delay_ms: int = 0, **fields: object) -> int:
    body = bson.encode({"_id": name, **fields})
    entry = Entry(0, Kind.DOCUMENT, etag(body), body)
    return commit_one(pipeline.store, CommitRequest(f"users/s:{name}", entry.payload, delay_ms)).version


def delete(pipeline: Pipeline, name: str) -> int:
    return commit_one(pipeline.store, CommitRequest(f"users/s:{name}", DELETED.payload, 0)).version


@pytest.fixture
def users(pipeline, settings, mongo_client):
    return mongo_client[settings.mongodb_database]["users"]


@pytest.fixture
def flusher(pipeline) -> Flusher:
    return pipeline.flusher
