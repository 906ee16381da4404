"""Documents of every size come back as they were written, by every way that leads to MongoDB and back."""

from __future__ import annotations

import pytest
from bson import Int64

from tests.integration.conftest import flush_all
from tests.sizes import FOREIGN, FOREIGN_LIMIT, LIMIT, THRESHOLDS, VERSION_BYTES, sized
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.codec import decode
from writebehind.documents.entry import Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import DocumentTooLargeError

#: And such that reach a threshold with their version.
SIZES = sorted({*THRESHOLDS, *(size - VERSION_BYTES for size in THRESHOLDS[1:])})


@pytest.fixture(params=SIZES)
def document(request):
    return sized("ada", request.param, name="Ada")


@pytest.fixture
def written(pipeline, users, document):
    """What was acknowledged of it, and is in MongoDB and no longer in Redis."""
    done = users.put("ada", document)
    flush_all(pipeline)
    assert pipeline.store.cache.invalidate_many(["users/s:ada"])[0]
    return done


def test_a_document_comes_back_as_it_was_written(pipeline, users, document, written):
    """With the same fields and the same ETag, read alone or with others."""
    assert document == users.get("ada")
    assert written.etag == users.read("ada").entry.etag
    pipeline.store.cache.invalidate_many(["users/s:ada"])[0]
    [entry], _ = users.read_many(["ada"])
    assert (written.etag, written.version) == (entry.etag, entry.version)


def test_a_document_can_be_changed_after_it_was_read(users, document, written):
    """A patch, an increment, and a condition with the ETag that was acknowledged."""
    users.increment("ada", {"visits": 1})
    users.put("ada", document, if_match=[users.read("ada").entry.etag])

    [done] = users.bulk(
        [BulkOperation("patch", "ada", change=lambda old: old | {"name": "Lovelace"}, if_match=[written.etag])]
    )

    assert written.id == done.id
    assert document | {"name": "Lovelace"} == users.get("ada")


def test_a_document_is_found_by_every_query(pipeline, document, written):
    """By a unique field and by a filter."""
    version, etag = written.version, written.etag
    sink = pipeline.sink

    found, by_field = sink.find_by("users", "name", "Ada")
    [by_filter] = sink.find_many([DocumentId.of("users", "ada")])
    _, place = sink.find_places("users", {"name": "Ada"}, {"text": 1}, 1)

    assert DocumentId.of("users", "ada") == found
    assert {(version, etag)} == {(one.version, one.etag) for one in (by_field, by_filter)}
    assert isinstance(place, bytes)


@pytest.mark.parametrize("size", [*SIZES, 5_000_000])
def test_documents_of_all_sizes_by_their_values(settings, valkey_wire, mongo_client, size):
    """By a unique field and by a query that sorts by what makes them large, pending or not."""
    by_name = {"filter": {"name": {"$gte": "A"}}, "sort": {"text": 1}, "limit": 2}
    asked = {"lookup": {"name": "string"}, "queries": {"by_name": by_name}, "flush_delay_ms": 60_000}
    values = {"collections": {"users": asked}, "max_document_bytes": 8_000_000}
    large = Settings.model_validate(settings.model_dump() | values)
    pipeline = Pipeline(large, wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")
    document = sized("ada", size, name="Ada")
    users.put("ada", document)
    for forget in (lambda: None, lambda: flush_all(pipeline), lambda: valkey_wire.call("FLUSHALL")):
        forget()
        one, read = users.look_up("name", "Ada")
        assert ("ada", document) == (one.text, decode(read.entry.body))
        assert [document] == users.query("by_name") == users.query("by_name")
        shorter = sized("eve", size, name="Eve", n=1)
        users.put("eve", shorter)
        assert [shorter, document] == users.query("by_name")
        users.delete("eve")


def test_our_own_flush_is_known_again(pipeline, users, document, written):
    """An event of the change stream that says what Redis has is nobody else's, whatever the document's size."""
    users.get("ada")
    one = DocumentId.of("users", "ada")

    applied = pipeline.applier.apply(
        [OutsideChange(one, "insert", written.version // 1000, pipeline.sink.find(one))]
    )

    assert (1, 0, 0) == (applied.ours, applied.invalidated, applied.conflicts)


def test_a_deleted_document_that_came_back_is_not_shown(pipeline, users, document, written):
    """A late flusher brings it back: its version is seen to be older than the deletion."""
    old = pipeline.sink._database["users"].find_one({"_id": "ada"})
    users.delete("ada")
    flush_all(pipeline)
    pipeline.sink._database["users"].insert_one(old)
    pipeline.store._wire.call("DEL", pipeline.store.cache.key("users/s:ada"))

    assert Kind.DELETED is users.read("ada").entry.kind


def test_small_documents_are_one_round_trip_beside_large_ones(pipeline, users, monkeypatch):
    """Small ones come at once; each of the others, and one that is nowhere, in its place and as it is."""
    users.put("large", sized("large", 1_000_000))
    for n in range(98):
        users.put(f"u{n}", sized(f"u{n}", THRESHOLDS[n % 3]))
    calls, trips = pipeline.store._wire.exchange, []

    def noted(commands):
        trips.append({command[0] for command in commands})
        return calls(commands)

    monkeypatch.setattr(pipeline.store._wire, "exchange", noted)
    names = [f"u{n}" for n in range(98)]

    found = [entry for entry, _ in users.read_each(names)]
    assert [sized(name, THRESHOLDS[n % 3]) for n, name in enumerate(names)] == [decode(one.body) for one in found]
    assert [{"GETRANGE", "PTTL"}] == [one for one in trips if not one & {"INFO", "TIME"}]  # but for vital signs

    names[50:50] = ["nobody", "large"]
    found = [entry for entry, _ in users.read_each(names)]
    assert ["nobody"] == [name for name, entry in zip(names, found, strict=True) if not entry.exists]
    assert sized("large", 1_000_000) == decode(found[51].body)
    assert sized("u97", THRESHOLDS[97 % 3]) == decode(found[-1].body)


@pytest.mark.parametrize("size", [LIMIT - VERSION_BYTES, LIMIT - 1, LIMIT])
def test_the_largest_documents_that_may_be_written(pipeline, users, size):
    """They come back from MongoDB as they were written, and a change that would make them too large is refused."""
    document = sized("ada", size)
    done = users.put("ada", document)
    flush_all(pipeline)
    assert pipeline.store.cache.invalidate_many(["users/s:ada"])[0]

    assert (document, done.etag) == (users.get("ada"), users.read("ada").entry.etag)
    with pytest.raises(DocumentTooLargeError):
        users.increment("ada", {"more than fits": 1})
    with pytest.raises(DocumentTooLargeError):
        users.put("ada", sized("ada", LIMIT + 1))
    assert done.version == users.read("ada").entry.version


@pytest.mark.parametrize(("size", "versioned"), [*((size, False) for size in FOREIGN), (FOREIGN_LIMIT, True)])
def test_the_largest_documents_of_others(pipeline, users, mongo_client, size, versioned):
    """They are read, alone and with others, and seen to change; what clients make of them is written over them."""
    collection = pipeline.sink._database["users"]
    version = {"_v": Int64(7)} if versioned else {}
    document = sized("ada", size - len(version) * VERSION_BYTES)
    collection.insert_one(document | version)
    one = DocumentId.of("users", "ada")

    read = users.read("ada").entry
    assert (document, 7 if versioned else 0) == (decode(read.body), read.version)
    [entry], _ = users.read_many(["ada"])
    assert (read.etag, read.version) == (entry.etag, entry.version)
    applied = pipeline.applier.apply([OutsideChange(one, "insert", 1, pipeline.sink.find(one))])
    assert (0, 0) == (applied.invalidated, applied.conflicts)

    with pytest.raises(DocumentTooLargeError):
        users.increment("ada", {"visits": 1})
    written = users.put("ada", {"n": 1}, if_match=[read.etag])
    flush_all(pipeline)
    assert {"_id": "ada", "n": 1, "_v": written.version} == dict(collection.find_one({"_id": "ada"}))

    collection.replace_one({"_id": "ada"}, document | version)
    pipeline.store.cache.invalidate_many(["users/s:ada"])[0]
    assert document == users.get("ada")
    users.delete("ada")
    flush_all(pipeline)
    assert collection.find_one({"_id": "ada"}) is None
