"""The sink on a server that speaks MongoDB's protocol."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import bson
import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.results import BulkWriteResult
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.refusals import left_to_the_driver
from tests.sinks import COLLECTION, deletion, results, write
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.outcomes import Replacement, Result, Write, send_alone
from writebehind.mongodb.sink import Sink


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name][COLLECTION]


def test_a_document_is_written_with_its_version(sink, users):
    """The document arrives as it was, with its version as the last field."""
    assert [Result.PERSISTED] == results(sink, write("ada", 7, name="Ada", n=Int64(1)))

    assert [("_id", "ada"), ("name", "Ada"), ("n", 1), ("_v", 7)] == list(users.find_one({}).items())


def test_a_newer_version_replaces(sink, users):
    """The newer document stands alone, no field of the older one stays."""
    results(sink, write("ada", 1, old=True))

    assert [Result.PERSISTED] == results(sink, write("ada", 2, new=True))

    assert {"_id": "ada", "new": True, "_v": 2} == users.find_one({})


def test_an_older_version_never_replaces_a_newer_one(sink, users):
    """A late flusher changes nothing, and learns that it is late."""
    results(sink, write("ada", 2, name="new"))

    assert [Result.SUPERSEDED] == results(sink, write("ada", 1, name="old"))

    assert {"_id": "ada", "name": "new", "_v": 2} == users.find_one({})


def test_the_same_version_twice(sink, users):
    """A write that is repeated is settled again and changes nothing."""
    assert [Result.PERSISTED] == results(sink, write("ada", 1, name="Ada"))
    assert [Result.PERSISTED] == results(sink, write("ada", 1, name="Ada"))
    assert users.count_documents({}) == 1


def test_the_same_version_twice_takes_back_nothing_of_others(sink, users):
    """A flush that is repeated after a crash spares what somebody else has changed since the first one.

    They came after it, although the version is the same: a guard that let the same version through would undo it.
    """
    results(sink, write("ada", 1, n=1))
    users.update_one({}, {"$set": {"n": 2}})

    assert [Result.PERSISTED] == results(sink, write("ada", 1, n=1))
    assert 2 == users.find_one({})["n"]


@pytest.mark.parametrize("foreign", [{}, {"_v": "text"}, {"_v": None}, {"_v": 1.5}])
def test_documents_of_others_are_replaced(sink, users, foreign):
    """A document that never had a version, or has something else in its place, gives way."""
    users.insert_one({"_id": "ada", "name": "foreign"} | foreign)

    assert [Result.PERSISTED] == results(sink, write("ada", 10, name="ours"))

    assert {"_id": "ada", "name": "ours", "_v": 10} == users.find_one({})


def test_deletions(sink, users):
    """A deletion takes away what is older, also a foreign document, and finds nothing without harm."""
    results(sink, write("ada", 1))
    users.insert_one({"_id": "foreign"})

    done = results(sink, deletion("ada", 2), deletion("foreign", 2), deletion("nobody", 2))

    assert [Result.PERSISTED] * 3 == done
    assert users.count_documents({}) == 0


def test_a_late_deletion_spares_a_newer_document(sink, users):
    """A document that was created again after its deletion stays."""
    results(sink, write("ada", 3))

    assert [Result.SUPERSEDED] == results(sink, deletion("ada", 2))

    assert {"_id": "ada", "_v": 3} == users.find_one({})


def test_documents_that_swap_a_unique_value(sink, users):
    """A document that was refused only because of another in the same batch is written after it."""
    users.create_index("seat", unique=True)
    results(sink, write("ada", 1, seat=1))

    outcomes = sink.write(COLLECTION, [write("bob", 2, seat=1), write("ada", 3, seat=2)])

    assert [Result.PERSISTED] * 2 == [one.result for one in outcomes]
    assert {"ada": 2, "bob": 1} == {one["_id"]: one["seat"] for one in users.find()}


def test_a_batch_without_errors_costs_one_round_trip(sink, users, monkeypatch):
    """Nothing is asked about writes that nothing was said against."""
    for method in ("update_many", "find"):
        monkeypatch.setattr(SyncCollection, method, None)

    assert [Result.PERSISTED] * 2 == results(sink, write("a", 1), write("b", 1))


# The embedded server tells an int from a Decimal128 here, which mongod compares by value.
def test_the_driver_passes_documents_on_unread(sink, users, monkeypatch):
    """What is written is not read again, element by element, to be sent: that would be a third of the cost."""

    def read(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(Replacement, "_inflate_bson", staticmethod(read))
        assert [Result.PERSISTED] * 2 == results(sink, write("ada", 1, name="Ada"), write("bob", 1, name="Bob"))

    assert {"_id": "bob", "name": "Bob", "_v": 1} == users.find_one({"_id": "bob"})


def test_what_is_no_bson_spoils_no_batch(sink, users):
    """The driver passes it on unread; MongoDB takes its neighbours, and not it."""
    spoiled = write("eve", 1, name="Eve")
    body = spoiled.entry.body.replace(b"\x02name", b"\x55name")
    spoiled = replace(spoiled, entry=replace(spoiled.entry, body=body, etag=etag(body)))

    outcomes = results(sink, write("ada", 1), spoiled, write("bob", 1))

    assert [Result.PERSISTED, Result.PERSISTED] == [outcomes[0], outcomes[2]]
    assert outcomes[1] in {Result.REFUSED, Result.UNCLEAR}
    assert ["ada", "bob"] == sorted(one["_id"] for one in users.find({}, {"_id": 1}))


@pytest.mark.parametrize("stored", [7, 7.0])
def test_a_write_to_an_id_of_another_type_of_number(sink, users, stored):
    """It replaces the document that has the same id to MongoDB."""
    users.insert_one({"_id": stored, "n": 1, "_v": Int64(5)})
    seven = DocumentId.of(COLLECTION, 7)
    body = bson.encode({"_id": seven.value, "n": 2})

    assert [Result.PERSISTED] == results(sink, Write(seven, Entry(6, Kind.DOCUMENT, etag(body), body)))

    assert [{"n": 2, "_v": 6}] == list(users.find({}, {"_id": 0}))


def test_a_write_that_nobody_answers(mongo, way_to, database_name):
    """A server that hangs costs no longer than the limit, and nothing is said to be written."""
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=500) as client,
    ):
        sink = Sink(client, database_name, timeout_ms=500)
        sink.ping(timeout_s=5)
        way.proxy.hang()
        with pytest.raises(MongoUnavailableError):
            sink.write(COLLECTION, [write("ada", 1)])
        with pytest.raises(MongoUnavailableError):
            sink.find(DocumentId.of(COLLECTION, "ada"))
        with pytest.raises(MongoUnavailableError):
            sink.ping(timeout_s=0.1)


def test_write_concern(sink, users, mongo_client):
    """Writes are acknowledged by a majority, and when they are in the journal."""
    concern = sink._database.write_concern.document
    assert {"w": "majority", "j": True} == concern


def test_deletion_kind(sink, users):
    """A deletion beside documents in one batch is told apart from them."""
    results(sink, write("ada", 1), write("bob", 1))

    assert [Result.PERSISTED] * 3 == results(sink, deletion("ada", 2), write("bob", 2, n=1), deletion("zoe", 2))

    assert [{"_id": "bob", "n": 1, "_v": 2}] == list(users.find())
    assert DELETED.kind is Kind.DELETED


def test_a_deletion_that_mongodb_has_done_costs_no_look(sink, users, monkeypatch):
    """Only one that has found nothing to delete may have come late."""
    results(sink, write("ada", 1), write("bob", 1))
    looks = []
    versions = sink._versions
    monkeypatch.setattr(sink, "_versions", lambda *arguments: looks.append(1) or versions(*arguments))

    assert [Result.PERSISTED] * 2 == results(sink, deletion("ada", 2), deletion("bob", 2))
    assert [] == looks
    assert [Result.PERSISTED] == results(sink, deletion("ada", 3))
    assert [1] == looks


def test_a_second_is_time_enough(sink, monkeypatch):
    """Nothing is sent when no time is left; with any that is left, it is tried, and for no longer."""
    limits = []
    monkeypatch.setattr("writebehind.mongodb.sink.pymongo.timeout", lambda s: limits.append(s) or nullcontext())

    assert [Result.PERSISTED] == [one.result for one in sink.write(COLLECTION, [write("ada", 1)], within_s=0.001)]
    assert 0.001 == limits[0]
    with pytest.raises(MongoUnavailableError, match="no time left"):
        sink.write(COLLECTION, [write("ada", 2)], within_s=0)


def test_a_write_that_is_sent_alone_does_the_same(users):
    """It creates, replaces what is older and nothing else, and deletes what is older, as in a bulk."""
    send_alone(users, write("ada", 1, n=1), None)
    assert [{"_id": "ada", "n": 1, "_v": 1}] == [*users.find()]
    send_alone(users, write("ada", 3, n=3), None)
    with pytest.raises(DuplicateKeyError):
        send_alone(users, write("ada", 2, n=2), None)
    send_alone(users, deletion("ada", 2), None)
    assert [{"_id": "ada", "n": 3, "_v": 3}] == [*users.find()]
    send_alone(users, deletion("ada", 4), None)
    assert [] == [*users.find()]


def test_what_others_put_in_the_place_of_a_version_is_written_over(sink, users):
    """It is no version, and MongoDB takes it for a greater one: so the second attempt names it."""
    users.insert_one({"_id": "ada", "_v": 10.5})

    [outcome] = sink.write(COLLECTION, [write("ada", 10, n=1)])

    assert (Result.PERSISTED, 2) == (outcome.result, outcome.attempts)
    assert {"_id": "ada", "n": 1, "_v": 10} == users.find_one()


def test_of_a_server_that_only_says_that_all_is_well(sink, monkeypatch):
    """What it does not say that it has done is looked for, and is not there: only a deletion may rest at that."""
    done = BulkWriteResult({"nRemoved": 0, "nMatched": 0, "nUpserted": 0}, acknowledged=True)
    monkeypatch.setattr(SyncCollection, "bulk_write", lambda *_, **__: done)
    left_to_the_driver(monkeypatch)

    found = results(sink, write("ada", 1), deletion("bob", 1), write("zoe", 1))

    assert [Result.DISTURBED, Result.PERSISTED, Result.DISTURBED] == found


def test_what_others_have_removed_is_not_written_over(sink, users, monkeypatch):
    """It may be gone by a newer deletion: the write is tried again, and finds out."""
    users.insert_one({"_id": "ada", "_v": 10.5})
    versions = sink._versions

    def gone_by_then(*arguments):
        seen = versions(*arguments)
        users.delete_one({"_id": "ada"})
        return seen

    monkeypatch.setattr(sink, "_versions", gone_by_then)

    assert [Result.DISTURBED] == results(sink, write("ada", 10))
    assert [] == [*users.find()]


def test_only_older_versions_of_ours_are_deleted(sink, users):
    """A number below 0 was put there by somebody else, like what is no number."""
    users.insert_many([{"_id": str(version), "_v": version} for version in (-1, 0, 4, 5)] + [{"_id": "none"}])
    ids = [DocumentId.of(COLLECTION, name) for name in ("-1", "0", "4", "5", "none")]

    assert 2 == sink.delete_older(COLLECTION, dict.fromkeys(ids, 5))

    assert {"-1", "5", "none"} == {one["_id"] for one in users.find()}
