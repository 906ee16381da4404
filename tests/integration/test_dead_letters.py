"""Dead letters: kept, found, tried again, and given up."""

from __future__ import annotations

import json
import time
from base64 import b64decode, urlsafe_b64encode
from dataclasses import replace

import bson
import pytest
from click.testing import CliRunner

from tests.commits import commit_one
from tests.dead_letters import letters_of
from writebehind import Pipeline
from writebehind.cli import cli
from writebehind.documents import codec
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import DocumentNotFoundError, RequestError, TooManyDeadLettersError
from writebehind.flushing import dead_letters
from writebehind.flushing.dead_letters import DeadLetter, DeadLetters, Filter, Found, Reason
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.store import CommitRequest, Store

PARTITIONS = 4


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, partitions=PARTITIONS, max_pending=10_000, tombstone_ttl_ms=60_000)


@pytest.fixture
def letters(store, hints) -> DeadLetters:
    return letters_of(store, hints)


def document_id(name: str, collection: str = "users") -> DocumentId:
    return DocumentId.of(collection, name)


def put(store: Store, one: DocumentId, **fields: object) -> Entry:
    body = codec.encode({"_id": one.value} | fields)
    entry = Entry.loaded(body, 0)
    return replace(entry, version=commit_one(store, CommitRequest(one.member, entry.payload, 60_000)).version)


def bury(
    store: Store, name: str, collection: str = "users", *, fields: dict | None = None, **changes: object
) -> DeadLetter:
    """Write a document and let it be refused, or lose a conflict; or lose its entry."""
    one = document_id(name, collection)
    entry = put(store, one, **(fields or {"n": 1}))
    if changes.get("kind") is Kind.DELETED:
        entry = replace(
            DELETED, version=commit_one(store, CommitRequest(one.member, DELETED.payload, 60_000)).version
        )
    if changes.get("reason") is Reason.LOST:
        store._wire.call("DEL", store.cache.key(one.member))
        letter = DeadLetter.lost(one.member)
        assert Burial.BURIED is store.pending.bury(one.member, "", letter.dump())
        return letter
    letter = DeadLetter(one.member, Reason.REFUSED, 11000, "dup", entry.version, Kind.DOCUMENT, 2, time.time())
    letter = replace(letter, **changes)
    conflicts = letter.reason is Reason.CONFLICT
    assert Burial.BURIED is store.pending.bury(
        one.member, entry.version_digits, letter.dump(), drop_entry=conflicts
    )
    return letter


def is_pending(store: Store, one: DocumentId) -> bool:
    return (
        one.member in store.pending.unsettled([one.member])
        and not store.metrics.backlog()[store.partition_of(one.member)].dead
    )


def test_a_letter_survives_its_way_to_redis():
    """What is written is read again."""
    letter = DeadLetter("users/s:ada", Reason.CONFLICT, 1, "é", 5, Kind.DELETED, 2, 1.5, over=7)
    assert letter == DeadLetter.parse(letter.dump())


def test_show(letters, store):
    """A letter is shown with its document, as it was acknowledged, and with when and why it was refused."""
    letter = bury(store, "ada")

    shown = json.loads(letters.show(document_id("ada")).as_json())

    assert {"_id": "ada", "n": 1} == shown.pop("document")
    assert {"_id": "ada", "n": 1} == bson.decode(b64decode(shown.pop("bson")))
    assert {
        "collection": "users",
        "id": "ada",
        "reason": "refused",
        "code": 11000,
        "code_name": "DuplicateKey",
        "message": "dup",
        "operation": "put",
        "version": letter.version,
        "acknowledged_at": letter.version / 1e6,
        "failed_at": letter.failed_at,
        "attempts": 2,
    } == shown
    with pytest.raises(DocumentNotFoundError, match="users/bob is no dead letter"):
        letters.show(document_id("bob"))


@pytest.mark.parametrize("limit", [1, 7, 300, 1000])
def test_pages(letters, store, limit):
    """Every letter is on one page, whatever the size of the pages, and the counts are right."""
    names = {f"u{n}" for n in range(250)}
    for name in names:
        bury(store, name)
    bury(store, "home", "pages")

    pages, cursor = [], ""
    while True:
        page = letters.page(Filter(collection="users"), cursor=cursor, limit=limit)
        pages.append([one.letter.id.text for one in page.letters])
        if not (cursor := page.cursor):
            break

    assert all(len(page) == limit for page in pages[:-1])
    assert sorted(names) == sorted(name for page in pages for name in page)
    assert {"users": 250, "pages": 1} == letters.by_collection()
    assert 251 == letters.count()


@pytest.mark.parametrize("cursor", ["x", "MTIz", "WzEsMiwzXQ==", "bnVsbA=="])
def test_a_cursor_that_is_none(letters, cursor):
    """What no page had as its cursor is refused."""
    with pytest.raises(RequestError, match="begin without one"):
        letters.page(Filter(), cursor=cursor)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), "abcd"),
        (Filter(collection="users"), "abc"),
        (Filter(collection="user"), ""),
        (Filter(reason="conflict"), "b"),
        (Filter(code=121), "c"),
        (Filter(after=200.0), "cd"),
        (Filter(before=200.0), "ab"),
        (Filter(after=100.0, before=150.0, code=11000), "ab"),
    ],
)
def test_filters(letters, store, wanted, names):
    """A filter means the letters that fit all of it."""
    bury(store, "a", failed_at=100.0)
    bury(store, "b", failed_at=149.0, reason=Reason.CONFLICT)
    bury(store, "c", failed_at=200.0, code=121)
    bury(store, "d", "pages", failed_at=300.0)

    assert sorted(names) == sorted(one.letter.id.text for one in letters.all(wanted))


def test_replay(letters, store, hints):
    """A replayed document is pending with the version that it had, a flush task is wanted, and no letter left."""
    ada = document_id("ada")
    letter = bury(store, "ada")
    store.pending.release(store.partition_of(ada.member), "nobody")

    assert {ada.member: letter.version} == letters.replay([letters.show(ada)])

    entry, ttl = store.cache.get(ada.member)
    assert (letter.version, -1) == (entry.version, ttl)
    assert is_pending(store, ada)
    assert [(store.partition_of(ada.member), 0)] == [(hint.partition, hint.delay_ms) for hint in hints]
    assert ({}, 0) == (letters.by_collection(), letters.count())


def test_replays_ask_for_one_task_that_comes_soon(letters, store, hints):
    """One for all of them, and not none because a task comes much later."""
    names = [name for name in map(str, range(40)) if store.partition_of(document_id(name).member) == 0][:3]
    for name in names[:2]:
        bury(store, name)
    store._wire.call("DEL", partition_keys(0).scheduled)
    put(store, document_id(names[2]))

    assert 2 == len(letters.replay(letters.all(Filter())))

    assert 1 == len(hints)


def test_replay_of_what_has_changed(letters, store):
    """A letter that another write has revived, or that was replayed before, is left alone."""
    ada, bob = document_id("ada"), document_id("bob")
    bury(store, "ada")
    bury(store, "bob")
    seen = [letters.show(ada), letters.show(bob)]
    newer = put(store, ada, n=2)
    letters.replay(seen[1:])

    assert {} == letters.replay(seen)
    assert newer.version == store.cache.get(ada.member)[0].version
    assert {} == letters.by_collection()


def test_replay_of_a_conflict(letters, store):
    """The letter's document becomes the newest: over what MongoDB has, and over what is cached of that."""
    ada = document_id("ada")
    body = codec.encode({"_id": "ada", "n": "ours"})
    letter = bury(store, "ada", fields={"n": "ours"}, reason=Reason.CONFLICT)
    store.loads.get_or_lease(ada.member, "reader", life_ms=5_000)
    store.loads.fill(
        ada.member, "reader", Entry.loaded(codec.encode({"_id": "ada"}), letter.version + 5), ttl_ms=5_000
    )
    store._wire.call("SET", partition_keys(store.partition_of(ada.member)).load(ada.member), "late")

    assert {} == letters.replay([letters.show(ada)])
    [version] = letters.replay([letters.show(ada)], conflicts=True).values()

    assert version > letter.version
    entry, ttl = store.cache.get(ada.member)
    assert (version, body, -1) == (entry.version, entry.body, ttl)
    assert is_pending(store, ada)
    store._wire.call("DEL", partition_keys(store.partition_of(ada.member)).entry(ada.member))
    assert not store.loads.fill(ada.member, "late", entry, ttl_ms=5_000)


def test_replay_of_a_deletion_in_conflict(letters, store):
    """A deletion that MongoDB was ahead of becomes the newest state."""
    bury(store, "ada", reason=Reason.CONFLICT, kind=Kind.DELETED)

    letters.replay([letters.show(document_id("ada"))], conflicts=True)

    assert Kind.DELETED is store.cache.get(document_id("ada").member)[0].kind


def test_what_is_lost_cannot_be_replayed(letters, store):
    """Of a document whose entry is gone there is nothing to try: its letter stays."""
    bury(store, "ada", reason=Reason.LOST)
    letter = bury(store, "bob")
    store._wire.call("DEL", f"wb:{{{store.partition_of('users/s:bob')}}}:entry:users/s:bob")

    assert {} == letters.replay(list(letters.all(Filter())))
    assert {"users": 2} == letters.by_collection()
    assert b"" == letters.show(document_id("bob")).letter.body
    assert letter.version


def test_discard(letters, store):
    """Readers see what MongoDB has from then on: the entry is gone, and nobody's older load is cached."""
    ada = document_id("ada")
    bury(store, "ada")

    assert 1 == letters.discard([letters.show(ada)])

    assert (None, -2) == store.cache.get(ada.member)
    assert store.loads.get_or_lease(ada.member, "reader", life_ms=5_000).may_load
    assert {} == letters.by_collection()


def test_discard_of_what_has_changed(letters, store):
    """A newer write is never discarded with an old letter."""
    ada = document_id("ada")
    bury(store, "ada")
    seen = letters.show(ada)
    newer = put(store, ada, n=2)

    assert 0 == letters.discard([seen])
    assert newer.version == store.cache.get(ada.member)[0].version


def test_discard_of_a_conflict_leaves_what_is_cached(letters, store):
    """What readers see of a conflict is MongoDB's version already."""
    ada = document_id("ada")
    bury(store, "ada", reason=Reason.CONFLICT)
    store.loads.get_or_lease(ada.member, "reader", life_ms=5_000)
    mongodbs = Entry.loaded(codec.encode({"_id": "ada"}), 1 << 50)
    store.loads.fill(ada.member, "reader", mongodbs, ttl_ms=5_000)

    letters.discard([letters.show(ada)])

    assert mongodbs == store.cache.get(ada.member)[0]


def test_a_dead_letter_is_not_invalidated(store):
    """The entry of a dead letter has its only body, and outlives a change that somebody made in MongoDB."""
    bury(store, "ada")

    assert not store.cache.invalidate_many(["users/s:ada"])[0]
    assert store.cache.get("users/s:ada")[0].exists


def test_what_another_flusher_has_settled_is_not_buried(store, letters):
    """Of two flushers, the one that fails says nothing about what the other has brought to MongoDB."""
    ada = document_id("ada")
    entry = put(store, ada)
    settled = Settled(ada.member, entry.version_digits, 60_000)
    store.pending.settle(store.partition_of(ada.member), [settled], delay_ms=0)
    store.pending.bury(ada.member, entry.version_digits, b"{}")

    assert 0 == letters.count()


def test_what_is_buried_and_then_persisted_is_no_letter(store, letters):
    """When one flusher has given a version up and another brings it to MongoDB, it is not dead."""
    ada = document_id("ada")
    letter = bury(store, "ada")
    settled = Settled(ada.member, f"{letter.version:016d}", 60_000)
    store.pending.settle(store.partition_of(ada.member), [settled], delay_ms=0)

    assert (0, {}) == (letters.count(), letters.by_collection())
    assert 0 < store.cache.get(ada.member)[1] <= 60_000


# On MongoDB -------------------------------------------------------------------------------------------


@pytest.fixture
def refused(pipeline: Pipeline) -> Pipeline:
    """A pipeline of whose 100 documents MongoDB has refused 3."""
    users = pipeline.collection("users")
    pipeline.sink._database["users"].create_index("mail", unique=True)
    users.put("first", {"mail": "same"})
    flush(pipeline)
    for n in range(99):
        users.put(f"u{n}", {"mail": "same" if n < 3 else n})
    flush(pipeline)
    return pipeline


def flush(pipeline: Pipeline) -> None:
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.flush(partition)


def test_neighbours_are_persisted(refused):
    """MongoDB has all but the three; readers see them all, and why."""
    assert 97 == refused.sink._database["users"].count_documents({})
    assert {"_id": "u2", "mail": "same"} == refused.collection("users").get("u2")
    found = list(refused.dead_letters.all(Filter()))
    assert {"u0", "u1", "u2"} == {one.letter.id.text for one in found}
    assert {(11000, 2, 0)} == {(one.letter.code, one.letter.attempts, one.letter.over) for one in found}


def test_too_many_are_back_pressure(refused, monkeypatch):
    """At the limit a new document of that collection is refused; one of another collection is not."""
    monkeypatch.setattr("writebehind.redis.load_sample.SAMPLE_EVERY_S", 0.0)
    limited = refused.settings.collections["users"].model_copy(update={"max_dead_letters": 3})
    settings = refused.settings.model_copy(
        update={"collections": {**refused.settings.collections, "users": limited}}
    )
    pipeline = Pipeline(settings, wire=refused.store._wire, client=refused._client)
    users = pipeline.collection("users")

    with pytest.raises(TooManyDeadLettersError, match="refused 3 documents of users, and 3 may stand"):
        users.put("new", {"mail": "new"})
    pipeline.collection("slow").put("new", {})
    pipeline.dead_letters.discard(list(pipeline.dead_letters.all(Filter()))[:1])
    users.put("new", {"mail": "new"})


def test_on_the_command_line(refused, monkeypatch, tmp_path):
    """List, show, export, replay, and discard, from the command line to MongoDB."""
    monkeypatch.setenv("REDIS_URL", refused.settings.redis_url)
    monkeypatch.setenv("MONGODB_URL", refused.settings.mongodb_url)
    monkeypatch.setenv("MONGODB_DATABASE", refused.settings.mongodb_database)
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(refused.settings.partitions))
    monkeypatch.setenv("WRITEBEHIND_ALLOW_UNLISTED", "true")

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli, ["dead-letters", *arguments], catch_exceptions=False)
        assert (status, result.output) == (result.exit_code, result.output)
        return result.stdout

    assert "3 of 3 dead letters" in run("list")
    assert {"u0", "u1", "u2"} == {json.loads(line)["id"] for line in run("list", "--json").splitlines()}
    assert "0 of 3" in run("list", "--code", "121")
    assert {"_id": "u1", "mail": "same"} == json.loads(run("show", "users", "u1"))["document"]
    run("export", "--output", str(tmp_path / "letters"))
    lines = (tmp_path / "letters").read_text().splitlines()
    assert {"u0", "u1", "u2"} == {json.loads(line)["document"]["_id"] for line in lines}
    run("replay", status=2)
    run("replay", "users", "u1", "--all", status=2)
    run("discard", "--all", status=2)
    run("replay", "--all", "--wait", status=1)
    assert 3 == refused.dead_letters.count()

    refused.sink._database["users"].drop_index("mail_1")
    assert "1 replayed" in run("replay", "users", "u1", "--wait")
    assert "1 discarded" in run("discard", "users", "u0", "--yes")
    assert refused.collection("users").get("u0") is None
    assert "1 replayed" in run("replay", "--collection", "users", "--wait")

    found = {one["_id"] for one in refused.sink._database["users"].find({"mail": "same"})}
    assert {"first", "u1", "u2"} == found
    assert 0 == refused.dead_letters.count()


def test_bodies_are_whole(pipeline):
    """The document of a letter is byte for byte what was acknowledged, for every type of BSON."""
    document = {"_id": "ada", "d": bson.Decimal128("1.50"), "b": b"\x00", "n": {"i": bson.Int64(1)}}
    written = pipeline.collection("users").put("ada", document)
    entry = pipeline.store.cache.get("users/s:ada")[0]
    letter = DeadLetter("users/s:ada", Reason.REFUSED, 1, "", written.version, Kind.DOCUMENT, 1, 0.0)
    pipeline.store.pending.bury("users/s:ada", entry.version_digits, letter.dump())

    found: Found = next(pipeline.dead_letters.all(Filter()))

    assert entry.body == found.letter.body
    assert document == codec.decode(found.letter.body)


def cursor_of(*place: object) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


@pytest.mark.parametrize(
    "place",
    [
        (-1_000_000_000_000, "0", ""),
        (-1, "0", ""),
        (4, "0", ""),
        (1 << 70, "0", ""),
        (True, "0", ""),
        (0.0, "0", ""),
        (0, "-1", ""),
        (0, "٣", ""),
        (0, "²", ""),
        (0, "1_0", ""),
        (0, "18446744073709551616", ""),
        (0, "9" * 5000, ""),
        (0, 0, ""),
        (0, "0", None),
        (0, "0", "x" * 2000),
        (0, "0"),
        (0, "0", "", ""),
    ],
)
def test_a_cursor_that_leads_nowhere(letters, place):
    """A place that no page ends at is refused at once: it costs no scan, and no memory."""
    with pytest.raises(RequestError, match="begin without one"):
        letters.page(Filter(), cursor=cursor_of(*place))


def test_only_keys_of_possible_partitions_are_kept():
    """Numbers from outside cannot fill the cache of keys."""
    for number in (-1, MOST_PARTITIONS, 10**12):
        with pytest.raises(ValueError, match="is no partition"):
            partition_keys(number)


def test_a_page_ends_at_so_many_bytes(letters, store, monkeypatch):
    """A page, and what is read for it at once, does not grow with the documents; the next one goes on."""
    monkeypatch.setattr(dead_letters, "MOST_PAGE_BYTES", 100_000)
    for n in range(30):
        bury(store, f"u{n}", fields={"text": "x" * 20_000})
    pages = list(letters.pages(Filter()))
    assert all(sum(len(one.letter.body) for one in page.letters) < 130_000 for page in pages)
    assert 30 == len({one.letter.member for page in pages for one in page.letters})
    [page] = letters.pages(Filter(), bodies=False)
    assert {b""} == {one.letter.body for one in page.letters}


def test_a_page_ends_after_so_many_letters_that_do_not_fit(letters, store, monkeypatch):
    """A filter that nothing fits does not keep a thread until all is looked at."""
    monkeypatch.setattr(dead_letters, "MOST_LOOKED_AT", 25)
    for n in range(100):
        bury(store, f"u{n}")
    pages = list(letters.pages(Filter(code=7)))
    assert len(pages) > 1
    assert not any(page.letters for page in pages)
