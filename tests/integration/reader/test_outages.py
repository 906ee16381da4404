"""Reads while Redis or MongoDB is away."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from pymongo import MongoClient

from tests.integration.reader.conftest import SETTINGS
from tests.reading import ADA, commit, name_in, reader_of
from tests.waiting import wait_until
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.reading.read import Source


def test_one_that_is_read_around_redis_waits_for_nobody(store, sink, users, monkeypatch):
    """Whoever comes first asks MongoDB at once."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    reader, began = reader_of(store, sink, load_timeout_ms=30_000), time.monotonic()

    read = reader._loader.bypass(ADA)

    assert (Source.BYPASS, "Ada", 1) == (read.source, name_in(read.entry), sink.reads)
    assert time.monotonic() - began < 20


def test_one_that_is_read_around_redis_waits_no_longer_than_a_load_may_take(store, sink, users, monkeypatch):
    """Whoever shares the load of another that does not come back asks MongoDB as well."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    reader, find, calls = reader_of(store, sink, load_timeout_ms=100), sink.find, count()
    asking, may_answer = threading.Event(), threading.Event()

    def first_hangs(document_id: DocumentId) -> Entry:
        if not next(calls):
            asking.set()
            assert may_answer.wait(20)
        return find(document_id)

    monkeypatch.setattr(sink, "find", first_hangs)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(reader._loader.bypass, ADA)
        assert asking.wait(10)
        second = threads.submit(reader._loader.bypass, ADA)
        try:
            assert "Ada" == name_in(second.result(10).entry)
            assert not first.done()
        finally:
            may_answer.set()


def test_several_are_read_around_a_redis_that_is_away(reader, users, monkeypatch):
    """And the answer says so."""
    users.insert_one({"_id": "ada", "name": "Ada"})

    def away(*_):
        raise RedisUnavailableError("away")

    monkeypatch.setattr(reader, "get_many", away)

    entries, bypassed = reader.get_many_or_bypass([ADA], SETTINGS)

    assert (["Ada"], True) == ([name_in(one) for one in entries], bypassed)


def test_a_redis_that_is_away_is_not_bypassed_where_that_is_forbidden(reader, monkeypatch):
    """One document or several."""

    def away(*_):
        raise RedisUnavailableError("away")

    monkeypatch.setattr(reader, "get", away)
    monkeypatch.setattr(reader, "get_many", away)
    strict = SETTINGS.model_copy(update={"bypass": False})

    with pytest.raises(RedisUnavailableError):
        reader.get_or_bypass(ADA, strict)
    with pytest.raises(RedisUnavailableError):
        reader.get_many_or_bypass([ADA], strict)


def test_redis_is_not_bypassed_while_it_answers(reader):
    """Each document in its turn says so, whether it is cached or loaded."""
    ids = [ADA, *(DocumentId.of("users", str(number)) for number in range(3))]

    assert [[False] * 4] * 2 == [
        [bypassed for _, bypassed in reader.get_each_or_bypass(ids, SETTINGS)] for _ in "12"
    ]


def test_reads_while_mongodb_is_away(store, mongo, way_to, database_name):
    """Cached documents are read; others fail in time, all readers of one at once, and may load again later."""
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=500) as client,
    ):
        sink = Sink(client, database_name, timeout_ms=500)
        reader = reader_of(store, sink, load_timeout_ms=2_000)
        commit(store, "cached")
        way.proxy.hang()
        assert "cached" == name_in(reader.get(ADA, SETTINGS).entry)
        cold = DocumentId.of("users", "cold")
        with ThreadPoolExecutor(8) as threads:
            reads = [threads.submit(reader.get, cold, SETTINGS) for _ in range(8)]
            errors = [read.exception(10) for read in reads]
        assert {MongoUnavailableError} == {type(error) for error in errors}
        way.proxy.flow()

        def back() -> bool:
            try:
                return reader.get(cold, SETTINGS).entry == ABSENT
            except MongoUnavailableError:
                return False

        wait_until(back, "a read after the outage")
