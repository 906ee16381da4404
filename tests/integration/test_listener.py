"""The listener, on real servers: who leads, where it goes on, and what it does when nothing goes on."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, ProtocolError

from tests.integration.conftest import again
from tests.listening import Stream, listening_to, running, status, wait_to_listen, wait_to_see
from tests.waiting import wait_until
from writebehind.change_stream.listener_state import ListenerState
from writebehind.change_stream.stream_errors import NO_STREAMS
from writebehind.redis import keys


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
        wait_to_listen(pipeline)  # which is recorded after what was cached is dropped
        assert 0 == status(pipeline)["reopened"]


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
