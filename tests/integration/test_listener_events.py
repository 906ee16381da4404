"""Events that the listener hears: many, late, large, or such that nobody understands them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import DatetimeMS, Timestamp

from tests.listening import Stream, listening_to, running, status, wait_to_listen, wait_to_see
from tests.sizes import FOREIGN_LIMIT
from tests.waiting import wait_until
from writebehind.alive import AliveFile
from writebehind.change_stream.applier import Applied, Applier
from writebehind.change_stream.events import read_change
from writebehind.change_stream.listener import BATCH_BYTES, Listener
from writebehind.change_stream.verdicts import OutsideChange

#: A date that no `datetime` can hold.
FAR = DatetimeMS(400_000_000_000_000)


def event(name: str, **more: object) -> dict[str, Any]:
    return {
        "operationType": "insert",
        "ns": {"db": "d", "coll": "users"},
        "documentKey": {"_id": name},
        "fullDocument": {"_id": name},
        "clusterTime": Timestamp(1, 1),
        "wallTime": datetime.now(UTC),
    } | more


def test_the_id_in_an_event_of_a_sharded_collection():
    """A router names the fields of the shard key before the id, and the id is the document's all the same."""
    key = {"tenant": "acme", "_id": "acme:1"}
    change = read_change(event("acme:1", documentKey=key, fullDocument=None, wallTime=DatetimeMS(0)))
    assert change is not None
    assert "users/s:acme:1" == change.id.member


def test_a_listener_that_is_far_behind(pipeline, users, stored):
    """Changes that are together larger than a driver takes in one answer are heard, and so is what follows."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
    assert users.get("last") is None
    stored.insert_many({"_id": f"large{n}", "text": "x" * (FOREIGN_LIMIT // 4)} for n in range(15))  # 60 MB
    stored.insert_one({"_id": "last", "n": 1})

    with running(pipeline.listener()):
        wait_to_see(users, "last", 1)
        stored.replace_one({"_id": "last"}, {"n": 2})
        wait_to_see(users, "last", 2)
    assert 17 == status(pipeline)["events"]
    assert 0 == status(pipeline)["reopened"]


def test_own_writes_are_ignored(pipeline, users):
    """They invalidate nothing, however many there are."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        before = status(pipeline)
        for n in range(200):
            users.put(f"u{n}", {"n": n})
        for partition in range(pipeline.settings.partitions):
            pipeline.flusher.flush(partition)
        wait_until(lambda: status(pipeline)["events"] - before["events"] >= 200, "the events", 10)
        after = status(pipeline)
    assert (200, 0) == (after["ours"] - before["ours"], after["invalidated"] - before["invalidated"])


@contextmanager
def trickling(stored) -> Iterator[None]:
    """Ten changes of others a second, which is never a silence of `AWAIT_MS`."""
    over = threading.Event()

    def trickle() -> None:
        n = 0
        while not over.wait(0.1):
            n += 1
            stored.insert_one({"_id": f"t{n}"})

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_trickle_of_changes(pipeline, users, stored):
    """However steadily changes come, they are applied as they come, and whoever leads goes on leading."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    first, second = pipeline.listener(), pipeline.listener()
    with running(first), trickling(stored):
        wait_to_listen(pipeline, first._name)
        with running(second):
            events = status(pipeline)["events"]
            stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
            wait_to_see(users, "ada", 2)
            wait_until(lambda: status(pipeline)["events"] > events + 10, "more of them", 10)
            assert first._name == status(pipeline)["leader"]


def test_the_lag_is_that_of_the_oldest(pipeline, monkeypatch):
    """A batch may span a long time: what waited longest counts."""
    old = datetime.now(UTC) - timedelta(seconds=100)
    listener = listening_to(pipeline, monkeypatch, lambda **_: Stream([event("a", wallTime=old), event("b")]))
    noted = []
    monkeypatch.setattr(listener, "_note", lambda _: (noted.append(listener._state.lag_s), listener.stop()))
    listener._follow(listener._database.watch())
    assert 100 <= noted[0] < 120


def test_a_batch_is_bounded(pipeline):
    """By bytes, too: what is listened to may be large."""
    large = {"_id": "a", "text": "x" * (BATCH_BYTES // 2 + 1)}
    stream = Stream([event("a", fullDocument=large) for _ in range(3)])
    assert [2, 1] == [len(list(pipeline.listener()._events(stream))) for _ in range(2)]


def test_before_wall_times(pipeline):
    """A server before MongoDB 6.0 tells the second only."""
    old = {name: value for name, value in event("a").items() if name != "wallTime"}
    [one] = pipeline.listener()._events(Stream([old]))
    assert 1_000 == pipeline.listener()._change(one).at_ms


def test_other_collections(pipeline, users, stored, mongo_client):
    """What others do in collections that are not configured is not even sent."""
    elsewhere = mongo_client[pipeline.settings.mongodb_database]["elsewhere"]
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        elsewhere.insert_many([{"_id": n} for n in range(5)])
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        wait_until(lambda: status(pipeline)["events"], "an event", 10)
        assert 1 == status(pipeline)["events"]
        stored.rename("former")
        wait_to_see(users, "ada", None)


def test_documents_that_python_cannot_hold(pipeline, monkeypatch):
    """Dates beyond the year 9999 and strings that are no UTF-8, in an id as well, are changes like others."""
    far = [event("far", documentKey={"_id": FAR}), event("ada", fullDocument={"_id": "ada", "at": FAR})]
    stream = Stream([*far, event("abcd")])
    stream.spoil(b"abcd", b"ab\xff\xfe")
    listener = listening_to(pipeline, monkeypatch, lambda **_: stream)
    monkeypatch.setattr(listener, "_note", lambda _: listener.stop())
    listener._follow(listener._database.watch())
    assert (3, 0) == (listener._state.events, listener._state.skipped)


def test_an_event_that_cannot_be_understood(pipeline, monkeypatch):
    """It is counted and skipped, and those beside it are applied."""
    unknown = {name: value for name, value in event("b").items() if name != "documentKey"}
    listener = listening_to(pipeline, monkeypatch, lambda **_: Stream([event("a"), unknown, event("c")]))
    monkeypatch.setattr(listener, "_note", lambda _: listener.stop())
    listener._follow(listener._database.watch())
    assert (3, 1) == (listener._state.events, listener._state.skipped)


class SpoiltOutside(Applier):
    """Fails for one document."""

    def apply(self, changes: Sequence[OutsideChange]) -> Applied:
        if any(one.id.value == "poison" for one in changes):
            raise ValueError("poison")
        return super().apply(changes)


def test_a_change_that_cannot_be_applied(pipeline, users, stored):
    """What is cached of its document is dropped; the changes beside it are applied."""
    names = ["ada", "poison", "bob"]
    stored.insert_many([{"_id": name, "n": 1} for name in names])
    spoilt = SpoiltOutside(
        pipeline.store,
        pipeline.sink,
        pipeline.derived,
        pipeline.conflicts,
        settings=pipeline.collection_settings,
        contention=pipeline.contention,
    )
    database = pipeline.settings.mongodb_database
    listener = Listener(
        *(pipeline.store, pipeline._client, database, spoilt),
        collections=None,
        check=pipeline.check,
        alive=AliveFile(None),
    )
    with running(listener):
        wait_to_listen(pipeline)
        for name in names:
            wait_to_see(users, name, 1)
        stored.update_many({}, {"$set": {"n": 2}})
        for name in names:
            wait_to_see(users, name, 2)
        wait_until(lambda: status(pipeline)["skipped"], "it to be counted", 10)
