"""Options of MongoDB's URL that could weaken the protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import bson
import pytest
from bson import Int64
from pymongo import MongoClient, monitoring

from tests.refusals import RefusingServer, only
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.errors import DocumentTooLargeError
from writebehind.mongodb.fresh_reads import FreshReads
from writebehind.mongodb.outcomes import Result, Write
from writebehind.mongodb.sink import Sink

WEAK = (
    "?readPreference=secondaryPreferred&maxStalenessSeconds=120&readConcernLevel=available&w=1&journal=false"
    "&retryWrites=false&retryReads=false&compressors=zlib&uuidRepresentation=javaLegacy&tz_aware=true"
    "&unicode_decode_error_handler=ignore"
)


class Commands(monitoring.CommandListener):
    """The commands that were sent, with their names."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """What is answered does not matter."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nor does what is not."""

    def all(self, *names: str) -> Iterator[dict[str, Any]]:
        found = [command for name, command in self.sent if name in names]
        assert found
        yield from found


@contextmanager
def weak_client(url: str) -> Iterator[tuple[MongoClient[Any], Commands]]:
    commands = Commands()
    with MongoClient(url + WEAK, event_listeners=[commands]) as client:
        yield client, commands


def write(name: object, version: int, /, **fields: object) -> Write:
    document_id = DocumentId.of("users", name)
    body = bson.encode({"_id": document_id.value, **fields})
    return Write(document_id, Entry(version, Kind.DOCUMENT, etag(body), body))


def test_what_the_protocol_relies_on_is_not_up_to_the_url(mongo, database_name, monkeypatch):
    """All reads are from the primary, of what it has now, and all writes wait for the journals of a majority."""
    ids = [DocumentId.of("users", name) for name in ("ada", "bob")]
    with weak_client(mongo.url) as (client, commands):
        sink = Sink(client, database_name, timeout_ms=5_000)
        sink.write("users", [write("ada", 2, n=1), write("bob", 2, n=2)])
        assert [Result.SUPERSEDED] == [one.result for one in sink.write("users", [write("ada", 1)])]
        RefusingServer(monkeypatch).refuses = only("bob", {"code": 121})
        sink.write("users", [write("ada", 3), write("bob", 3)])
        sink.find(ids[0])
        sink.find_many(ids)
        sink.find_by("users", "n", 1)
        sink.find_places("users", {}, {"n": 1}, 5)
        sink.find_after("users", None, limit=5, most_bytes=1_000)
        sink.delete_older("users", {ids[0]: 9})

        for command in commands.all("find"):
            assert {"level": "local"} == command["readConcern"]
            assert "primary" == command.get("$readPreference", {"mode": "primary"})["mode"]
        for command in commands.all("update", "delete"):
            assert {"w": "majority", "j": True} == command["writeConcern"]


def test_each_command_is_bounded_by_the_server_too(mongo, database_name, monkeypatch):
    """A server that gets a command late, or works on it for long, gives it up when nobody waits any more."""
    one = DocumentId.of("users", "ada")
    with weak_client(mongo.url) as (client, commands):
        reads = FreshReads("nearest", "majority")
        sink = Sink(client, database_name, timeout_ms=5_000, reads=reads)
        sink.write("users", [write("ada", 2, n=1), write("bob", 2, n=2)])
        RefusingServer(monkeypatch).refuses = only("bob", {"code": 121})
        sink.write("users", [write("ada", 3), write("bob", 3)])
        for read in (sink.find(one), sink.find_many([one]), sink.find_states([one]), sink.versions([one])):
            assert read
        sink.find_by("users", "n", 1)
        sink.find_holders("users", "n", 1)
        sink.find_places("users", {}, {"n": 1}, 5)
        sink.find_after("users", None, limit=5, most_bytes=1_000)
        sink.unset(one, "n", 3, below=9)
        sink.vacate(one, 3)
        sink.put_back("users", bson.encode({"_id": "ada"}))
        sink.takes_writes("users")
        sink.delete_older("users", {one: 9})

        kinds = {"find", "update", "delete", "findAndModify", "insert"}
        sent = list(commands.all(*kinds))
        assert kinds == {next(iter(one)) for one in sent}
        assert [] == [one for one in sent if not 0 < one.get("maxTimeMS", 0) <= 5_000]


def test_the_listener_follows_the_primary(mongo, settings, valkey_wire):
    """The change stream is the primary's, and of what is durable, as it is where nothing else is said."""
    with weak_client(mongo.url) as (client, commands):
        pipeline = Pipeline(settings, wire=valkey_wire, client=client)
        with pipeline.listener()._open("") as stream:
            stream.try_next()
        for command in commands.all("aggregate"):
            assert {"$changeStream"} <= command["pipeline"][0].keys()
            assert "readConcern" not in command
            assert "primary" == command.get("$readPreference", {"mode": "primary"})["mode"]


@pytest.mark.parametrize("size", [0, 100, 4_095, 4_096, 4_097, 1 << 16, (1 << 20) - 50])
def test_documents_of_all_sizes(mongo, settings, valkey_wire, size):
    """A document comes back as it was written, compressed on the wire or not, whatever the driver hands over."""
    text = os.urandom(size // 2).hex()
    with weak_client(mongo.url) as (client, _):
        pipeline = Pipeline(settings, wire=valkey_wire, client=client)
        users = pipeline.collection("users")
        written = users.put("ada", {"text": text, "n": Int64(1)})
        partition = pipeline.store.partition_of("users/s:ada")
        assert 1 == pipeline.flusher.flush(partition).persisted
        pipeline.store.cache.invalidate_many(["users/s:ada"])

        wait_until(lambda: users.read("ada").entry.etag == written.etag, "the same document")
        assert {"_id": "ada", "text": text, "n": 1} == users.get("ada")
        stored = client[settings.mongodb_database]["users"].find_one({})
        assert {"_id": "ada", "text": text, "n": 1, "_v": written.version} == stored


@pytest.mark.parametrize("limit", [5_000, 15 << 20])
def test_the_largest_document_is_persisted(settings, valkey_wire, mongo_client, limit):
    """What is let in at the door fits into MongoDB with `_v`; a byte more is refused at the door."""
    allowed = settings.model_copy(update={"max_document_bytes": limit})
    pipeline = Pipeline(allowed, wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")
    room = limit - len(bson.encode({"_id": "ada", "x": b""}))
    with pytest.raises(DocumentTooLargeError, match=f"takes {limit + 1} bytes"):
        users.put("ada", {"x": bytes(room + 1)})
    written = users.put("ada", {"x": bytes(room)})
    assert 1 == pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada")).persisted
    pipeline.store.cache.invalidate_many(["users/s:ada"])
    assert written.etag == users.read("ada").entry.etag


def test_a_collation_that_takes_two_ids_for_one(mongo_client, database_name, monkeypatch):
    """A document with another id is not the one that was asked for, whatever the collection's collation says."""
    sink = Sink(mongo_client, database_name, timeout_ms=5_000)
    sink.write("users", [write("Ada", 1)])
    original = type(mongo_client["a"]["b"]).find

    def find(self, filter_, *args, **kwargs):
        return original(
            self, {"_id": {"$in": ["Ada", "ada"]}} if filter_ == {"_id": "ada"} else filter_, *args, **kwargs
        )

    monkeypatch.setattr(type(mongo_client["a"]["b"]), "find", find)

    assert sink.find(DocumentId.of("users", "Ada")).exists
    assert not sink.find(DocumentId.of("users", "ada")).exists
    assert [True, False] == [
        one.exists for one in sink.find_many([DocumentId.of("users", one) for one in ("Ada", "ada")])
    ]


@pytest.mark.parametrize("name", [7, bson.ObjectId(), "7", uuid4()])
def test_ids_of_every_type_are_their_own(mongo_client, database_name, name):
    """An id of each type finds its document."""
    sink = Sink(mongo_client, database_name, timeout_ms=5_000)
    one = write(name, 1)
    sink.write("users", [one])
    assert one.entry == sink.find(one.id)
