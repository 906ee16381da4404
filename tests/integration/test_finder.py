"""Reading from a server that speaks MongoDB's protocol."""

from __future__ import annotations

from dataclasses import replace

import bson
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.sinks import COLLECTION, results, write
from writebehind.documents import large
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.finder import _id_of
from writebehind.mongodb.outcomes import NOTHING, Result, Write


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name][COLLECTION]


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


def test_an_id_beside_what_is_no_text():
    """Only the id of a document is looked at, and that others have written no UTF-8 keeps nobody from it."""
    for document in ({"_id": "ada", "text": "abcd"}, {"text": "abcd", "_id": "ada"}):
        body = RawBSONDocument(bson.encode({"first": document}))["first"].raw.replace(b"abcd", b"ab\xff\xfe")
        assert "ada" == _id_of(RawBSONDocument(body, RAW_OPTIONS))


def test_the_versions_of_documents_of_several_collections(sink, users):
    """By member; those that MongoDB does not have are missing."""
    results(sink, write("ada", 7))
    sink.write("pages", [Write(DocumentId.of("pages", "home"), write("home", 9).entry)])
    ids = [DocumentId.of(COLLECTION, "ada"), DocumentId.of(COLLECTION, "bob"), DocumentId.of("pages", "home")]

    assert {"users/s:ada": 7, "pages/s:home": 9} == sink.versions(ids)


def test_the_ids_of_others_are_none_of_ours(sink, users, monkeypatch):
    """MongoDB sends others by a collation. They fill no portion, or the same would be asked for without end."""
    users.insert_many([{"_id": "Ada", "text": "x" * 100}, {"_id": "Bob", "text": "x" * 100}])
    find = SyncCollection.find
    monkeypatch.setattr(SyncCollection, "find", lambda target, _, *rest, **more: find(target, {}, *rest, **more))
    monkeypatch.setattr("writebehind.mongodb.finder.MOST_BYTES", 1)
    ids = [DocumentId.of(COLLECTION, name) for name in ("ada", "bob")]

    assert (dict.fromkeys(ids, ABSENT), []) == sink.find_portion(ids, most_bytes=1)
    assert [ABSENT, ABSENT] == sink.find_states(ids)
    users.insert_one({"_id": "zoe"})
    assert [False, True] == [one.exists for one in sink.find_many([ids[0], DocumentId.of(COLLECTION, "zoe")])]


def test_states_are_entries_without_bodies(sink, users, monkeypatch):
    """However few take as much as one answer may bring."""
    results(sink, *(write(name, 5, text="x" * 100) for name in "abc"))
    monkeypatch.setattr("writebehind.mongodb.finder.MOST_BYTES", 1)
    ids = [DocumentId.of(COLLECTION, name) for name in "abcde"]

    states = sink.find_states(ids)

    assert [replace(one, body=b"") for one in sink.find_many(ids)] == states
    assert [5, 5, 5, 0, 0] == [one.version for one in states]


def test_no_more_is_taken_than_a_portion(sink, users, monkeypatch):
    """What comes behind is left on the server, and to the next portion; also where it is as full as can be."""
    results(sink, *(write(name, 5, text="x" * 100) for name in "abcd"))
    size = len(bson.encode(users.find_one({"_id": "a"})))
    taken, find = [], SyncCollection.find

    class Taken:
        """What a query has found; notes which documents somebody takes."""

        def __init__(self, cursor) -> None:
            self.cursor = cursor

        def __enter__(self):
            return (taken.append(one["_id"]) or one for one in self.cursor)

        def __exit__(self, *_) -> None:
            self.cursor.close()

    monkeypatch.setattr(SyncCollection, "find", lambda *asked, **more: Taken(find(*asked, **more)))
    ids = [DocumentId.of(COLLECTION, name) for name in "abcd"]

    found, left = sink.find_portion(ids, most_bytes=2 * size)

    assert (ids[:2], ids[2:]) == ([*found], left)
    assert ["a", "b"] == taken


def test_a_document_as_large_as_a_thread_may_read(sink, users):
    """It is found; one that is a byte larger is not taken for absent."""
    results(sink, write("ada", 5, text="x" * 100))
    size, ada = len(bson.encode(users.find_one())), DocumentId.of(COLLECTION, "ada")

    with large.bounded(size):
        assert [5] == [one.version for one in sink.find_many([ada])]
    with large.bounded(size - 1), pytest.raises(large.TakesMuchError):
        sink.find_many([ada])


def test_holders_of_a_value(sink, users):
    """Two, as one may be the document that asks; with what stands in the place of a version, if anything does."""
    users.insert_many([{"_id": "ada", "seat": 1, "_v": 5}, {"_id": "bob", "seat": 1}, {"_id": "zoe", "seat": 1}])

    assert [("ada", 5), ("bob", NOTHING)] == sink.find_holders(COLLECTION, "seat", 1)
