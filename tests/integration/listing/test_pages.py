"""Pages of the documents of a collection: MongoDB's, with what is pending or a dead letter."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from bson import Binary, Decimal128, ObjectId

from tests.integration.conftest import flush_all
from tests.integration.listing.conftest import ids, listed, pages
from writebehind.documents import large
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    InvalidArgumentError,
    MongoRefusesError,
    RedisUnavailableError,
    RequestError,
    TooMuchPendingError,
    UnreadableDocumentError,
)
from writebehind.mongodb.finder import Placed
from writebehind.mql.order import key_of
from writebehind.querying import listing
from writebehind.reading.read import Source
from writebehind.redis.keys import CURSOR_KEY, partition_keys

#: Strings as the driver reads them.
NO_UTF_8 = ("\udcfe", "\udcff")


def test_what_mongodb_has(users, stored):
    """Pages have their limit, in the order of ids, and the last one has no cursor."""
    stored.insert_many([{"_id": f"u{n}", "n": n} for n in (4, 2, 0, 3, 1)])

    found = pages(users, limit=2)

    assert [["u0", "u1"], ["u2", "u3"], ["u4"]] == [[one.text for one in page.ids] for page in found]
    assert [{"_id": "u0", "n": 0}, {"_id": "u1", "n": 1}] == found[0].documents()
    assert {Source.MISS} == {page.source for page in found}
    assert 1 == len(pages(users, limit=5))  # as MongoDB says that nothing follows


def test_a_collection_without_documents(users):
    """One page, which is empty."""
    assert [[]] == [page.documents() for page in pages(users)]


def test_pending_writes_are_there(pipeline, users, stored):
    """A document is in its place as soon as it is acknowledged, as it is now, and a deleted one is not."""
    stored.insert_many([{"_id": f"u{n}", "n": n} for n in range(6)])
    users.put("u1x", {"n": 1.5})
    users.put("u3", {"n": 33})
    users.delete("u2")
    users.delete("u5")
    users.put("a", {"n": -1})
    users.put("z", {"n": 9})
    expected = [("a", -1), ("u0", 0), ("u1", 1), ("u1x", 1.5), ("u3", 33), ("u4", 4), ("z", 9)]

    for limit in range(1, 9):
        assert expected == [(one["_id"], one["n"]) for one in listed(users, limit)]
    flush_all(pipeline)
    assert expected == [(one["_id"], one["n"]) for one in listed(users, 3)]


def test_ids_of_other_types(pipeline, mongo_client):
    """The order is MongoDB's across types; what has an id that none of ours can have is left out."""
    mixed, database = pipeline.collection("mixed"), mongo_client[pipeline.settings.mongodb_database]
    ours = [-3, 7, "", "Z", "a", "é", "\U0001f600", UUID(int=5), UUID(int=1 << 127), ObjectId(b"\0" * 12)]
    others = [2.5, Decimal128("1E40"), True, None, {"a": 1}, Binary(b"abc", 0), "x" * 600]
    database["mixed"].insert_many(
        [{"_id": Binary.from_uuid(one) if isinstance(one, UUID) else one} for one in ours]
    )
    database["mixed"].insert_many([{"_id": one} for one in others])
    mixed.put("b", {})
    mixed.put("f" * 24, {})
    wanted = [
        "-3",
        "7",
        "Z",
        "a",
        "b",
        "é",
        "\U0001f600",
        str(UUID(int=5)),
        str(UUID(int=1 << 127)),
        "0" * 24,
        "f" * 24,
    ]

    for limit in (1, 2, 3, 100):
        assert wanted == [one.text for page in pages(mixed, limit) for one in page.ids]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("numbers", [-(1 << 63), -1, 0, 2, 10, (1 << 63) - 1]),
        ("orders", [ObjectId(bytes([n] * 12)) for n in (0, 1, 127, 128, 255)]),
        ("keys", [UUID(int=n) for n in (0, 1, 1 << 64, (1 << 128) - 1)]),
        ("users", ["\t", " ", "%2F", "A", "a", "a b", "a/b", "ä", "\uffff", "\U0001f600"]),
    ],
)
def test_ids_of_every_type(pipeline, name, values):
    """They come in MongoDB's order, pending, in MongoDB, or half of them."""
    collection = pipeline.collection(name)
    for one in reversed(values[::2]):
        collection.put(one, {"n": 1})
    flush_all(pipeline)
    for one in values[1::2]:
        collection.put(one, {"n": 1})
    expected = [collection.id(one).text for one in values]

    found = [[one.text for page in pages(collection, limit) for one in page.ids] for limit in (1, 3)]
    flush_all(pipeline)

    assert [expected] * 2 == found
    assert expected == [one.text for page in pages(collection, 2) for one in page.ids]


def test_ids_that_are_no_utf_8(pipeline, users, monkeypatch):
    """They are passed over, unless more follow one another than a page has documents."""
    ours = [Placed(users.id(one), one, key_of(one), b"") for one in ("a", "z")]
    others = [Placed(None, one, (*key_of("")[:1], one.encode(errors="surrogateescape")), b"") for one in NO_UTF_8]

    def find(_collection, value, *, limit, most_bytes):
        assert most_bytes
        left = [one for one in (*ours, *others) if value is None or one.key > key_of(value)]
        return left[:limit], len(left) < limit

    monkeypatch.setattr(pipeline.sink, "find_after", find)
    assert ["a", "z"] == [one.text for page in pages(users, limit=2) for one in page.ids]
    with pytest.raises(UnreadableDocumentError, match="no UTF-8"):
        pages(users, limit=1)


def test_a_dead_letter_hides_what_mongodb_has(pipeline, users, stored, monkeypatch):
    """What MongoDB refuses is there as it was acknowledged, as single reads have it."""
    stored.insert_one({"_id": "ada", "n": 0})
    users.put("ada", {"n": 1})
    users.put("bob", {"n": 2})
    for member in ("users/s:ada", "users/s:bob"):
        of = pipeline.store._layout.of(member)
        entry, _ = pipeline.store.cache.get(member)
        pipeline.store._wire.call("ZREM", of.pending, member)
        letter = entry.version_digits.encode() + b'{"reason":"refused"}'
        pipeline.store._wire.call("HSET", of.dead, member, letter)
        pipeline.store._wire.call("HINCRBY", of.dead_counts, "users", 1)

    assert [{"_id": "ada", "n": 1}, {"_id": "bob", "n": 2}] == listed(users)
    monkeypatch.setattr(listing, "MOST_DEAD", -1)
    with pytest.raises(TooMuchPendingError):
        users.page()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["flushed", "changed"])
def test_what_happens_while_a_page_is_made(pipeline, users, stored, monkeypatch, when, then):
    """Flushed or written right before MongoDB answers or right after it: each document is there once."""
    stored.insert_many([{"_id": f"u{n}", "n": n} for n in range(4)])
    users.put("new", {"n": 9})
    users.delete("u1")
    users.put("u2", {"n": 22})
    find_after = pipeline.sink.find_after

    def happens() -> None:
        if then == "flushed":
            flush_all(pipeline)
        else:
            users.put("new", {"n": 10})
            users.put("u2", {"n": 23})

    def find(*arguments, **options):
        if when == "before":
            happens()
        found = find_after(*arguments, **options)
        if when == "after":
            happens()
        return found

    monkeypatch.setattr(pipeline.sink, "find_after", find)
    expected = [("new", 9), ("u0", 0), ("u2", 22), ("u3", 3)]
    if then == "changed":
        expected = [("new", 10), ("u0", 0), ("u2", 23), ("u3", 3)]
    assert expected == [(one["_id"], one["n"]) for one in users.page().documents()]


def test_many_deletions_end_a_page(users, stored, monkeypatch):
    """A page looks at so many documents; it may be empty, and the next one goes on."""
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 4)
    stored.insert_many([{"_id": f"u{n}"} for n in range(9)])
    for n in range(8):
        users.delete(f"u{n}")
    found = pages(users, limit=1)
    assert [0, 0, 1] == [len(page.ids) for page in found]
    assert ["u8"] == ids(users, limit=1)


def test_many_pending_end_a_page(pipeline, users, stored, monkeypatch):
    """A page looks at no more of what is pending either, and what MongoDB has of the rest is not taken for it."""
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 3)
    stored.insert_many([{"_id": f"u{n}", "n": 0} for n in range(10)])
    for n in range(10):
        users.delete(f"u{n}") if n % 2 else users.put(f"u{n}", {"n": 1})
    looks: list[int] = []
    read = pipeline.listing._acknowledged

    def acknowledged(wanted, unsettled):
        looks.append(len(unsettled))
        return read(wanted, unsettled)

    monkeypatch.setattr(pipeline.listing, "_acknowledged", acknowledged)
    assert [(f"u{n}", 1) for n in range(0, 10, 2)] == [(one["_id"], one["n"]) for one in listed(users)]
    assert 4 == max(looks)


def test_bytes_end_a_page(users, stored):
    """It has the document that brings it to its most, and no more."""
    stored.insert_many([{"_id": f"u{n}", "text": "x" * 1_000} for n in range(4)])
    users.put("u1", {"text": "y" * 1_000})
    page = users.page(most_bytes=1_500)
    assert ["u0", "u1"] == [one.text for one in page.ids]
    assert ["u2", "u3"] == [one.text for one in users.page(after=page.after).ids]
    assert ["u1", "u2"] == [one.text for one in users.page(after=page.after_first(1), limit=2).ids]


def test_a_document_that_this_thread_may_not_read(users, stored):
    """A page ends before it; one that begins with it is for the thread that reads large documents."""
    text = "x" * (large.LARGE_BYTES + 1)
    stored.insert_many([{"_id": "a"}, {"_id": "b", "text": text}, {"_id": "c"}, {"_id": "d", "text": text}])
    with large.bounded(large.LARGE_BYTES):
        page = users.page()
        assert ["a"] == [one.text for one in page.ids]
        with pytest.raises(large.TakesMuchError):
            users.page(after=page.after)
    assert ["b", "c", "d"] == [one.text for one in users.page(after=page.after).ids]
    users.put("c", {"n": 1})
    with large.bounded(large.LARGE_BYTES):
        assert ["c"] == [one.text for one in users.page(after=page.cursors.after("b")).ids]


def test_more_pending_than_a_page_looks_at(pipeline, users, monkeypatch):
    """It is refused: what a page does not look at would be missing in it."""
    monkeypatch.setattr(listing, "MOST_UNSETTLED", 0)
    monkeypatch.setattr(listing, "LEAST_UNSETTLED", 3)
    members = [one for n in range(100) if pipeline.store.partition_of(one := f"users/s:u{n}") == 1][:4]
    for member in members[:3]:
        users.put(DocumentId.from_member(member).text, {})
    assert 3 == len(users.page().ids)
    users.put(DocumentId.from_member(members[3]).text, {})
    with pytest.raises(TooMuchPendingError):
        users.page()


def test_cursors(pipeline, users, other, stored):
    """They hold in every process, and for their collection alone."""
    stored.insert_many([{"_id": f"u{n}"} for n in range(4)])
    after = users.page(limit=2).after
    assert ["u2", "u3"] == [one.text for one in other.collection("users").page(after=after).ids]
    wrong = [after[:-1], after + "A", "A" * len(after), "", "=", "é", "a b", "A" * 5_000, after.swapcase()]
    for one in wrong:
        with pytest.raises(RequestError, match="no cursor of users"):
            users.page(after=one)
    with pytest.raises(RequestError, match="no cursor of mixed"):
        pipeline.collection("mixed").page(after=after)
    pipeline.store._wire.call("SET", CURSOR_KEY, "other hands")  # then nobody knows the key any more
    with pytest.raises(RequestError, match="begin at the first page"):
        users.page(after=after)
    assert ["u2", "u3"] == [one.text for one in users.page(after=users.page(limit=2).after).ids]


@pytest.mark.parametrize("limit", [0, 1_001, True, "5", None])
def test_limits_that_are_none(users, limit):
    """The error says which there are."""
    with pytest.raises(InvalidArgumentError, match="from 1 to 1000"):
        users.page(limit=limit)


def test_redis_is_away(pipeline, users, stored, monkeypatch):
    """The page is MongoDB's and says so, where the settings allow it and the process knows the key of cursors."""
    stored.insert_many([{"_id": f"u{n}"} for n in range(3)])

    def away(*_arguments, **_options):
        raise RedisUnavailableError

    after = users.page(limit=1).after
    users.put("pending", {})
    monkeypatch.setattr(pipeline.store.unsettled, "of_collection", away)
    page = users.page(after=after)
    assert (["u1", "u2"], Source.BYPASS) == ([one.text for one in page.ids], page.source)
    with pytest.raises(RedisUnavailableError):
        pipeline.collection("exact").page()
    pipeline.listing._key = None
    monkeypatch.setattr(pipeline.store.cursor_key, "first", away)
    with pytest.raises(RedisUnavailableError):
        users.page()


def test_a_collation_of_the_collection(pipeline, users, monkeypatch):
    """Where MongoDB has another order, nothing is answered rather than a part."""
    find_after = pipeline.sink.find_after
    for one in ("a", "Z", "b"):
        users.put(one, {}, durability="persisted")
    monkeypatch.setattr(
        pipeline.sink, "find_after", lambda *given, **more: (find_after(*given, **more)[0][::-1], True)
    )
    with pytest.raises(MongoRefusesError, match="another order"):
        users.page()


def test_names_of_other_hands(pipeline, users):
    """What no document can be called in Redis is passed over."""
    users.put("ada", {})
    for name in ("users/i:5x", "users/i: 5", "users/o:12", "users/u:zz", "users/x:1", "users/"):
        pipeline.store._wire.call("ZADD", partition_keys(1).pending, 1, name)
    assert ["ada"] == ids(users)


def test_scan(users, stored):
    """All documents, one after the other."""
    stored.insert_many([{"_id": f"u{n}"} for n in range(5)])
    users.put("u2x", {"n": 1})
    assert ["u0", "u1", "u2", "u2x", "u3", "u4"] == [one["_id"] for one in users.scan(limit=2)]


def test_a_list_counts_what_it_returns(pipeline, users, stored):
    """Of what is pending as read from Redis, of the rest past it: however many it has looked at."""
    stored.insert_many([{"_id": f"u{n}"} for n in range(6)])
    for n in range(3, 40):
        users.put(f"v{n:02}", {"n": n})
    users.delete("u1")
    before = reads(pipeline)

    first, second = users.page(limit=3), users.page(limit=8)

    assert (3, 8) == (len(first.ids), len(second.ids))
    assert {("users", "bypass"): 3 + 5, ("users", "hit"): 3} == dict(reads(pipeline) - before)


def reads(pipeline) -> Counter[tuple[str, ...]]:
    """Reads by collection and source."""
    return Counter(
        {
            labels: int(one[0])
            for (name, labels), one in pipeline.tallies.read().items()
            if name == "writebehind_reads"
        }
    )
