"""What a server refuses to write: it is told by document, and costs the others nothing."""

from __future__ import annotations

import bson
import pytest
from bson import DatetimeMS, Int64
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.refusals import DUPLICATE_KEYS, RefusingServer, left_to_the_driver, only
from tests.sinks import COLLECTION, deletion, results, write
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError, MongoUnavailableError
from writebehind.mongodb.outcomes import AllRefusedError, Result
from writebehind.mongodb.sink import Sink

#: Bytes of the largest document that MongoDB takes.
LARGEST = 16 << 20


@pytest.fixture
def refusing(monkeypatch) -> RefusingServer:
    return RefusingServer(monkeypatch)


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name][COLLECTION]


def test_one_refused_document_costs_its_neighbours_nothing(sink, users):
    """Documents that a unique index refuses are named, with MongoDB's code; the others are written."""
    users.create_index("mail", unique=True)
    results(sink, write("first", 1, mail="a@x"))

    outcomes = sink.write(
        COLLECTION, [write("b", 2, mail="b@x"), write("twin", 3, mail="a@x"), write("c", 4, mail="c@x")]
    )

    assert [Result.PERSISTED, Result.REFUSED, Result.PERSISTED] == [one.result for one in outcomes]
    assert (11000, 2) == (outcomes[1].code, outcomes[1].attempts)
    assert "mail" in outcomes[1].message
    assert {"first", "b", "c"} == {one["_id"] for one in users.find()}


def test_a_validator_refuses(sink, users, mongo_client, database_name):
    """A document that the collection's validator refuses is named with the validator's code."""
    try:
        mongo_client[database_name].create_collection(COLLECTION, validator={"age": {"$gte": 0}})
    except OperationFailure as error:
        pytest.skip(f"this server has no validators: {error}")

    outcomes = sink.write(COLLECTION, [write("ok", 1, age=1), write("bad", 2, age=-1)])

    assert [Result.PERSISTED, Result.REFUSED] == [one.result for one in outcomes]
    assert 121 == outcomes[1].code


@pytest.mark.parametrize("nested", [False, True])
def test_a_document_that_makes_the_whole_command_fail(sink, users, nested):
    """A document because of which the server refuses the whole command costs its neighbours nothing."""
    ancient = DatetimeMS(-62_135_596_800_001)  # SecantusDB takes no date before the year 1; MongoDB does
    bad = write("bad", 5, d={"d": ancient} if nested else ancient)
    others = [write(f"n{number}", 1) for number in range(10)]

    outcomes = sink.write(COLLECTION, [*others[:7], bad, *others[7:]])

    refused = [one.write.id.text for one in outcomes if one.result is Result.REFUSED]
    assert {"bad"} >= set(refused)
    assert {one.id.text for one in others} <= {one["_id"] for one in users.find({}, {"_id": 1})}


@pytest.mark.parametrize(
    ("size", "result"),
    [
        (LARGEST - 12, Result.PERSISTED),  # with _v as large as MongoDB takes
        (LARGEST - 11, Result.REFUSED),
        (LARGEST + (1 << 15), Result.REFUSED),  # more than the driver lets an update have
        (3 * LARGEST + 1, Result.REFUSED),  # more than a message may have
    ],
)
def test_documents_as_large_as_they_get(mongo_client, database_name, users, size, result):
    """MongoDB counts `_v` too; its neighbours do not feel whether it or the driver refuses."""
    sink = Sink(mongo_client, database_name, timeout_ms=100_000)  # a busy machine takes long for them
    least = len(bson.encode({"_id": "large", "x": b""}))
    large = write("large", 5, x=bytes(size - least))
    assert size == len(large.entry.body)

    outcomes = sink.write(COLLECTION, [write("before", 5), large, write("after", 5)])

    assert [Result.PERSISTED, result, Result.PERSISTED] == [one.result for one in outcomes]
    assert (result is Result.REFUSED) is bool(outcomes[1].message)
    assert 3 - (result is Result.REFUSED) == users.count_documents({"_v": 5})


def test_a_command_that_is_refused_for_other_reasons_is_tried_again(sink, users, monkeypatch):
    """What is wrong with the command, such as missing rights, is no reason to give up a document."""

    def refuse(*args, **kwargs):
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr("pymongo.synchronous.collection.Collection.bulk_write", refuse)
    monkeypatch.setattr("pymongo.synchronous.database.Database.command", refuse)
    with pytest.raises(MongoUnavailableError, match="not authorized"):
        sink.write(COLLECTION, [write("ada", 1)])


@pytest.mark.parametrize("as_command", [False, True])
@pytest.mark.parametrize("shape", DUPLICATE_KEYS, ids=lambda shape: shape["server"])
def test_what_is_there_already(sink, users, refusing, shape, as_command):
    """Repeated and late writes are told by what MongoDB has, in whatever words it refuses them."""
    results(sink, write("same", 5), write("newer", 9), write("neighbour", 1))
    error = shape["error"]
    said = OperationFailure(error.get("errmsg", ""), 11000, error) if as_command else error
    refusing.refuses = lambda id_: said if id_ in {"same", "newer"} else None

    assert [Result.PERSISTED, Result.SUPERSEDED, Result.PERSISTED] == results(
        sink, write("same", 5), write("newer", 5), write("neighbour", 2)
    )
    assert {"same": 5, "newer": 9, "neighbour": 2} == {one["_id"]: one["_v"] for one in users.find()}


@pytest.mark.parametrize("as_command", [False, True])
@pytest.mark.parametrize("shape", DUPLICATE_KEYS, ids=lambda shape: shape["server"])
def test_a_unique_value_that_is_there(sink, refusing, shape, as_command):
    """What says that the id is there, though it is not now, is tried again; another unique value is refused."""
    error = shape["error"]
    said = OperationFailure(error.get("errmsg", ""), 11000, error) if as_command else error
    refusing.refuses = only("twin", said)

    [twin, other] = sink.write(COLLECTION, [write("twin", 1), write("other", 1)])

    assert Result.PERSISTED is other.result
    assert (Result.DISTURBED if shape["says_id"] else Result.REFUSED) is twin.result
    assert 11000 == twin.code
    assert error.get("errmsg", "") in twin.message


def test_beside_an_error_only_what_is_durable_is_settled(sink, users, refusing, monkeypatch):
    """A router that reports an error keeps back that the others are not durable: a primary may have lost them."""
    results(sink, write("deleted", 1))
    refusing.refuses = only("bad", {"code": 121})
    awaited = []
    original = SyncCollection.update_many

    def update_many(target, filter_, update):
        assert {"w": "majority", "j": True} == target.write_concern.document
        awaited.append(set(filter_["_id"]["$in"]))
        done = original(target, filter_, update)
        assert 0 == done.matched_count
        users.delete_one({"_id": "lost"})  # the primary has failed over since
        users.insert_one({"_id": "deleted", "_v": Int64(1)})
        return done

    monkeypatch.setattr(SyncCollection, "update_many", update_many)
    outcomes = sink.write(
        COLLECTION, [write("kept", 2), write("bad", 2), write("lost", 2), deletion("deleted", 2)]
    )

    results_of = [one.result for one in outcomes]
    assert [Result.PERSISTED, Result.REFUSED, Result.DISTURBED, Result.PERSISTED] == results_of
    assert {"kept"} == {one["_id"] for one in users.find()}  # what was deleted is deleted once more
    assert {"kept", "lost", "deleted"} == awaited[0]


@pytest.mark.parametrize("count", [1, 2])
def test_only_several_are_refused_together(sink, monkeypatch, count):
    """Documents that one error is about are not blamed for it one by one; a document alone is."""

    def unreadable(*_, **__):
        raise ValueError("an answer that nobody can read")

    def refuse(*_, **__):
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(SyncCollection, "bulk_write", unreadable)
    left_to_the_driver(monkeypatch)
    monkeypatch.setattr(SyncCollection, "update_many", refuse)

    with pytest.raises(AllRefusedError) as refused:
        sink.write(COLLECTION, [write(f"u{number}", 1) for number in range(count)])

    assert [count > 1] * count == [one.together for one in refused.value.outcomes]


def test_a_deletion_that_is_refused_keeps_no_other_back(sink, users, refusing):
    """Older documents are deleted all the same, newer ones are spared, and the error is told."""
    users.insert_many([{"_id": name, "_v": Int64(version)} for name, version in {"a": 1, "b": 1, "c": 9}.items()])
    refusing.refuses = only("a", {"code": 13})
    ids = [DocumentId.of(COLLECTION, name) for name in "abc"]

    with pytest.raises(MongoRefusesError):
        sink.delete_older(COLLECTION, dict.fromkeys(ids, 5))

    assert {"a", "c"} == {one["_id"] for one in users.find()}


def test_a_document_that_is_alone_is_refused_once(sink, refusing):
    """Only one that others of its batch may have been in the way of is tried once more."""
    refusing.refuses = only("bad", {"code": 121})

    [outcome] = sink.write(COLLECTION, [write("bad", 1)])

    assert (Result.REFUSED, 121, 1, 1) == (outcome.result, outcome.code, outcome.attempts, refusing.sent)


def test_a_document_in_the_place_of_others_is_refused(sink, users):
    """One that may not be written over what is no version of ours, for a unique value."""
    users.create_index("mail", unique=True)
    users.insert_many([{"_id": "ada", "_v": 10.5, "mail": "a@x"}, {"_id": "bob", "mail": "b@x"}])

    [outcome] = sink.write(COLLECTION, [write("ada", 10, mail="b@x")])

    assert (Result.REFUSED, 11000, 2) == (outcome.result, outcome.code, outcome.attempts)
    assert "a@x" == users.find_one({"_id": "ada"})["mail"]


def test_documents_whose_answer_nobody_can_read(sink, users, monkeypatch):
    """Each of a batch has an outcome: what the driver cannot send, or read, in a bulk is sent alone."""
    original = SyncCollection.bulk_write

    def bulk_write(target, operations, **options):
        if any(one._filter["_id"] in {"b", "d"} for one in operations):
            raise ValueError("an answer that nobody can read")
        return original(target, operations, **options)

    monkeypatch.setattr(SyncCollection, "bulk_write", bulk_write)
    left_to_the_driver(monkeypatch)

    outcomes = sink.write(COLLECTION, [write(name, 1) for name in "abcd"])

    assert dict.fromkeys("abcd", Result.PERSISTED) == {one.write.id.text: one.result for one in outcomes}
    assert set("abcd") == {one["_id"] for one in users.find()}


def test_a_command_is_divided_as_long_as_some_are_taken(sink, users, refusing):
    """One document makes it fail, for a reason that may pass: all others are taken."""
    refusing.refuses = only("d", OperationFailure("not authorized", 13))

    outcomes = sink.write(COLLECTION, [write(name, 1) for name in "abcd"])

    assert [Result.PERSISTED] * 3 + [Result.UNCLEAR] == [one.result for one in outcomes]
    assert set("abc") == {one["_id"] for one in users.find()}


def test_what_was_taken_counts_where_there_is_no_time_for_the_others(sink, refusing):
    """Else documents because of which connections are closed would take all of the time again at each try."""
    broken = AutoReconnect("connection closed")
    answers = {"b": broken, "c": NetworkTimeout("timed out"), "d": NetworkTimeout("timed out")}
    refusing.refuses = answers.get

    outcomes = sink.write(COLLECTION, [write(name, 1) for name in "abcd"])

    assert ["a"] == [one.write.id.text for one in outcomes if one.result is Result.PERSISTED]
    assert {Result.DISTURBED} == {one.result for one in outcomes[2:]}
    with pytest.raises(MongoUnavailableError, match="timed out"):
        sink.write(COLLECTION, [write(name, 1) for name in "bc"])


def test_a_field_that_is_required_is_not_unset(sink, users, monkeypatch):
    """That is told: whoever waits for its value has to go on waiting."""
    users.insert_one({"_id": "ada", "mail": "a@x", "_v": Int64(1)})

    def refuse(*_, **__):
        raise OperationFailure("Document failed validation", 121)

    monkeypatch.setattr(SyncCollection, "replace_one", refuse)

    assert not sink.unset(DocumentId.of(COLLECTION, "ada"), "mail", Int64(1), below=5)


@pytest.mark.parametrize("code", [None, 13])
def test_whether_a_collection_takes_writes(sink, monkeypatch, code):
    """A write that changes nothing tells."""

    def refuse(*_, **__):
        raise OperationFailure("not authorized", code)

    if code:
        monkeypatch.setattr(SyncCollection, "update_many", refuse)

    assert (code is None) is sink.takes_writes(COLLECTION)
