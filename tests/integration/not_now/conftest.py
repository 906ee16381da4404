"""A server that refuses, three attempts, and flushes of one partition whose delays are over."""

from __future__ import annotations

import bson
import pytest

from tests.commits import commit_one
from tests.refusals import RefusingServer
from writebehind import Pipeline
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.raw_bson import etag
from writebehind.flushing import attempts
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.mongodb.outcomes import Result
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys

PARTITION = 0


@pytest.fixture
def server(monkeypatch) -> RefusingServer:
    return RefusingServer(monkeypatch)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Three attempts."""
    monkeypatch.setattr(attempts, "ATTEMPTS", {Result.UNCLEAR: 3, Result.DISTURBED: 3})


def commit(pipeline: Pipeline, name: str, collection: str = "users") -> str:
    """Acknowledge a document behind the door's back, as an older process may have; its member."""
    body = bson.encode({"_id": name})
    member = f"{collection}/s:{name}"
    payload = Entry(0, Kind.DOCUMENT, etag(body), body).payload
    commit_one(pipeline.store, CommitRequest(member, payload, 0))
    return member


def names(pipeline: Pipeline, count: int, collection: str = "users") -> list[str]:
    """Ids that share a partition."""
    found = (str(n) for n in range(10_000))
    return [one for one in found if pipeline.store.partition_of(f"{collection}/s:{one}") == PARTITION][:count]


def attempt(pipeline: Pipeline) -> FlushSummary:
    """Flush the partition once all of its delays are over."""
    of = partition_keys(PARTITION)
    for member in pipeline.store._wire.call("ZRANGE", of.pending, 0, -1):
        pipeline.store._wire.call("ZADD", of.pending, 1, member)
    return pipeline.flusher.flush(PARTITION)


def letters(pipeline: Pipeline) -> dict[str, str]:
    """What dead letters say, by id."""
    return {one.letter.id.text: one.letter.message for one in pipeline.dead_letters.all(Filter())}
