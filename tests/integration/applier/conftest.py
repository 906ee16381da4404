"""Changes of others, flushes that they come in between of, and listeners that run."""

from __future__ import annotations

import time
from collections.abc import Callable

import bson
import pytest
from bson import Int64

from tests.flushing import flusher_of as flusher_with
from tests.flushing import limits
from writebehind import Pipeline
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import split_version
from writebehind.flushing.flusher import Flusher
from writebehind.mongodb.sink import Sink
from writebehind.redis.keys import partition_keys

LATER_MS = 60_000


@pytest.fixture
def users(pipeline):
    return pipeline.collection("slow")


@pytest.fixture
def stored(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]["slow"]


def change(operation: str, name: str, document: dict | None = None, *, at_ms: int | None = None) -> OutsideChange:
    """What MongoDB reports; by default it has happened just now."""
    after = None if document is None else Entry.loaded(*split_version(bson.encode(document)))
    at_ms = int(time.time() * 1000) if at_ms is None else at_ms
    return OutsideChange(DocumentId.of("slow", name), operation, at_ms, after)


def with_slow(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The same with other settings of the collection."""
    settings = pipeline.settings
    slow = settings.collections["slow"].model_copy(update=changes)
    config = settings.model_copy(update={"collections": settings.collections | {"slow": slow}})
    return Pipeline(config, wire=pipeline.store._wire, client=pipeline._client)


class PausingSink(Sink):
    """Does something else between a bulk write and what its flusher does next."""

    between: Callable[[], object]

    def write(self, *arguments, **options):
        outcomes = super().write(*arguments, **options)
        self.between()
        return outcomes


def flusher_of(pipeline: Pipeline, between: Callable[[], object]) -> Flusher:
    """A flusher that does something else before it settles what it has written."""
    sink = PausingSink(pipeline._client, pipeline.settings.mongodb_database, timeout_ms=5_000)
    sink.between = between
    return flusher_with(pipeline, limits(100, 5_000, budget_s=1), sink=sink)


def flush(pipeline: Pipeline, name: str, between: Callable[[], object]) -> None:
    """Flush a document, and do something else before it is settled."""
    store, flusher = pipeline.store, flusher_of(pipeline, between)
    member = DocumentId.of("slow", name).member
    partition = store.partition_of(member)
    store._wire.call("ZADD", partition_keys(partition).pending, 0, member)
    flusher.flush(partition)


def counts(pipeline: Pipeline, *changes: OutsideChange) -> tuple[int, int, int]:
    applied = pipeline.applier.apply(changes)
    return applied.ours, applied.invalidated, applied.conflicts


def their_change(stored, how: str) -> OutsideChange:
    """Somebody changes `ada` in MongoDB to 7, or deletes it."""
    if how == "update":
        stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    elif how == "replace":
        stored.replace_one({"_id": "ada"}, {"n": 7})
    elif how == "replace with an old version":
        stored.replace_one({"_id": "ada"}, {"n": 7, "_v": Int64(1)})
    else:
        stored.delete_one({"_id": "ada"})
    return change(how.partition(" ")[0], "ada", stored.find_one({"_id": "ada"}))
