"""A listener that MongoDB does not answer: the status says for how long, and that the listener runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread

import pytest
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, ServerSelectionTimeoutError

from tests.integration.doctor.conftest import found
from tests.listening import Stream, listening_to, running, status, wait_to_listen
from tests.proxy import Proxy, rerouted
from tests.waiting import wait_until
from writebehind import Pipeline, connect
from writebehind.change_stream.listener_state import UNHEARD_S
from writebehind.cli.status import _listener
from writebehind.mongodb.client import mongo_client
from writebehind.process_remedies import is_unanswered
from writebehind.tallies.tallies import Tallies
from writebehind.times import duration

#: Longer than what the status counts as an answer that is late.
TIMEOUT_MS = 8_000


@pytest.fixture
def way(mongo) -> Iterator[Proxy]:
    with Proxy(mongo.port) as proxy:
        yield proxy


@pytest.fixture
def behind(way, settings, valkey_wire, tmp_path) -> Iterator[Pipeline]:
    """A pipeline whose MongoDB is behind the proxy."""
    url = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
    client: MongoClient
    with mongo_client(url, TIMEOUT_MS, Tallies()) as client:
        own = {"mongodb_url": url, "alive_file": tmp_path / "alive"}
        yield Pipeline(settings.model_copy(update=own), wire=valkey_wire, client=client)


def heard_s(pipeline: Pipeline) -> float:
    return status(pipeline)["heard_seconds_ago"]


def test_mongodb_that_hangs(behind, way):
    """While the listener waits, it lives, and how long it waits is told; soon after, it listens again."""
    with running(behind.listener()):
        wait_to_listen(behind)
        assert heard_s(behind) < UNHEARD_S
        way.hang()
        try:
            wait_until(lambda: is_unanswered(status(behind)), "the wait to be told", 20)
            seen = status(behind)
            assert (None, True) == (seen["error"], seen["alive_seconds_ago"] < UNHEARD_S)
            assert f"MongoDB has not answered it for {duration(seen['heard_seconds_ago'])}," in _listener(seen)[0]
            assert time.time() - behind.settings.alive_file.stat().st_mtime < UNHEARD_S
            assert "the listener runs and MongoDB does not answer it" in found(behind, "listener").found
        finally:
            way.flow()
        wait_until(lambda: heard_s(behind) < 1, "it to listen again", 20)
        assert "behind MongoDB" in _listener(status(behind))[0]


def test_mongodb_that_is_cut_off(behind, way):
    """A server that refuses connections is told with its words, and with the time at which it was heard of."""
    with running(behind.listener()):
        wait_to_listen(behind)
        way.close()
        wait_until(lambda: status(behind)["error"], "the refusal to be told", 20)
        said, good = _listener(status(behind))
        assert (False, True, True) == (good, "Connection refused" in said, "last heard of MongoDB" in said)


@pytest.mark.parametrize(
    "error", [NotPrimaryError("not primary"), ServerSelectionTimeoutError("No primary available")]
)
def test_a_primary_that_steps_down(pipeline, monkeypatch, error):
    """It says why it does not listen, and that it lives all the while that it waits for another try."""
    heard = [1]

    class Stepping(Stream):
        def try_next(self) -> None:
            if not heard:
                raise error
            heard.pop()

    with running(listening_to(pipeline, monkeypatch, lambda **_: Stepping([]))):
        wait_until(lambda: status(pipeline).get("error"), "it to say so", 10)
        assert 0 <= heard_s(pipeline) < 10
        wait_until(lambda: heard_s(pipeline) > 2, "time to pass", 10)
        assert status(pipeline)["alive_seconds_ago"] < 2
        assert "the listener runs and MongoDB does not answer it" in found(pipeline, "listener").found


def test_it_says_that_it_listens_when_it_does(pipeline, monkeypatch, caplog):
    """Not before its stream is open; why it cannot is one line, and so is that another one listens."""
    caplog.set_level("WARNING", "writebehind.change_stream.listener")
    tries, well = [], []

    def watch(**_: object) -> Stream:
        tries.append(1)
        if not well:
            raise ServerSelectionTimeoutError(f"db:1: refused for {len(tries)}.5 s")
        return Stream([])

    said: list[list[str]] = [[], []]
    listeners = [listening_to(pipeline, monkeypatch, watch) for _ in said]
    threads = [Thread(target=one.listen, args=(lines.append,)) for one, lines in zip(listeners, said, strict=True)]
    threads[0].start()
    try:
        wait_until(lambda: len(tries) > 1, "another try", 20)
        assert [] == said[0]
        refused = (
            "not listening to changes: MongoDB does not answer: db:1: refused for 1.5 s; it is tried again, and "
        )
        assert [f"{refused}writebehind doctor says what to do"] == caplog.messages
        well.append(True)
        wait_until(lambda: said[0], "it to listen", 20)
        threads[1].start()
        wait_until(lambda: said[1], "the other to wait")
    finally:
        for listener in listeners:
            listener.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join(10)

    name = pipeline.settings.mongodb_database
    assert [[f"listens to changes of {name}"], [f"waits, as another one listens to changes of {name}"]] == said


@pytest.fixture
def way_to_redis(valkey) -> Iterator[Proxy]:
    with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def behind_both(behind, valkey, way_to_redis) -> Iterator[Pipeline]:
    """One whose Redis is behind a proxy, too."""
    url = rerouted(valkey.url, way_to_redis.port)
    changes = {"redis_url": url, "redis_timeout_ms": 250, "confirm_timeout_ms": 125}
    with connect(behind.settings.model_copy(update=changes)) as pipeline:
        yield pipeline


def hang_for_a_while(way_to_redis: Proxy, behind: Pipeline) -> None:
    """Let Redis hang until what the listener has noted is old."""
    way_to_redis.hang()
    wait_until(lambda: heard_s(behind) > 2 * UNHEARD_S, "the note to be old", 30)


@pytest.mark.one_server("a proxy stands before one port")
def test_redis_that_hangs_for_a_while(behind, behind_both, way_to_redis, stored, monkeypatch):
    """MongoDB is not blamed for it, and the listener goes on soon after, however long it pauses after failures."""
    monkeypatch.setattr("writebehind.change_stream.listener.FAILED_FROM_S", 600.0)
    monkeypatch.setattr("writebehind.change_stream.listener.FAILED_TO_S", 600.0)
    with running(behind_both.listener()):
        wait_to_listen(behind)
        looks = [status(behind)]
        hang_for_a_while(way_to_redis, behind)
        stored.insert_one({"_id": "ada"})
        way_to_redis.flow()

        def is_back() -> bool:
            looks.append(status(behind))
            return looks[-1]["events"] > looks[0]["events"]

        wait_until(is_back, "it to see a change", 30)
    assert [] == [one for one in looks if one["away_seconds"] is not None or one["error"]]


@pytest.mark.one_server("a proxy stands before one port")
def test_mongodb_that_hangs_after_redis(behind, behind_both, way, way_to_redis):
    """It counts as away for as long as it owes an answer: not since before Redis hung."""
    with running(behind_both.listener()):
        wait_to_listen(behind)
        hang_for_a_while(way_to_redis, behind)
        way.hang()
        began = time.monotonic()
        way_to_redis.flow()
        try:
            wait_until(lambda: status(behind)["away_seconds"], "the wait to be told", 30)
            assert status(behind)["away_seconds"] < time.monotonic() - began
        finally:
            way.flow()
