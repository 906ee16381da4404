"""Writes that have an idempotency key: each counts once, however often, from wherever, and when it is repeated."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from bson import Decimal128, Int64

from tests.integration.conftest import full
from tests.integration.idempotency.conftest import KEY, held, keys_of
from writebehind import Pipeline
from writebehind.collection import BulkOperation, Collection
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidArgumentError,
    KeyReusedError,
    PatchConflictError,
    PreconditionFailedError,
    RedisFullError,
    UnavailableError,
)

THREADS = 8


WRITES: dict[str, Callable[[Collection, str], Any]] = {
    "put": lambda users, key: users.put("ada", {"n": 1}, key=key),
    "create": lambda users, key: users.create({"n": 1}, key=key),
    "delete": lambda users, key: users.delete("ada", key=key),
    "patch": lambda users, key: users.patch("ada", {"n": 5}, key=key),
    "json_patch": lambda users, key: users.patch("ada", json_patch=[{"op": "remove", "path": "/old"}], key=key),
    "function": lambda users, key: users.patch("ada", lambda found: {**found, "n": found["n"] + 1}, key=key),
    "update": lambda users, key: users.update("ada", {"n": 7}, key=key),
    "increment": lambda users, key: users.increment("ada", {"n": 1, "by.us": Int64(2)}, key=key).written,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_repeated(users, another, write):
    """A write that is repeated, also by another process, changes nothing, and is answered as the first was."""
    users.put("ada", {"n": 0, "old": True})
    first = write(users, KEY)
    after = users.read(first.id).entry

    again = [write(one, KEY) for one in (users, another)]

    assert [(first.id, first.version, first.etag, first.created, True)] * 2 == [
        (one.id, one.version, one.etag, one.created, one.replayed) for one in again
    ]
    assert not first.replayed
    assert after == users.read(first.id).entry


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_has_come_since_stands(users, write):
    """The first answer is the answer, whatever the document has become since, and that stands."""
    users.put("ada", {"n": 0, "old": True})
    first = write(users, KEY)
    users.delete(first.id)

    assert (first.version, first.etag) == (write(users, KEY).version, first.etag)
    assert users.get(first.id) is None


def test_values(users):
    """An increment that is repeated has the values of the first one, of the same types."""
    users.put("ada", {"n": Int64(1) << 40, "d": Decimal128("1.5")})
    deltas = {"n": 1, "d": Decimal128("0.25"), "f": 0.5, "new.one": 1}
    first = users.increment("ada", deltas, key=KEY)
    users.increment("ada", {"n": 1000})

    again = users.increment("ada", deltas, key=KEY)

    assert [(name, type(one), one) for name, one in first.values.items()] == [
        (name, type(one), one) for name, one in again.values.items()
    ]


def test_many_at_once(pipeline, users, another):
    """However many repeat it at the same moment, in several processes, it counts once."""
    users.put("ada", {"n": 0})
    together = Barrier(THREADS)

    def repeat(number: int) -> tuple[bool, int, Any]:
        together.wait(30)
        found = (users, another)[number % 2].increment("ada", {"n": 1}, key=KEY)
        return found.written.replayed, found.written.version, found.values

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(repeat, range(THREADS)))

    assert [False, *[True] * (THREADS - 1)] == sorted(replayed for replayed, _, _ in answers)
    assert 1 == len({version for _, version, _ in answers})
    assert [{"n": 1}] * THREADS == [values for _, _, values in answers]
    assert {"n": 1} == {name: one for name, one in users.get("ada").items() if name == "n"}
    assert (1, 1) == held(pipeline)


def test_an_id_is_drawn_where_the_key_is(pipeline, users, monkeypatch):
    """As many ids are drawn as it takes; where the key is, is found out once."""
    asked: list[str] = []
    partition_of = pipeline.store.final_partition_of
    monkeypatch.setattr(
        pipeline.store, "final_partition_of", lambda name: asked.append(name) or partition_of(name)
    )
    keys = [f"{number}" for number in range(8)]

    created = [users.create({}, key=key) for key in keys]

    assert [partition_of(key) for key in keys] == [
        partition_of(DocumentId.of("users", one.id).member) for one in created
    ]
    assert keys == [name for name in asked if name in keys]


OTHERS: dict[str, Callable[[Collection], Any]] = {
    "another document": lambda users: users.put("ada", {"n": 2}, key=KEY),
    "another condition": lambda users: users.put("ada", {"n": 1}, if_absent=True, key=KEY),
    "another method": lambda users: users.delete("ada", key=KEY),
    "a patch": lambda users: users.patch("ada", {"n": 1}, key=KEY),
    "an increment": lambda users: users.increment("ada", {"n": 1}, key=KEY),
    "a patch that does not fit": lambda users: users.patch(
        "ada", json_patch=[{"op": "remove", "path": "/x"}], key=KEY
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_request(users, other):
    """A key that another request has had is refused, and nothing is written."""
    users.put("ada", {"n": 1}, key=KEY)
    before = users.read("ada").entry

    with pytest.raises(KeyReusedError):
        other(users)

    assert before == users.read("ada").entry


def test_a_condition_is_decided_once(users):
    """A write whose condition held is repeated although it holds no more; one that failed has left nothing."""
    first = users.put("ada", {"n": 1}, if_absent=True, key=KEY)
    assert first.version == users.put("ada", {"n": 1}, if_absent=True, key=KEY).version
    second = users.put("ada", {"n": 2}, if_match=first.etag, key="2")
    assert second.version == users.put("ada", {"n": 2}, if_match=first.etag, key="2").version
    third = users.put("ada", {"n": 3}, if_match=[first.etag, second.etag], key="3")
    assert third.version == users.put("ada", {"n": 3}, if_match=[first.etag, second.etag], key="3").version

    with pytest.raises(PreconditionFailedError):
        users.put("ada", {"n": 4}, if_match=first.etag, key="4")
    assert not users.put("ada", {"n": 4}, key="4").replayed


def test_a_change_that_failed_left_nothing(users):
    """A patch that did not fit is tried anew when it is repeated."""
    with pytest.raises(DocumentNotFoundError):
        users.patch("ada", {"n": 1}, key=KEY)
    users.put("ada", {})
    with pytest.raises(PatchConflictError):
        users.patch("ada", json_patch=[{"op": "remove", "path": "/n"}], key="2")

    assert not users.patch("ada", {"n": 1}, key=KEY).replayed
    assert not users.patch("ada", json_patch=[{"op": "remove", "path": "/n"}], key="2").replayed


def test_a_plain_write_is_as_it_was(pipeline, users, monkeypatch):
    """A write without a key sends no key and no argument for one."""
    sent = []
    call = pipeline.store._commit_call
    monkeypatch.setattr(pipeline.store, "_commit_call", lambda *given: sent.append(call(*given)) or sent[-1])

    users.put("ada", {})
    users.put("ada", {}, key=KEY)

    assert [(11, 8), (15, 19)] == [(len(keys), len(arguments)) for keys, arguments in sent]
    assert (1, 1) == held(pipeline)


@pytest.mark.parametrize("key", ["", "a" * 256, "ä", "a\n", "a\x7f", b"a", 7])
def test_no_key(users, key):
    """What is no key is refused."""
    with pytest.raises(InvalidArgumentError, match=r"key"):
        users.put("ada", {}, key=key)
    assert users.get("ada") is None


def test_redis_breaks_off(pipeline, users, monkeypatch):
    """An increment whose answer did not come is known to have counted as soon as Redis answers again."""
    users.put("ada", {"n": 0})
    commit_many = pipeline.store.commit_many

    def cut(*given):
        commit_many(*given)
        raise UnavailableError("cut")

    monkeypatch.setattr(pipeline.store, "commit_many", cut)
    done = users.increment("ada", {"n": 1}, key=KEY)

    assert ({"n": 1}, 1) == (done.values, users.get("ada")["n"])


def test_mongodb_is_away(pipeline, users):
    """What is repeated needs no MongoDB, although the document is no longer in Redis."""
    users.put("ada", {"n": 0})
    first = users.increment("ada", {"n": 1}, key=KEY)
    pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    pipeline.store._wire.call("DEL", keys_of(pipeline).entry("users/s:ada"))
    away = {"mongodb_url": "mongodb://127.0.0.1:1/?directConnection=true", "mongodb_timeout_ms": 200}

    with Pipeline(pipeline.settings.model_copy(update=away), wire=pipeline.store._wire) as cut_off:
        again = cut_off.collection("users").increment("ada", {"n": 1}, key=KEY)

    assert (first.values, first.written.version) == (again.values, again.written.version)


def test_a_full_redis(pipeline, users, valkey_wire):
    """What is repeated is answered without any memory left, and what is new is refused."""
    first = users.put("ada", {"n": 1}, key=KEY)

    with full(valkey_wire):
        assert first.version == users.put("ada", {"n": 1}, key=KEY).version
        with pytest.raises(RedisFullError):
            users.put("ada", {"n": 2}, key="2")


def test_bulk(users, another):
    """Each operation of a bulk is known by its own key: what was done before is not, and the rest is."""
    users.put("bob", {"n": 0, "old": 1})
    operations = [
        BulkOperation("put", "ada", {"n": 1}, key="1"),
        BulkOperation("patch", "bob", change={"n": 1}, key="2"),
        BulkOperation("patch", "bob", json_patch=({"op": "remove", "path": "/old"} for _ in range(1)), key="3"),
        BulkOperation("delete", "eve", key="4"),
        BulkOperation("put", "eve", {"n": 1}, if_match="*", key="5"),
        BulkOperation("put", "ada", {"n": 2}, key="1"),
        BulkOperation("put", "ada", {"n": 1}, key="1"),
    ]
    first = users.bulk(operations)
    again = another.bulk([*operations[:2], BulkOperation("put", "new", {}, key="6")])

    assert [False, False, False, False, PreconditionFailedError, KeyReusedError, True] == [
        type(one) if isinstance(one, Exception) else one.replayed for one in first
    ]
    assert [(True, first[0].version), (True, first[1].version), (False, again[2].version)] == [
        (one.replayed, one.version) for one in again
    ]
    assert {"_id": "bob", "n": 1} == users.get("bob")
