"""The listener, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import bson
import pytest
from bson import DatetimeMS, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, ProtocolError

from tests.integration.conftest import again
from tests.listening import running, status, wait_to_listen
from tests.sizes import FOREIGN_LIMIT
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.change_stream.applier import Applied, Applier
from writebehind.change_stream.listener import BATCH_BYTES, NO_STREAMS, Listener
from writebehind.change_stream.listener_state import ListenerState
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.redis import keys

#: A date that no `datetime` can hold.
FAR = DatetimeMS(400_000_000_000_000)


def wait_to_see(users, name: str, n: int | None) -> None:
    wait_until(lambda: (users.get(name) or {}).get("n") == n, f"{name} to be {n}", 10)


class Stream:
    """A change stream of what a test says, quiet afterwards."""

    alive, resume_token = True, {"_data": "x"}

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self._events = [RawBSONDocument(bson.encode(one), RAW_OPTIONS) for one in events]

    def spoil(self, old: bytes, new: bytes) -> None:
        self._events = [RawBSONDocument(one.raw.replace(old, new), RAW_OPTIONS) for one in self._events]

    def try_next(self) -> RawBSONDocument | None:
        return self._events.pop(0) if self._events else None

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def event(name: str, **more: object) -> dict[str, Any]:
    return {
        "operationType": "insert",
        "ns": {"db": "d", "coll": "users"},
        "documentKey": {"_id": name},
        "fullDocument": {"_id": name},
        "clusterTime": Timestamp(1, 1),
        "wallTime": datetime.now(UTC),
    } | more


def listening_to(pipeline: Pipeline, monkeypatch, watch) -> Listener:
    """A listener with another way to open a stream."""
    listener = pipeline.listener()
    monkeypatch.setattr(listener, "_database", type("Database", (), {"watch": staticmethod(watch)}))
    return listener


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


def test_changes_of_others_are_seen(pipeline, users, stored):
    """Inserts, updates, replacements and deletions, of what is cached and of what is known to be absent."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        assert users.get("ada") is None
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
        wait_to_see(users, "ada", 2)
        stored.replace_one({"_id": "ada"}, {"n": 3})
        wait_to_see(users, "ada", 3)
        stored.delete_one({"_id": "ada"})
        wait_to_see(users, "ada", None)
        stored.insert_one({"_id": 1.5})  # no id of ours
        stored.insert_many([{"_id": f"u{n}", "n": n} for n in range(5)])
        wait_until(lambda: users.get("u4"), "the last", 10)
        assert list(range(5)) == [users.get(f"u{n}")["n"] for n in range(5)]
        stored.drop()
        wait_to_see(users, "u4", None)


def test_another_takes_over_where_one_has_ended(pipeline, users, stored):
    """One leads at a time; changes that happen while nobody listens are seen by the next."""
    first, second = pipeline.listener(), pipeline.listener()
    with running(first):
        wait_to_listen(pipeline, first._name)
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        with running(second):
            leaders = {status(pipeline)["leader"] for _ in range(20)}
            assert {first._name} == leaders
    assert 0 == pipeline.store._wire.call("EXISTS", keys.LISTENER_LEASE)  # it was given back
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    assert 1 == users.get("ada")["n"]
    third = pipeline.listener()
    with running(third):
        wait_to_listen(pipeline, third._name)
        wait_to_see(users, "ada", 2)
    assert 0 == status(pipeline)["reopened"]


@pytest.mark.parametrize(
    "noted",
    [
        ListenerState("00"),
        ListenerState("zz"),
        ListenerState("27000000025f646174610016000000" + "38" * 21 + "0000"),
        b"{",
    ],
)
def test_a_lost_history(pipeline, users, stored, noted):
    """Where it cannot go on from, the cache is emptied of what MongoDB has, and the stream begins anew."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})  # nobody listens
    pipeline.store._wire.call("SET", keys.LISTENER, noted.dump() if isinstance(noted, ListenerState) else noted)
    with running(pipeline.listener()):
        wait_to_see(users, "ada", 2)
        wait_until(lambda: status(pipeline)["reopened"] == 1, "the stream to be opened anew", 10)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 3}})
        wait_to_see(users, "ada", 3)


@pytest.mark.parametrize(("code", "what"), [(286, "history lost"), (10334, "event too large"), (280, "fatal")])
def test_a_stream_that_ends_for_good(pipeline, monkeypatch, users, stored, code, what):
    """A token is not tried again once its stream has failed: a new one is opened first, then the cache emptied."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    noted = ListenerState(bson.encode({"_data": "8200"}).hex())
    pipeline.store._wire.call("SET", keys.LISTENER, noted.dump())
    opened: list[object] = []

    class Failing(Stream):
        def try_next(self) -> RawBSONDocument | None:
            raise OperationFailure(what, code)

    def watch(*, start_after: object, **_: object) -> Stream:
        opened.append(start_after)
        if start_after is not None:
            return Failing([])
        stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})  # just after it was opened, and in no event here
        return Stream([])

    with running(listening_to(pipeline, monkeypatch, watch)):
        wait_to_see(users, "ada", 2)
        wait_until(lambda: status(pipeline)["reopened"] == 1, "it to be told", 10)
    assert [True, False] == [one is not None for one in opened]


def test_a_dropped_database(pipeline, users, stored, mongo_client):
    """Everything is gone, and what comes after is seen."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        mongo_client.drop_database(pipeline.settings.mongodb_database)
        wait_to_see(users, "ada", None)
        stored.insert_one({"_id": "ada", "n": 2})
        wait_to_see(users, "ada", 2)


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


def test_a_standalone_server(pipeline, monkeypatch):
    """Without change streams it says so, and does not try again and again."""
    tries = []

    def watch(**_: object):
        tries.append(1)
        raise OperationFailure("The $changeStream stage is only supported on replica sets", NO_STREAMS)

    with running(listening_to(pipeline, monkeypatch, watch)):
        wait_until(lambda: "no replica set" in (status(pipeline).get("error") or ""), "it to say so", 10)
    assert [1] == tries


def test_mongodb_goes_on_refusing(pipeline, monkeypatch, users, stored):
    """A user who may not listen is an error that is shown; nothing is dropped for it."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)

    def watch(**_: object):
        raise OperationFailure("not authorized", 13)

    with running(listening_to(pipeline, monkeypatch, watch)):
        wait_until(lambda: "not authorized" in (status(pipeline).get("error") or ""), "it to say so", 10)
    assert pipeline.store.cache.get(users.id("ada").member)[0] is not None


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


def test_another_number_of_partitions(pipeline, users, stored):
    """A listener that looks elsewhere does not advance, says so, and leaves the lead to one that does not."""
    pipeline.check()
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
    with running(again(pipeline, 8).listener()):
        wait_until(lambda: "partitions" in (status(pipeline)["error"] or ""), "it to say so", 10)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
        with running(pipeline.listener()):
            wait_to_see(users, "ada", 2)


def test_a_leader_that_cannot_listen(pipeline, users, stored, monkeypatch):
    """It lets go, so that another leads who can."""

    def watch(**_: object):
        raise OperationFailure("not authorized", 13)

    bad, good = listening_to(pipeline, monkeypatch, watch), pipeline.listener()
    with running(bad):
        wait_until(lambda: "not authorized" in (status(pipeline).get("error") or ""), "it to say so", 10)
        with running(good):
            wait_to_listen(pipeline, good._name)
            stored.insert_one({"_id": "ada", "n": 1})
            wait_to_see(users, "ada", 1)


def test_the_first_start(pipeline, users, stored):
    """What was cached before anybody listened may be old, and is dropped."""
    stored.insert_one({"_id": "ada", "n": 1})
    wait_to_see(users, "ada", 1)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    with running(pipeline.listener()):
        wait_to_see(users, "ada", 2)
        assert 0 == status(pipeline)["reopened"]


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
    listener = Listener(pipeline.store, pipeline._client, database, spoilt, collections=None, check=pipeline.check)
    with running(listener):
        wait_to_listen(pipeline)
        for name in names:
            wait_to_see(users, name, 1)
        stored.update_many({}, {"$set": {"n": 2}})
        for name in names:
            wait_to_see(users, name, 2)
        wait_until(lambda: status(pipeline)["skipped"], "it to be counted", 10)


@pytest.mark.parametrize("failure", [RuntimeError("unheard of"), ProtocolError("unheard of")], ids=type)
def test_whatever_fails_is_tried_again(pipeline, users, stored, monkeypatch, failure):
    """Also what nobody has thought of, or an answer that is too large for one event: it says so, and goes on."""
    listener = pipeline.listener()
    database, tries, well = listener._database, [], []

    def watch(**options: Any):
        tries.append(options["batch_size"])
        if not well:
            raise failure
        return database.watch(**options)

    monkeypatch.setattr(listener, "_database", type("Database", (), {"watch": staticmethod(watch)}))
    with running(listener):
        wait_until(lambda: "unheard of" in (status(pipeline).get("error") or ""), "it to say so", 10)
        well.append(True)
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        wait_to_listen(pipeline)
        wait_until(lambda: tries[0] == tries[-1], "it to ask for as much as at first")
    assert len(tries) < 15  # it pauses


def test_what_another_release_has_noted():
    """It may have noted more than this one knows, and where it was is where this one goes on."""
    noted = ListenerState("00", events=3)
    assert noted == ListenerState.parse(noted.dump().replace(b"{", b'{"of_a_later_release": 1, ', 1))
