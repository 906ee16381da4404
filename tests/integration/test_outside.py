"""Changes of others in MongoDB, on real servers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import bson
import pytest
from bson import Int64

from tests.flushing import flusher_of as flusher_with
from tests.flushing import limits
from tests.integration.conftest import flush_all
from tests.integration.test_listener import running, wait_to_listen
from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.change_stream.applier import Applier, OutsideChange, _judge, _Known, _Verdict
from writebehind.collection import Collection
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import split_version
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letters import DeadLetter, Filter
from writebehind.flushing.flusher import Flusher
from writebehind.mongodb.sink import Sink
from writebehind.redis.keys import partition_keys
from writebehind.redis.store import Store

LATER_MS = 60_000


@pytest.fixture
def users(pipeline):
    return pipeline.collection("slow")


@pytest.fixture
def stored(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]["slow"]


def change(operation: str, name: str, document: dict | None = None, *, at_ms: int | None = None) -> OutsideChange:
    """What MongoDB reports; by default it has happened just now."""
    after = None if document is None else Entry.loaded(*split_version(bson.encode(document)))
    at_ms = int(time.time() * 1000) if at_ms is None else at_ms
    return OutsideChange(DocumentId.of("slow", name), operation, at_ms, after)


def with_slow(pipeline: Pipeline, **changes: object) -> Pipeline:
    """The same with other settings of the collection."""
    settings = pipeline.settings
    slow = settings.collections["slow"].model_copy(update=changes)
    config = settings.model_copy(update={"collections": settings.collections | {"slow": slow}})
    return Pipeline(config, wire=pipeline.store._wire, client=pipeline._client)


@pytest.fixture
def yielding(pipeline) -> Pipeline:
    """A pipeline whose collection has `on_conflict = "theirs"`."""
    return with_slow(pipeline, on_conflict="theirs")


class PausingSink(Sink):
    """Does something else between a bulk write and what its flusher does next."""

    between: Callable[[], object]

    def write(self, *arguments, **options):
        outcomes = super().write(*arguments, **options)
        self.between()
        return outcomes


def flusher_of(pipeline: Pipeline, between: Callable[[], object]) -> Flusher:
    """A flusher that does something else before it settles what it has written."""
    sink = PausingSink(pipeline._client, pipeline.settings.mongodb_database, timeout_ms=5_000)
    sink.between = between
    return flusher_with(pipeline, limits(100, 5_000, budget_s=1), sink=sink)


def flush(pipeline: Pipeline, name: str, between: Callable[[], object]) -> None:
    """Flush a document, and do something else before it is settled."""
    store, flusher = pipeline.store, flusher_of(pipeline, between)
    member = DocumentId.of("slow", name).member
    partition = store.partition_of(member)
    store._wire.call("ZADD", partition_keys(partition).pending, 0, member)
    flusher.flush(partition)


def letters(pipeline: Pipeline) -> list[DeadLetter]:
    return [one.letter for one in pipeline.dead_letters.page(Filter()).letters]


def outcome(pipeline: Pipeline, stored) -> object:
    """What MongoDB has of `ada`, which is what readers see."""
    there = stored.find_one({"_id": "ada"})
    assert (there or {}).get("n") == (pipeline.collection("slow").get("ada") or {}).get("n")
    return there and there["n"]


def is_cached(pipeline: Pipeline, name: str) -> bool:
    return pipeline.store.cache.get(DocumentId.of("slow", name).member)[0] is not None


def test_what_the_pipeline_writes_is_its_own(pipeline, users, stored):
    """The events of its own writes invalidate nothing, before they are settled, after, and when they come late."""
    for n in range(3):
        users.put("ada", {"n": n})
        [entry] = [users.read("ada").entry]
        event = change("insert", "ada", bson.decode(entry.body) | {"_v": bson.Int64(entry.version)})
        assert event.after == entry
        assert (1, 0, 0) == counts(pipeline, event)
        flush_all(pipeline)
        assert (1, 0, 0) == counts(pipeline, event)
    late = change("replace", "ada", {"_id": "ada", "n": 0, "_v": bson.Int64(entry.version - 5)})
    assert (1, 0, 0) == counts(pipeline, late)
    assert is_cached(pipeline, "ada")
    users.delete("ada")
    assert (1, 0, 0) == counts(pipeline, change("delete", "ada"))
    flush_all(pipeline)
    assert (2, 0, 0) == counts(pipeline, change("delete", "ada"), late)
    users.put("ada", {"n": 5})
    assert (2, 0, 0) == counts(pipeline, change("delete", "ada"), late)
    flush_all(pipeline)
    assert (1, 0, 0) == counts(pipeline, change("delete", "ada"))
    assert 5 == users.get("ada")["n"]


def counts(pipeline: Pipeline, *changes: OutsideChange) -> tuple[int, int, int]:
    applied = pipeline.applier.apply(changes)
    return applied.ours, applied.invalidated, applied.conflicts


@pytest.mark.parametrize("operation", ["update", "replace", "replace with the version", "delete", "insert"])
def test_what_others_write_is_seen(pipeline, users, stored, operation):
    """A cached document is dropped, and so is the knowledge that there is none."""
    if operation == "insert":
        assert users.get("ada") is None
        stored.insert_one({"_id": "ada", "n": 7})
    else:
        users.put("ada", {"n": 1})
        flush_all(pipeline)
        if operation == "update":
            stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
        elif operation == "delete":
            stored.delete_one({"_id": "ada"})
        else:
            version = stored.find_one()["_v"]
            stored.replace_one({"_id": "ada"}, {"n": 7} | ({"_v": version} if "version" in operation else {}))
    after = stored.find_one({"_id": "ada"})
    event = change(operation.split()[0], "ada", after)
    assert (0, 1, 0) == counts(pipeline, event)
    assert (after and 7) == ((users.get("ada") or {}).get("n"))
    assert (1, 0, 0) == counts(pipeline, event)  # again: the cache has it by now


def test_a_load_on_its_way_is_not_kept(pipeline, users, stored):
    """What was loaded before a change is not cached after it."""
    member = DocumentId.of("slow", "ada").member
    stored.insert_one({"_id": "ada", "n": 1})
    lookup = pipeline.store.loads.get_or_lease(member, "reader", life_ms=5_000)
    assert lookup.may_load
    loaded = pipeline.sink.find(DocumentId.of("slow", "ada"))
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    assert (0, 0, 0) == counts(pipeline, change("update", "ada", {"_id": "ada", "n": 2}))
    assert not pipeline.store.loads.fill(member, "reader", loaded, ttl_ms=60_000)
    assert 2 == users.get("ada")["n"]


def test_a_conflict(pipeline, users, stored):
    """While a write is pending, what others do is noted with both sides, and the pending write stands."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    users.put("ada", {"n": 2})
    stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    assert (0, 0, 1) == counts(pipeline, change("update", "ada", {"_id": "ada", "n": 7}))
    [noted] = pipeline.conflicts.latest()
    assert {"collection": "slow", "id": "ada", "operation": "update", "policy": "ours"}.items() <= noted.items()
    assert ({"_id": "ada", "n": 2}, {"_id": "ada", "n": 7}) == (
        noted["ours"]["document"],
        noted["theirs"]["document"],
    )
    assert 1 == pipeline.status()["totals"]["conflicts"]
    flush_all(pipeline)
    assert 2 == stored.find_one()["n"] == users.get("ada")["n"]


def test_a_conflict_that_they_win(yielding, stored):
    """With `theirs` the pending write becomes a dead letter with its document, and readers see MongoDB's."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    stored.replace_one({"_id": "ada"}, {"n": 7})
    assert (0, 0, 1) == counts(yielding, change("replace", "ada", {"_id": "ada", "n": 7}))
    assert (7, 0) == (users.get("ada")["n"], yielding.status()["pending"])
    [letter] = letters(yielding)
    assert ("conflict", {"_id": "ada", "n": 2}) == (letter.reason, bson.decode(letter.body))
    stored.update_one({"_id": "ada"}, {"$set": {"n": 8}})
    assert (0, 1, 0) == counts(yielding, change("update", "ada", {"_id": "ada", "n": 8}))
    assert 8 == users.get("ada")["n"]  # a letter that has its body keeps nothing in the cache


def their_change(stored, how: str) -> OutsideChange:
    """Somebody changes `ada` in MongoDB to 7, or deletes it."""
    if how == "update":
        stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    elif how == "replace":
        stored.replace_one({"_id": "ada"}, {"n": 7})
    elif how == "replace with an old version":
        stored.replace_one({"_id": "ada"}, {"n": 7, "_v": Int64(1)})
    else:
        stored.delete_one({"_id": "ada"})
    return change(how.partition(" ")[0], "ada", stored.find_one({"_id": "ada"}))


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("how", ["update", "replace", "replace with an old version", "delete"])
def test_our_write_stands(pipeline, users, stored, how, crash):
    """A change between a bulk write and its settling, or the death of its flusher, is overwritten in the end."""
    users.put("ada", {"n": 2})

    def between() -> None:
        pipeline.applier.apply([their_change(stored, how)])
        if crash:
            raise MongoUnavailableError

    with suppress(MongoUnavailableError):
        flush(pipeline, "ada", between)
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)
    assert [] == letters(pipeline)


@pytest.mark.parametrize("how", ["update", "replace", "delete"])
def test_their_change_stands(yielding, stored, how):
    """With `theirs`, too: it came after the write that is pending, which becomes a dead letter with its body."""
    yielding.collection("slow").put("ada", {"n": 2})
    flush(yielding, "ada", lambda: yielding.applier.apply([their_change(stored, how)]))
    flush_all(yielding)
    assert (None if how == "delete" else 7) == outcome(yielding, stored)
    assert [2] == [bson.decode(one.body)["n"] for one in letters(yielding)]


@pytest.mark.parametrize("then", ["put", "patch", "delete"])
def test_a_write_after_their_change_takes_no_letter_away(yielding, stored, then):
    """What yielded stands in its letter only, and stays there, whatever is written and flushed then."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    stored.update_one({"_id": "ada"}, {"$set": {"n": 7}})
    assert (0, 0, 1) == counts(yielding, change("update", "ada", stored.find_one()))

    if then == "put":
        users.put("ada", {"n": 3})
    elif then == "patch":
        users.patch("ada", lambda document: document | {"m": 3})
    else:
        users.delete("ada")
    flush_all(yielding)

    assert {"put": (3, None), "patch": (7, 3), "delete": None}[then] == (
        (one["n"], one.get("m")) if (one := stored.find_one()) else None
    )
    assert [2] == [bson.decode(one.body)["n"] for one in letters(yielding)]
    [found] = yielding.dead_letters.all(Filter())
    assert yielding.dead_letters.replay([found], conflicts=True)
    flush_all(yielding)
    assert 2 == outcome(yielding, stored)
    assert [] == letters(yielding)


@pytest.mark.parametrize("times", [1, 2])
def test_a_write_after_their_change_stands(yielding, stored, times):
    """Who reads what they have written, and then writes, is the later one, whenever the event comes."""
    users = yielding.collection("slow")
    stored.insert_one({"_id": "ada", "n": 7})
    event = change("insert", "ada", {"_id": "ada", "n": 7}, at_ms=int(time.time() * 1000) - 1)
    assert 7 == users.get("ada")["n"]
    users.put("ada", {"n": 8})
    assert [(1, 0, 0)] * times == [counts(yielding, event) for _ in range(times)]
    assert [] == letters(yielding)
    flush_all(yielding)
    assert 8 == outcome(yielding, stored)


def test_their_change_that_we_have_overwritten(yielding, stored):
    """What they did is gone from MongoDB when its event comes, so it wins against nothing."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.put("ada", {"n": 2})
    event = their_change(stored, "replace")
    flush(yielding, "ada", lambda: yielding.applier.apply([event]))
    flush_all(yielding)
    assert [] == letters(yielding)
    assert 2 == outcome(yielding, stored)


@pytest.mark.parametrize("settled", [False, True])
def test_our_deletion_is_not_theirs(yielding, stored, settled):
    """Its event loses no later write, whether it comes before the deletion is settled or after."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.delete("ada")
    seen: list[tuple[int, int, int]] = []

    def see() -> None:
        seen.append(counts(yielding, change("delete", "ada")))

    def between() -> None:
        users.put("ada", {"n": 2})
        if not settled:
            see()

    flush(yielding, "ada", between)
    if settled:
        see()
    assert ([(1, 0, 0)], []) == (seen, letters(yielding))
    flush_all(yielding)
    assert 2 == outcome(yielding, stored)


def test_our_deletion_long_ago(yielding, stored):
    """Its event may come when the deletion has been audited, and the document has been written again."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush_all(yielding)
    users.delete("ada")
    flush_all(yielding)
    event = change("delete", "ada", at_ms=int(time.time() * 1000) - 1)
    for partition in range(yielding.settings.partitions):
        yielding.store.deletions.forget(partition, yielding.store.deletions.before(partition, 1 << 52, limit=10))
    users.put("ada", {"n": 2})
    assert (1, 0, 0) == counts(yielding, event)
    flush_all(yielding)
    assert (2, []) == (outcome(yielding, stored), letters(yielding))


def test_who_puts_back_what_we_have_sent(yielding, stored):
    """Their content tells them from us, though they keep our version and a newer write is pending."""
    users = yielding.collection("slow")
    users.put("ada", {"n": 1})
    flush(yielding, "ada", lambda: users.put("ada", {"n": 2}))
    there = stored.find_one()
    assert (1, 0, 0) == counts(yielding, change("insert", "ada", there, at_ms=int(time.time() * 1000) + LATER_MS))
    event = change("replace", "ada", there | {"n": 7}, at_ms=int(time.time() * 1000) + LATER_MS)
    stored.replace_one({"_id": "ada"}, there | {"n": 7})
    assert (0, 0, 1) == counts(yielding, event)
    assert 7 == outcome(yielding, stored)


def test_versions_stay_as_they_were_acknowledged(pipeline, users, stored):
    """Events of our own and of others change none that MongoDB has not been given yet."""
    users.put("ada", {"n": 1})
    flush(pipeline, "ada", lambda: users.put("ada", {"n": 2}))
    version = users.read("ada").entry.version
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", stored.find_one()))
    assert (0, 0, 1) == counts(pipeline, their_change(stored, "update"))
    flush_all(pipeline)
    assert {"_id": "ada", "n": 2, "_v": version} == stored.find_one()


@pytest.mark.parametrize("late_ms", [0, LATER_MS])
def test_our_late_event_changes_nothing(pipeline, users, stored, late_ms):
    """A former write of ours that is reported while the next is on its way does not have that written twice."""
    users.put("ada", {"n": 1})
    flush(pipeline, "ada", lambda: users.put("ada", {"n": 2}))
    event = change("insert", "ada", stored.find_one(), at_ms=int(time.time() * 1000) + late_ms)
    version = users.read("ada").entry.version
    flush(pipeline, "ada", lambda: counts(pipeline, event))
    flush_all(pipeline)
    assert {"_id": "ada", "n": 2, "_v": version} == stored.find_one()


@pytest.mark.parametrize("policy", ["ours", "theirs"])
def test_our_deletion_is_reported_late(pipeline, stored, policy):
    """While the write after it is on its way to MongoDB, our deletion is no conflict."""
    pipeline = with_slow(pipeline, on_conflict=policy)
    users, events = pipeline.collection("slow"), []
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    users.delete("ada")
    flush(pipeline, "ada", lambda: (users.put("ada", {"n": 2}), events.append(change("delete", "ada"))))
    flush(pipeline, "ada", lambda: counts(pipeline, *events))
    assert [] == letters(pipeline) == pipeline.conflicts.latest()
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)


def test_their_deletion_is_not_ours(yielding, stored):
    """That we have deleted the document ourselves, a while ago, does not make their deletion ours."""
    users = yielding.collection("slow")
    for write in (
        lambda: users.put("ada", {"n": 1}),
        lambda: users.delete("ada"),
        lambda: users.put("ada", {"n": 2}),
    ):
        write()
        flush_all(yielding)
    users.put("ada", {"n": 3})
    stored.delete_one({"_id": "ada"})
    assert (0, 0, 1) == counts(yielding, change("delete", "ada", at_ms=int(time.time() * 1000) + LATER_MS))
    assert [3] == [bson.decode(one.body)["n"] for one in letters(yielding)]
    assert outcome(yielding, stored) is None


def test_what_is_lost_with_its_collection(pipeline, users, stored):
    """A collection that is dropped between a bulk write and its settling has the write again in the end."""
    users.put("ada", {"n": 2})

    def between() -> None:
        stored.drop()
        pipeline.applier.outdo_pending("slow", lambda: None)
        pipeline.applier.forget("slow", lambda: None)

    flush(pipeline, "ada", between)
    flush_all(pipeline)
    assert 2 == outcome(pipeline, stored)


def test_a_conflict_that_is_none_any_more(pipeline, users, stored):
    """What is settled before the conflict is looked into is neither counted nor noted as one, and is dropped."""
    settings = pipeline.settings
    store = Store(pipeline.store._wire, partitions=settings.partitions, max_pending=10, tombstone_ttl_ms=1_000)
    get = store.cache.get

    def get_after_a_flush(member):
        flush_all(pipeline)
        return get(member)

    store.cache.get = get_after_a_flush
    outside = Applier(
        store,
        pipeline.sink,
        pipeline.derived,
        pipeline.conflicts,
        settings=pipeline.collection_settings,
        contention=pipeline.contention,
    )
    users.put("ada", {"n": 2})
    applied = outside.apply([change("replace", "ada", {"_id": "ada", "n": 7})])
    assert (0, 1, 0) == (applied.ours, applied.invalidated, applied.conflicts)
    assert [] == pipeline.conflicts.latest()
    assert 2 == outcome(pipeline, stored)


def test_a_read_that_is_faster_than_the_event(pipeline, stored):
    """That the cache has their document already does not leave behind that nobody has its unique value."""
    pipeline = with_slow(pipeline, lookup={"name": "string"})
    users = pipeline.collection("slow")
    assert users.look_up("name", "bob")[0] is None
    stored.insert_one({"_id": "ada", "name": "bob"})
    assert "bob" == users.get("ada")["name"]
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", {"_id": "ada", "name": "bob"}))
    assert users.look_up("name", "bob")[0] == users.id("ada")


def test_conflicts_that_cannot_be_shown(pipeline, users):
    """The log of conflicts takes whatever others write, and says how large it is where JSON cannot show it."""
    users.put("ada", {"n": 1})
    raw = bson.encode({"_id": "ada", "text": "abcd"}).replace(b"abcd", b"ab\xff\xfe")
    event = OutsideChange(DocumentId.of("slow", "ada"), "replace", int(time.time() * 1000), Entry.loaded(raw, 0))
    assert (0, 0, 1) == counts(pipeline, event)
    [noted] = pipeline.conflicts.latest()
    assert {"version": 0, "exists": True, "bytes": len(raw)} == noted["theirs"]


NAMES = [f"u{n}" for n in range(100)]


def write_often(users: Collection, seed: int, over: threading.Event) -> None:
    chance, n = random.Random(seed), 0
    while not over.wait(0.001):
        n += 1
        name = chance.choice(NAMES)
        if chance.random() < 0.2:
            users.delete(name)
        else:
            users.put(name, {"n": f"{seed} {n}"})
        users.get(chance.choice(NAMES))


def change_often(stored, seed: int, over: threading.Event) -> None:
    chance, n = random.Random(seed), 0
    while not over.wait(0.001):
        n += 1
        name, theirs, how = chance.choice(NAMES), f"their {n}", chance.random()
        if how < 0.5:
            stored.update_one({"_id": name}, {"$set": {"n": theirs}}, upsert=how < 0.1)
        elif how < 0.8:
            stored.replace_one({"_id": name}, {"n": theirs})
        else:
            stored.delete_one({"_id": name})


def flush_often(pipeline: Pipeline, over: threading.Event) -> None:
    flusher = flusher_of(pipeline, lambda: over.wait(0.1))  # long enough for the listener to come in between
    while not over.wait(0.001):
        for partition in range(pipeline.settings.partitions):
            with suppress(MongoUnavailableError):  # a document changed while it was being written
                flusher.flush(partition)


def agree(pipeline: Pipeline, stored) -> bool:
    """Whether readers see what MongoDB has, once nothing is pending."""
    flush_all(pipeline)
    cached = {name: pipeline.collection("slow").get(name) for name in NAMES}
    return {name: one["n"] for name, one in cached.items() if one} == {
        one["_id"]: one["n"] for one in stored.find()
    }


@pytest.mark.parametrize("policy", ["ours", "theirs"])
def test_they_agree_in_the_end(pipeline, stored, policy):
    """However writes, flushes and changes of others meet, Redis and MongoDB are alike when all is at rest."""
    pipeline, over = with_slow(pipeline, on_conflict=policy, flush_delay_ms=20), threading.Event()
    users = pipeline.collection("slow")
    threads = [
        threading.Thread(target=work, args=(*arguments, over))
        for work, *arguments in (
            (write_often, users, 1),
            (write_often, users, 2),
            (change_often, stored, 3),
            (flush_often, pipeline),
            (flush_often, pipeline),
        )
    ]
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        for one in threads:
            one.start()
        over.wait(3)
        over.set()
        for one in threads:
            one.join()
        wait_until(lambda: agree(pipeline, stored), "Redis and MongoDB to agree", 15)


def test_large_documents_are_not_kept_in_the_log(pipeline, users):
    """The log says how large they are."""
    users.put("ada", {"text": "x" * 20_000})
    assert (0, 0, 1) == counts(pipeline, change("delete", "ada"))
    [noted] = pipeline.conflicts.latest()
    assert 20_000 < noted["ours"]["bytes"] < 21_000
    assert noted["theirs"] is None


def test_forgetting(pipeline, users):
    """Entries of a collection are dropped, but nothing that MongoDB does not have."""
    through = pipeline.collection("through")
    for n in range(30):
        users.put(f"u{n}", {"n": n})
    flush_all(pipeline)
    users.put("u0", {"n": -1})
    through.put("t", {"n": 1})
    beats = []
    assert 29 == pipeline.applier.forget("slow", lambda: beats.append(1))
    assert beats
    assert [True, False] == [is_cached(pipeline, name) for name in ("u0", "u1")]
    assert 1 == pipeline.applier.forget("", lambda: None)
    assert -1 == users.get("u0")["n"]


def test_unversioned_documents_that_are_refilled(pipeline, users, stored):
    """What the cache has been filled with since is not dropped again."""
    stored.insert_one({"_id": "ada", "n": 7})
    assert 7 == users.get("ada")["n"]
    assert (1, 0, 0) == counts(pipeline, change("insert", "ada", {"_id": "ada", "n": 7}))
    assert _Verdict.OUTSIDE is _judge(
        change("insert", "ada", {"_id": "ada", "n": 8}),
        _Known(replace(users.read("ada").entry, etag="x"), pending=False),
    )


def test_forgetting_a_collection_while_it_is_loaded(settings, valkey_wire, mongo_client, monkeypatch):
    """What a reader was loading, an entry or an alias, is not stored after its collection was forgotten."""
    values = settings.model_dump() | {"collections": {"users": {"lookup": {"name": "string"}}}}
    pipeline = Pipeline(Settings.model_validate(values), wire=valkey_wire, client=mongo_client)
    users, documents = pipeline.collection("users"), mongo_client[settings.mongodb_database]["users"]

    def meanwhile(method: str, step: Callable[[], object]) -> None:
        original = getattr(pipeline.sink, method)

        def loaded_before(*wanted: object) -> object:
            monkeypatch.undo()
            found = original(*wanted)
            step()
            pipeline.applier.forget("users", lambda: None)
            return found

        monkeypatch.setattr(pipeline.sink, method, loaded_before)

    documents.insert_one({"_id": "ada", "name": "Ada"})
    meanwhile("find", documents.drop)
    users.get("ada")
    assert users.get("ada") is None
    meanwhile("find_by", lambda: documents.insert_one({"_id": "bob", "name": "Bob"}))
    users.look_up("name", "Bob")
    assert "bob" == users.look_up("name", "Bob")[0].text
