"""A collection that MongoDB does not let be read or written keeps nobody else waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.synchronous.collection import Collection

from tests.integration.conftest import flush_all
from tests.integration.not_now.conftest import commit
from tests.refusals import left_to_the_driver
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.errors import MongoRefusesError
from writebehind.flushing.dead_letters import Filter
from writebehind.mongodb import breaker
from writebehind.mongodb.breaker import FAILURES, BreakerState
from writebehind.reconcile.findings import Drift
from writebehind.redis.keys import partition_keys
from writebehind.warming.warmer import Warmed

CLOSED = "through"  # any of the settings of the tests


@pytest.fixture
def no_rights(monkeypatch) -> Callable[[], None]:
    """Take the rights on one collection away."""

    def closing(original: Callable) -> Callable:
        def method(collection: Collection, *args: object, **kwargs: object) -> object:
            if collection.name == CLOSED:
                raise OperationFailure("not authorized", 13)
            return original(collection, *args, **kwargs)

        return method

    def take_away() -> None:
        for name in ("find", "bulk_write", "update_many"):
            monkeypatch.setattr(Collection, name, closing(getattr(Collection, name)))
        left_to_the_driver(monkeypatch)

    return take_away


def put_and_flush(pipeline: Pipeline, names: range, collection: str) -> None:
    for name in names:
        pipeline.collection(collection).put(f"u{name}", {"n": name})
    flush_all(pipeline)


def test_deletions_are_audited(pipeline, no_rights, monkeypatch, stored):
    """Deletions of the other collections are audited."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    for collection in (CLOSED, "users"):
        for name in range(5):
            pipeline.collection(collection).delete(f"u{name}")
    flush_all(pipeline)
    no_rights()

    assert 10 == pipeline.maintenance.audit_deletions()["audited"]
    assert 0 == pipeline.maintenance.audit_deletions()["audited"]


def test_a_deletion_that_is_refused(pipeline, monkeypatch):
    """What MongoDB says of one deletion is an answer, and no error of ours."""

    def refuse(*_: object, **__: object) -> None:
        raise BulkWriteError({"writeErrors": [{"index": 0, "code": 20, "errmsg": "cannot remove"}]})

    monkeypatch.setattr(Collection, "bulk_write", refuse)
    monkeypatch.setattr(breaker, "FIRST_INTERVAL_MS", 50)
    monkeypatch.setattr(breaker, "LOOK_EVERY_S", 0.0)
    for _ in range(FAILURES):
        pipeline.breaker._failed("it was down", probing=False)
    wait_until(lambda: pipeline.breaker.state().retry_after_s == 0, "the interval to be over")
    with pytest.raises(MongoRefusesError, match="cannot remove"):
        pipeline.sink.delete_older("users", {pipeline.collection("users").id("ada"): 5})
    assert BreakerState() == pipeline.breaker.state()


def test_reconciling(pipeline, no_rights, stored):
    """Drift of the other collections is found and repaired."""
    for collection in (CLOSED, "users"):
        put_and_flush(pipeline, range(20), collection)
    for name in range(20):
        pipeline.collection(CLOSED).delete(f"u{name}")
    flush_all(pipeline)
    stored.update_one({"_id": "u7"}, {"$set": {"n": -1}})
    no_rights()

    found = pipeline.reconciler.make_pass()

    assert 1 == sum(found.found.values())
    assert Drift.STALE_ENTRY in {Drift(one) for one in found.found}
    assert -1 == pipeline.collection("users").get("u7")["n"]


def test_changes_of_others(pipeline, no_rights, stored):
    """The changes of the other collections reach the cache, and of this one nothing is believed."""
    for collection in (CLOSED, "users"):
        put_and_flush(pipeline, range(1), collection)
    closed, user = pipeline.collection(CLOSED).id("u0"), pipeline.collection("users").id("u0")
    no_rights()

    applied = pipeline.applier.apply([OutsideChange(one, "delete", 1, None) for one in (closed, user)])

    assert 1 <= applied.invalidated
    assert pipeline.store.cache.get(closed.member)[0] is None


def test_warming(pipeline, no_rights, stored):
    """The other collections are kept warm, and whoever reads this one need not wait for its token to run out."""
    closed, user = pipeline.collection(CLOSED).id("u0"), pipeline.collection("users").id("u0")
    stored.insert_one({"_id": "u0", "n": 1})
    pipeline.store.loads.get_or_lease_many([closed.member, user.member], "t", life_ms=60_000)
    no_rights()
    done = Warmed()

    pipeline.warmer._fill([closed, user], "t", done)

    assert (1, 1) == (done.loaded, done.warmed)
    assert pipeline.store.cache.get(user.member)[0].exists
    assert pipeline.store.loads.get_or_lease_many([closed.member], "other", life_ms=1)[0].may_load


@pytest.mark.parametrize("name", ["a..b", "logs.", ".x", "system.x", "$cmd", "a$b", "x" * 121])
def test_requests_for_impossible_names(pipeline, name):
    """What is asked of a collection that cannot be is answered at the door: no server hears of it."""
    settings = pipeline.settings.model_copy(update={"allow_unlisted": True})
    anybody = Pipeline(settings, wire=pipeline.store._wire, client=pipeline._client)
    client, before = create_app(anybody).test_client(), pipeline.store._wire.call("DBSIZE")
    document = {"json": {"n": 1}}
    for _ in range(FAILURES + 1):
        for answer in (
            client.get(f"/v1/{name}/y"),
            client.put(f"/v1/{name}/y", **document),
            client.delete(f"/v1/{name}/y"),
            client.post(f"/v1/{name}:bulk", json={"operations": [{"op": "put", "id": "a", "doc": {}}]}),
            client.post(f"/v1/{name}:get", json={"ids": ["y"]}),
        ):
            assert (404, "application/problem+json") == (answer.status_code, answer.content_type)
    assert before == pipeline.store._wire.call("DBSIZE")
    assert BreakerState() == pipeline.breaker.state()
    assert 404 == client.get("/v1/users/y").status_code
    assert 201 == client.put("/v1/users/y", **document).status_code


def test_an_impossible_name_that_was_acknowledged(pipeline):
    """What an older process has let in under an impossible name stops no task after it has become a letter."""
    member = commit(pipeline, "x", "a..b")
    pipeline.flusher.flush(pipeline.store.partition_of(member))
    put_and_flush(pipeline, range(3), "users")

    found = pipeline.reconciler.make_pass()
    pipeline.maintenance.audit_deletions()

    assert {} == {kind: count for kind, count in found.found.items() if count}
    [letter] = pipeline.dead_letters.all(Filter())
    assert ("a..b", "x") == (letter.letter.id.collection, letter.letter.id.text)
    pipeline.dead_letters.replay([letter])
    pipeline.flusher.flush(pipeline.store.partition_of(member))
    assert 1 == pipeline.dead_letters.discard(pipeline.dead_letters.all(Filter()))
    assert pipeline.store._wire.call("EXISTS", pipeline.store.cache.key(member)) == 0
    assert pipeline.store._wire.call("ZCARD", partition_keys(pipeline.store.partition_of(member)).pending) == 0
    assert BreakerState() == pipeline.breaker.state()
