"""The sink on a server that speaks MongoDB's protocol."""

from __future__ import annotations

from contextlib import nullcontext

import bson
import pytest
from bson import DatetimeMS, Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.refusals import DUPLICATE_KEYS, RefusingServer, only
from writebehind.documents.entry import ABSENT, DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import RAW_OPTIONS, etag
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.finder import _id_of
from writebehind.mongodb.outcomes import Result, Write, send_alone
from writebehind.mongodb.sink import Sink

COLLECTION = "users"
#: Bytes of the largest document that MongoDB takes.
LARGEST = 16 << 20


@pytest.fixture
def sink(mongo_client, database_name) -> Sink:
    return Sink(mongo_client, database_name, timeout_ms=10_000)


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name][COLLECTION]


@pytest.fixture
def refusing(monkeypatch) -> RefusingServer:
    return RefusingServer(monkeypatch)


def write(name: str, version: int, /, **fields: object) -> Write:
    document_id = DocumentId.of(COLLECTION, name)
    body = bson.encode({"_id": name, **fields})
    return Write(document_id, Entry(version, Kind.DOCUMENT, etag(body), body))


def deletion(name: str, version: int) -> Write:
    return Write(DocumentId.of(COLLECTION, name), Entry(version, Kind.DELETED))


def results(sink: Sink, *writes: Write) -> list[Result]:
    return [outcome.result for outcome in sink.write(COLLECTION, writes)]


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


def test_documents_that_swap_a_unique_value(sink, users):
    """A document that was refused only because of another in the same batch is written after it."""
    users.create_index("seat", unique=True)
    results(sink, write("ada", 1, seat=1))

    outcomes = sink.write(COLLECTION, [write("bob", 2, seat=1), write("ada", 3, seat=2)])

    assert [Result.PERSISTED] * 2 == [one.result for one in outcomes]
    assert {"ada": 2, "bob": 1} == {one["_id"]: one["seat"] for one in users.find()}


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
def test_documents_as_large_as_they_get(sink, users, size, result):
    """MongoDB counts `_v` too; its neighbours do not feel whether it or the driver refuses."""
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


def test_a_batch_without_errors_costs_one_round_trip(sink, users, monkeypatch):
    """Nothing is asked about writes that nothing was said against."""
    for method in ("update_many", "find"):
        monkeypatch.setattr(SyncCollection, method, None)

    assert [Result.PERSISTED] * 2 == results(sink, write("a", 1), write("b", 1))


def test_find(sink, users):
    """A document is read without its version field; what is not there is absent."""
    results(sink, write("ada", 5, name="Ada"))
    users.insert_one({"_id": "foreign", "x": 1})

    ada, foreign, nobody = sink.find_many(
        [DocumentId.of(COLLECTION, name) for name in ("ada", "foreign", "nobody")]
    )

    assert (5, {"_id": "ada", "name": "Ada"}) == (ada.version, bson.decode(ada.body))
    assert (0, {"_id": "foreign", "x": 1}) == (foreign.version, bson.decode(foreign.body))
    assert ABSENT == nobody
    assert ada == sink.find(DocumentId.of(COLLECTION, "ada"))
    assert ABSENT == sink.find(DocumentId.of(COLLECTION, "nobody"))


@pytest.mark.parametrize("filter_", [{"name": {"$regex": "("}}, {"$nonsense": 1}, {"n": 1 << 70}])
def test_a_query_that_is_refused_is_no_outage(sink, users, filter_):
    """Whatever MongoDB or the driver says of somebody's own filter is about that filter."""
    users.insert_one({"name": "Ada", "n": 1})
    with pytest.raises(MongoUnavailableError) as refused:
        sink.find_places(COLLECTION, filter_, {}, 5)
    assert not refused.value.outage


def test_places(sink, users):
    """With the last id come the fields of the sort as a whole: a part of an array would be in another place."""
    users.insert_many([{"_id": "ada", "a": [1, {"c": 2}], "b": 3, "c": 4}, {"_id": "bob", "b": 4}, {"_id": 1.5}])

    ids, fields = sink.find_places(COLLECTION, {"b": {"$exists": True}}, {"b": -1, "a.c": 1}, 5)

    assert ["bob", "ada"] == [one.text for one in ids]
    assert {"_id": "ada", "a": [1, {"c": 2}], "b": 3} == bson.decode(fields)
    assert [None] == sink.find_places(COLLECTION, {"_id": 1.5}, {}, 5)[0]
    assert ([], b"") == sink.find_places(COLLECTION, {"b": 5}, {"b": 1}, 5)


def test_find_many_of_every_id_type(sink, users):
    """Ids of all types find their documents, more of them than one query takes."""
    ids = [DocumentId.of(COLLECTION, value) for value in (*(str(n) for n in range(450)), *range(5))]
    users.insert_many([{"_id": one.value, "text": one.text} for one in ids])

    found = sink.find_many(ids)

    assert [one.text for one in ids] == [bson.decode(entry.body)["text"] for entry in found]


@pytest.mark.parametrize("stored", [7, 7.0, Decimal128("7.0")])
def test_ids_of_other_types_of_number(sink, users, stored):
    """To MongoDB they are the same id: such a document is found alone, among others, and by its version."""
    seven = DocumentId.of(COLLECTION, 7)
    users.insert_one({"_id": stored, "n": 1, "_v": Int64(5)})

    assert (5, [5]) == (sink.find(seven).version, [one.version for one in sink.find_many([seven])])

    assert [Result.SUPERSEDED] == results(sink, Write(seven, Entry(4, Kind.DELETED)))


# The embedded server tells an int from a Decimal128 here, which mongod compares by value.
@pytest.mark.parametrize("stored", [7, 7.0])
def test_a_write_to_an_id_of_another_type_of_number(sink, users, stored):
    """It replaces the document that has the same id to MongoDB."""
    users.insert_one({"_id": stored, "n": 1, "_v": Int64(5)})
    seven = DocumentId.of(COLLECTION, 7)
    body = bson.encode({"_id": seven.value, "n": 2})

    assert [Result.PERSISTED] == results(sink, Write(seven, Entry(6, Kind.DOCUMENT, etag(body), body)))

    assert [{"n": 2, "_v": 6}] == list(users.find({}, {"_id": 0}))


def test_an_id_beside_what_is_no_text():
    """Only the id of a document is looked at, and that others have written no UTF-8 keeps nobody from it."""
    for document in ({"_id": "ada", "text": "abcd"}, {"text": "abcd", "_id": "ada"}):
        body = RawBSONDocument(bson.encode({"first": document}))["first"].raw.replace(b"abcd", b"ab\xff\xfe")
        assert "ada" == _id_of(RawBSONDocument(body, RAW_OPTIONS))


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


def test_the_versions_of_documents_of_several_collections(sink, users):
    """By member; those that MongoDB does not have are missing."""
    results(sink, write("ada", 7))
    sink.write("pages", [Write(DocumentId.of("pages", "home"), write("home", 9).entry)])
    ids = [DocumentId.of(COLLECTION, "ada"), DocumentId.of(COLLECTION, "bob"), DocumentId.of("pages", "home")]

    assert {"users/s:ada": 7, "pages/s:home": 9} == sink.versions(ids)


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
    send_alone(users, write("ada", 1, n=1))
    assert [{"_id": "ada", "n": 1, "_v": 1}] == [*users.find()]
    send_alone(users, write("ada", 3, n=3))
    with pytest.raises(DuplicateKeyError):
        send_alone(users, write("ada", 2, n=2))
    send_alone(users, deletion("ada", 2))
    assert [{"_id": "ada", "n": 3, "_v": 3}] == [*users.find()]
    send_alone(users, deletion("ada", 4))
    assert [] == [*users.find()]
