"""Batches that MongoDB does not take, as a whole or in part: nothing is given up while that may be an outage."""

from __future__ import annotations

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, NetworkTimeout, NotPrimaryError, OperationFailure
from pymongo.synchronous.collection import Collection
from rich.console import Console

from tests.integration.not_now.conftest import attempt, commit, letters, names
from tests.refusals import left_to_the_driver, only
from tests.waiting import wait_until
from writebehind.cli.status import shown
from writebehind.flushing import attempts
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.mongodb.breaker import BreakerState
from writebehind.operations.doctor import Level, examine

#: Not in the table: what an outage, throttling or missing rights look like where they are said of one document.
UNCLEAR = (1, 8, 13, 71, 82, 96, 8000, 424242)


@pytest.mark.parametrize("as_command", [False, True])
@pytest.mark.parametrize("code", UNCLEAR)
def test_a_batch_that_is_refused_as_a_whole(pipeline, stored, server, monkeypatch, code, as_command):
    """A code that nobody knows, for all documents, is an outage: nothing is given up, all is persisted after."""
    ids = names(pipeline, 20)
    for name in ids:
        commit(pipeline, name)
    said = OperationFailure("no", code) if as_command else {"code": code}
    server.refuses = lambda _: said
    if as_command:
        monkeypatch.setattr(pipeline.sink, "_takes_writes", lambda _: False)

    for _ in range(6):
        with pytest.raises(FlushInterruptedError, match="takes nothing of a batch"):
            attempt(pipeline)
    assert 6 == server.sent
    assert ({}, 20) == (letters(pipeline), pipeline.status()["pending"])
    server.refuses = lambda _: None
    attempt(pipeline)

    assert set(ids) == {one["_id"] for one in stored.find()}
    assert ({}, 0) == (letters(pipeline), pipeline.status()["pending"])


def test_what_mongodb_says_is_in_the_status(pipeline, server):
    """While it answers and takes nothing the status has its words, and sends nobody to the workers."""
    for name in names(pipeline, 20):
        commit(pipeline, name)
    server.refuses = lambda _: {"code": 1, "errmsg": "internal server error"}
    with pytest.raises(FlushInterruptedError):
        attempt(pipeline)

    wait_until(lambda: pipeline.status()["mongodb_refuses"], "them to be overdue")
    status = pipeline.status()
    assert ("closed", None) == (status["breaker"], status["mongodb_error"])
    assert "users: internal server error" == status["mongodb_refuses"]
    assert ["mongodb"] == [one["about"] for one in status["to_do"] if one["condition"] != "queue"]
    assert "takes nothing that is written to users: internal server error" in status["to_do"][0]["found"]
    (found,) = (one for one in examine(pipeline) if one.check == "backlog")
    assert (Level.FAILURE, True) == (found.level, "whether its disk is full" in found.advice)
    with (console := Console(width=400)).capture() as printed:
        console.print(shown(status))
    assert "breaker closed, and nothing that is written is taken: users: internal server error" in printed.get()

    server.refuses = lambda _: None
    attempt(pipeline)
    assert None is pipeline.status()["mongodb_refuses"]


def test_one_that_mongodb_alone_does_not_take_is_no_complaint(pipeline, server):
    """It says nothing of the others, which go on."""
    one, other = names(pipeline, 2)
    server.refuses = only(one, {"code": 1, "errmsg": "no"})
    for name in (one, other):
        commit(pipeline, name)
    attempt(pipeline)
    assert "" == pipeline.store.complaints.latest(pipeline.store.now_ms())


@pytest.mark.parametrize("error", [AutoReconnect("closed"), NetworkTimeout("slow"), NotPrimaryError("another is")])
def test_a_server_that_is_away(pipeline, server, monkeypatch, error):
    """Where MongoDB does not answer the next command either, or is not the one to ask, nothing is looked for."""
    for name in names(pipeline, 20):
        commit(pipeline, name)
    server.refuses = lambda _: error

    def away(*_: object, **__: object) -> None:
        raise AutoReconnect("refused")

    monkeypatch.setattr(Collection, "update_many", away)
    for _ in range(5):
        with pytest.raises(FlushInterruptedError, match=r"MongoDB does not answer|has failed lately"):
            attempt(pipeline)
    assert ({}, 20) == (letters(pipeline), pipeline.status()["pending"])
    assert 2 * 5 >= server.sent  # each batch as a command, and once more by the driver


def test_an_outage_is_not_endless(pipeline, server, monkeypatch):
    """After very many attempts even a batch that is refused as a whole becomes letters."""
    monkeypatch.setattr(attempts, "MOST_ATTEMPTS", 5)
    ids = names(pipeline, 20)
    for name in ids:
        commit(pipeline, name)
    server.refuses = lambda _: {"code": 424242}

    for _ in range(4):
        with pytest.raises(FlushInterruptedError):
            attempt(pipeline)
    assert {} == letters(pipeline)
    attempt(pipeline)

    assert set(ids) == letters(pipeline).keys()


@pytest.mark.parametrize("code", [16500, 8000])
def test_throttling_makes_batches_smaller(pipeline, stored, server, code):
    """A server that refuses all of a batch, however fast, is given less at once, and nothing is given up."""
    ids = names(pipeline, 20)
    for name in ids:
        commit(pipeline, name)
    server.refuses = lambda _: {"code": code, "errmsg": "Request rate is large"}
    before = pipeline.flusher._batches.size.size
    for _ in range(2):
        with pytest.raises(FlushInterruptedError):
            attempt(pipeline)
    assert pipeline.flusher._batches.size.size < before
    assert {} == letters(pipeline)
    assert BreakerState() == pipeline.breaker.state()
    server.refuses = lambda _: None
    attempt(pipeline)

    assert set(ids) == {one["_id"] for one in stored.find()}


def test_an_outage_that_passes_slowly(pipeline, stored, server):
    """What was refused in an outage is not given up at the first refusals after it: only those count."""
    ids = names(pipeline, 20)
    for name in ids:
        commit(pipeline, name)
    server.refuses = lambda _: {"code": 8000}
    for _ in range(10):
        with pytest.raises(FlushInterruptedError):
            attempt(pipeline)
    for left in (15, 10):
        server.refuses = lambda id_, still=frozenset(ids[:left]): {"code": 8000} if id_ in still else None
        attempt(pipeline)
    assert {} == letters(pipeline)
    server.refuses = lambda _: None
    attempt(pipeline)

    assert set(ids) == {one["_id"] for one in stored.find()}


def test_a_collection_that_is_refused(pipeline, stored, server):
    """A collection that may not be written keeps nobody else waiting, however much of it is pending."""
    for name in (forbidden := names(pipeline, 30, "secret")):
        commit(pipeline, name, "secret")
    for name in (ids := names(pipeline, 5)):
        commit(pipeline, name)
    server.refuses = lambda id_: {"code": 13} if id_ in set(forbidden) - set(ids) else None

    with pytest.raises(FlushInterruptedError):
        attempt(pipeline)

    assert set(ids) <= {one["_id"] for one in stored.find()}


def test_a_shard_that_is_down(pipeline, stored, server):
    """While one shard finds no primary, documents of the others are settled, and its own wait."""
    down, *others = names(pipeline, 4)
    for name in [down, *others]:
        commit(pipeline, name)
    server.refuses = only(down, {"code": 133, "errmsg": "could not find host matching read preference"})

    assert 3 == attempt(pipeline).persisted
    assert ({}, 1) == (letters(pipeline), pipeline.status()["pending"])
    server.refuses = lambda _: None
    attempt(pipeline)

    assert {down, *others} == {one["_id"] for one in stored.find()}


def test_what_no_majority_has_is_not_settled(pipeline, users, stored, monkeypatch):
    """A bulk write that is done and that no majority acknowledges is pending, and becomes no dead letter."""
    users.put("one", {"n": 1})
    original = Collection.bulk_write

    def doubtful(*arguments, **options):
        original(*arguments, **options)
        said = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
        raise BulkWriteError({"writeErrors": [], "writeConcernErrors": [said], "nRemoved": 0})

    partition = pipeline.store.partition_of("users/s:one")
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "bulk_write", doubtful)
        left_to_the_driver(patch)
        with pytest.raises(
            FlushInterruptedError, match=r"cannot take writes now: waiting for replication timed out$"
        ):
            pipeline.flusher.flush(partition)
    assert (1, {}) == (pipeline.status()["pending"], letters(pipeline))
    pipeline.breaker._close()
    pipeline.flusher.drain(partition, budget_s=10)
    assert (0, 1) == (pipeline.status()["pending"], stored.find_one({"_id": "one"})["n"])
