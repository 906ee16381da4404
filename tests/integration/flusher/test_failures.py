"""Documents that MongoDB refuses, servers that do not answer, and entries that are lost in Redis."""

from __future__ import annotations

import bson
import pytest
from pymongo import MongoClient

from tests.integration.flusher.conftest import PARTITION, commit, names
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.flusher import FlushInterruptedError, backoff_ms
from writebehind.redis.keys import partition_keys


def test_a_refused_document_is_buried_alone(pipeline, users, flusher, caplog):
    """A document that MongoDB refuses becomes a dead letter with the reason; readers still see it."""
    users.create_index("mail", unique=True)
    first, twin, other = names(pipeline, 3)
    commit(pipeline, first, mail="a@x")
    flusher.flush(PARTITION)
    commit(pipeline, twin, mail="a@x")
    commit(pipeline, other, mail="b@x")

    summary = flusher.flush(PARTITION)

    assert (1, 1) == (summary.persisted, summary.buried)
    assert (0, 1) == (pipeline.status()["pending"], pipeline.status()["dead_letters"])
    letter = pipeline.store._wire.call("HGET", partition_keys(PARTITION).dead, f"users/s:{twin}")
    assert b'"reason":"refused"' in letter
    assert b'"code":11000' in letter
    assert pipeline.store.cache.get(f"users/s:{twin}")[0].exists
    assert f"dead letter users {twin} version " in caplog.text  # as commands take it


def test_a_conflict_keeps_what_mongodb_has(pipeline, users, flusher):
    """When Redis lost a later write that MongoDB has, MongoDB's stands and ours is kept with its body."""
    [ada] = names(pipeline, 1)
    ours = commit(pipeline, ada, n="ours")
    users.insert_one({"_id": ada, "n": "later", "_v": bson.Int64(ours + 1)})

    summary = flusher.flush(PARTITION)

    assert (0, 1, 1) == (summary.persisted, summary.superseded, summary.buried)
    assert "later" == users.find_one({})["n"]
    assert (None, -2) == pipeline.store.cache.get(f"users/s:{ada}")
    letter = pipeline.dead_letters.show(DocumentId.of("users", ada)).letter
    assert ("conflict", {"_id": ada, "n": "ours"}) == (letter.reason, bson.decode(letter.body))


def test_a_lost_entry_does_not_stop_the_others(pipeline, users, flusher, caplog):
    """A pending document whose entry somebody deleted in Redis is reported loudly; its neighbours go on."""
    gone, ada = names(pipeline, 2)
    commit(pipeline, gone)
    commit(pipeline, ada)
    pipeline.store._wire.call("DEL", partition_keys(PARTITION).entry(f"users/s:{gone}"))

    summary = flusher.flush(PARTITION)

    assert (1, 1) == (summary.persisted, summary.buried)
    assert [ada] == [one["_id"] for one in users.find()]
    assert ["CRITICAL"] == [record.levelname for record in caplog.records]


def test_nothing_is_settled_while_mongodb_hangs(pipeline, settings, mongo, way_to, users):
    """While MongoDB does not answer everything stays pending; when it is back, everything is persisted."""
    written = {name: commit(pipeline, name) for name in names(pipeline, 20)}
    with (
        way_to("mongodb", mongo.port) as way,
        MongoClient(way.url, serverSelectionTimeoutMS=300) as client,
    ):
        slow = settings.model_copy(update={"mongodb_timeout_ms": 300})
        tickets: list[str] = []
        wire = pipeline.store._wire
        cut_off = Pipeline(slow, hints=lambda hint: tickets.append(hint.ticket), wire=wire, client=client)
        way.proxy.hang()
        for attempt in (0, 1):
            with pytest.raises(FlushInterruptedError) as interrupted:
                cut_off.flusher.flush(PARTITION, attempt=attempt)
            assert interrupted.value.hint.delay_ms >= 100
            assert 20 == pipeline.status()["pending"]
        way.proxy.flow()
        tickets.append(interrupted.value.hint.ticket)

        def drained() -> bool:
            """Flush as a task does: each leaves a ticket for the next, where that is needed."""
            try:
                cut_off.flusher.flush(PARTITION, ticket=tickets[-1])
            except FlushInterruptedError as error:
                tickets.append(error.hint.ticket)
            return pipeline.status()["pending"] == 0

        wait_until(drained, "the flush after the outage", 30)

    assert written == {one["_id"]: one["_v"] for one in users.find()}


def sent(pipeline) -> tuple[int, int]:
    """Operations and batches, as they are counted."""
    totals = pipeline.status()["totals"]
    return totals["operations"], totals.get("batches", 0)


def test_what_is_never_sent_is_not_counted(pipeline, settings):
    """Neither where no server is found, nor where the breaker is open: MongoDB got no operation, and no batch."""
    commit(pipeline, names(pipeline, 1)[0])
    nowhere = settings.model_copy(
        update={"mongodb_url": "mongodb://127.0.0.1:1", "mongodb_timeout_ms": 100, "metrics_dir": None}
    )
    with Pipeline(nowhere, wire=pipeline.store._wire) as cut_off:
        for attempt in range(5):
            with pytest.raises(FlushInterruptedError):
                cut_off.flusher.flush(PARTITION, attempt=attempt)

        assert "open" == cut_off.status()["breaker"]
        assert (0, 0) == sent(pipeline)


def test_what_is_sent_in_vain_is_counted(pipeline, users, flusher, settings, mongo, way_to):
    """A refused document counts with its second try, and so does a batch after which MongoDB hangs."""
    users.create_index("mail", unique=True)
    users.insert_one({"_id": "x", "mail": "a@x"})
    twin, other, late = names(pipeline, 3)
    commit(pipeline, twin, mail="a@x")
    commit(pipeline, other, mail="b@x")
    assert 3 == flusher.flush(PARTITION).operations
    assert (3, 1) == sent(pipeline)

    with way_to("mongodb", mongo.port) as way:
        slow = settings.model_copy(update={"mongodb_url": way.url, "mongodb_timeout_ms": 300})
        with Pipeline(slow, wire=pipeline.store._wire) as cut_off:
            cut_off.sink.ping(timeout_s=10)
            way.proxy.hang()
            commit(pipeline, late)
            with pytest.raises(FlushInterruptedError):
                cut_off.flusher.flush(PARTITION)

    assert (4, 2) == sent(pipeline)


def test_mongodb_is_asked_again_when_that_makes_sense(pipeline, flusher, monkeypatch):
    """After the time that the breaker says, where that is longer than the wait after a failure."""
    [ada] = names(pipeline, 1)
    commit(pipeline, ada)

    def away(*_, **__):
        raise MongoUnavailableError("no", retry_after_s=30.5)

    monkeypatch.setattr(pipeline.sink, "write", away)

    with pytest.raises(FlushInterruptedError) as interrupted:
        flusher.flush(PARTITION)

    assert 30_000 < interrupted.value.hint.delay_ms <= 30_500


def test_each_failure_makes_the_next_wait_longer(monkeypatch):
    """Twice as long at most, up to a bound."""
    monkeypatch.setattr("random.randint", lambda _least, most: most)

    assert [200, 400, 800, 1_600, 3_200, 5_000, 5_000] == [backoff_ms(attempt) for attempt in range(7)]
