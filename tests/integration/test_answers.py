"""Servers that speak MongoDB's protocol answer as MongoDB does not: nobody waits, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.server_api import ServerApi

from tests.rewriting import Answer, Rewrite, RewritingProxy
from writebehind import Pipeline
from writebehind.errors import MongoUnavailableError
from writebehind.flushing import attempts
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.mongodb.outcomes import Result
from writebehind.operations.doctor import Level, examine
from writebehind.redis.keys import partition_keys

OTHERS = [f"u{n}" for n in range(6)]


@pytest.fixture
def proxy(mongo) -> Iterator[RewritingProxy]:
    with RewritingProxy(mongo.port) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy, settings, valkey_wire) -> Iterator[Pipeline]:
    """A pipeline with one partition, behind the proxy."""
    url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
    changed = settings.model_copy(update={"partitions": 1, "mongodb_url": url})
    with MongoClient(url) as client:
        yield Pipeline(changed, wire=valkey_wire, client=client)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Four attempts."""
    monkeypatch.setattr(attempts, "ATTEMPTS", {Result.UNCLEAR: 4, Result.DISTURBED: 4})


def pending(pipeline: Pipeline) -> list[str]:
    """What waits for MongoDB."""
    return [one.decode() for one in pipeline.store._wire.call("ZRANGE", partition_keys(0).pending, 0, -1)]


def attempt(pipeline: Pipeline, times: int = 1) -> None:
    """Flush the partition, once all of its delays are over; so often."""
    for _ in range(times):
        for member in pending(pipeline):
            pipeline.store._wire.call("ZADD", partition_keys(0).pending, 1, member)
        with suppress(FlushInterruptedError):
            pipeline.flusher.flush(0)


def write(pipeline: Pipeline) -> None:
    """Documents of two collections, one of which is to be refused, and a deletion."""
    users, slow = pipeline.collection("users"), pipeline.collection("slow")
    users.put("gone", {})
    attempt(pipeline)
    users.put("poison", {})
    users.delete("gone")
    for name in OTHERS:
        users.put(name, {})
        slow.put(name, {})


def there(mongo_client: MongoClient, pipeline: Pipeline, collection: str = "users") -> set[str]:
    """What MongoDB has."""
    return {one["_id"] for one in mongo_client[pipeline.settings.mongodb_database][collection].find()}


def letters(pipeline: Pipeline) -> set[str]:
    """The documents that became dead letters."""
    return {one.letter.id.text for one in pipeline.dead_letters.all(Filter())}


def writes(command: dict[str, Any]) -> list[Any]:
    """The ids that a command writes, [] for another one."""
    return [one["q"].get("_id") for one in (*command.get("updates", ()), *command.get("deletes", ()))]


def after_writes(change: Callable[[list[Any], dict[str, Any]], dict[str, Any]]) -> Rewrite:
    """The answers to writes of documents are others."""

    def rewrite(command: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any] | None:
        ids = writes(command)
        return change(ids, reply) if ids and all(isinstance(one, str) for one in ids) else None

    return rewrite


def errors(**said: Any) -> Rewrite:
    """The write of one document is done, and answered with an error."""
    return after_writes(
        lambda ids, reply: (
            reply | {"writeErrors": [{"index": ids.index("poison"), **said}]} if "poison" in ids else reply
        )
    )


def only(*names: str) -> Rewrite:
    """Answers have these fields only."""
    return after_writes(lambda _, reply: {name: reply[name] for name in names if name in reply})


@pytest.mark.parametrize(
    "rewrite",
    [
        only("ok"),
        only("ok", "n"),
        only("ok", "n", "nModified"),
        after_writes(lambda _, reply: reply | {"n": 0, "nModified": 0}),
        after_writes(lambda _, reply: reply | {"n": "six"}),
        after_writes(lambda _, reply: reply | {"upserted": [{"index": 77, "_id": "x"}]}),
        after_writes(lambda _, reply: reply | {"writeErrors": [{"index": 77, "code": 8000, "errmsg": "no"}]}),
        after_writes(lambda _, reply: reply | {"writeErrors": [{"index": None, "code": 11000, "errmsg": "no"}]}),
        after_writes(lambda _, reply: reply | {"writeErrors": [{}]}),
        after_writes(lambda _, reply: reply | {"writeConcernError": {}}),
        errors(code=424242, errmsg="nobody knows"),
        errors(code=13, errmsg="after all"),
        errors(code=11000.0, errmsg="a double"),
        errors(errmsg="without a code"),
        errors(code=424242),
        errors(code=11000, errmsg=5),
        errors(code="E11000", errmsg="text"),
    ],
)
def test_what_is_done_is_done(behind, proxy, mongo_client, rewrite):
    """Whatever the answer lacks, or says that cannot be: what MongoDB has is settled, and no letter."""
    write(behind)
    proxy.rewrite = rewrite
    attempt(behind, 2)

    assert ([], set()) == (pending(behind), letters(behind))
    assert {"poison", *OTHERS} == there(mongo_client, behind)
    assert set(OTHERS) == there(mongo_client, behind, "slow")


@pytest.mark.parametrize("reply", [{"ok": 1.0, "n": 0, "nModified": 0}, {"ok": 1.0}])
def test_what_is_not_done_is_not_settled(behind, proxy, mongo_client, reply):
    """A server that says that all is well, and does nothing, is not believed: nothing is lost."""
    write(behind)
    proxy.answer = lambda command: reply if any(isinstance(one, str) for one in writes(command)) else None
    attempt(behind)

    assert 2 + 2 * len(OTHERS) == len(pending(behind))
    proxy.answer = lambda _: None
    attempt(behind)
    assert {"poison", *OTHERS} == there(mongo_client, behind)


def refuses_poison(code: int) -> Answer:
    """Commands that write one document are refused as a whole."""
    return lambda command: (
        {"ok": 0.0, "code": code, "errmsg": f"error {code}"} if "poison" in writes(command) else None
    )


@pytest.mark.parametrize("code", [1, 13, 59, 112, 115, 238, 8000, 16500])
def test_one_document_makes_commands_fail(behind, proxy, mongo_client, code):
    """Also where the server says "busy" of the whole command: the others go on, that one is given up."""
    write(behind)
    proxy.answer = refuses_poison(code)
    attempt(behind)

    assert ["users/s:poison"] == pending(behind)
    assert set(OTHERS) == there(mongo_client, behind) == there(mongo_client, behind, "slow")
    attempt(behind, 3)
    assert ([], {"poison"}) == (pending(behind), letters(behind))


@pytest.mark.parametrize("code", [13, 50, 8000, 16500])
def test_nobody_is_blamed_for_what_is_refused_together(behind, proxy, mongo_client, code):
    """A command that the server has no time for, or refuses whatever is in it, makes no letters; others go on."""
    write(behind)
    proxy.answer = lambda command: (
        refuses_poison(code)({"updates": [{"q": {"_id": "poison"}}]})
        if command.get("update", command.get("delete")) == "users"
        else None
    )
    attempt(behind, 6)

    assert (set(), 2 + len(OTHERS)) == (letters(behind), len(pending(behind)))
    assert set(OTHERS) == there(mongo_client, behind, "slow")
    proxy.answer = lambda _: None
    attempt(behind)
    assert {"poison", *OTHERS} == there(mongo_client, behind)


#: FerretDB 1.24 with SQLite: of a document that is new, and of one that is there.
TAKEN = [
    {
        "ok": 1.0,
        "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error collection: p2.u"}],
    },
    {
        "ok": 0.0,
        "code": 1,
        "codeName": "InternalError",
        "errmsg": "[msg_update.go:133 handler.(*Handler).updateDocument] [update.go:114 common.UpdateDocument] "
        "[collection.go:191 sqlite.(*collection).UpdateAll] "
        "[collection.go:177 sqlite.(*collection).UpdateAll.func1] "
        "constraint failed: UNIQUE constraint failed: index 'u_f00c3c10_m_1' (2067)",
    },
]


@pytest.mark.parametrize("reply", TAKEN, ids=["new", "there"])
def test_a_unique_value_that_is_taken(behind, proxy, mongo_client, reply):
    """However a server says that a unique value is there, and whatever the driver makes of that: it is 11000."""
    write(behind)
    proxy.answer = lambda command: reply if "poison" in writes(command) else None
    attempt(behind)

    assert ([], {"poison"}) == (pending(behind), letters(behind))
    assert 11000 == next(behind.dead_letters.all(Filter())).letter.code
    assert set(OTHERS) == there(mongo_client, behind)


def test_a_collection_that_may_not_be_read(behind, proxy, mongo_client):
    """Whoever may write and not read keeps nobody waiting because of an error beside."""
    write(behind)
    proxy.rewrite = errors(code=121, errmsg="Document failed validation")
    proxy.answer = lambda command: (
        {"ok": 0.0, "code": 13, "errmsg": "not authorized"} if "find" in command else None
    )
    attempt(behind)

    assert ([], {"poison"}) == (pending(behind), letters(behind))
    assert {*OTHERS} <= there(mongo_client, behind)


def test_a_server_without_hello(behind, proxy):
    """mongo-java-server knows only the older name of `hello`: doctor asks by that, and goes on."""
    proxy.answer = lambda command: (
        {"ok": 0.0, "code": 59, "errmsg": "no such command: 'hello'", "codeName": "CommandNotFound"}
        if "hello" in command and "client" not in command and "topologyVersion" not in command
        else None
    )
    found = {one.check: one for one in examine(behind) if one.check.startswith("mongodb")}

    assert Level.OK is found["mongodb topology"].level, found
    assert Level.OK is found["mongodb write concern"].level


def test_a_server_that_is_too_old(behind, proxy):
    """A server that the driver does not speak with is no server that has to be started."""
    proxy.answer = lambda command: {"ok": 1.0, "maxWireVersion": 5} if "hello" in command else None
    in_messages = ServerApi("1")  # the first command as well, which the proxy can read then
    with MongoClient(behind.settings.mongodb_url, server_api=in_messages) as client:
        behind.sink.use(client)
        with pytest.raises(MongoUnavailableError, match="wire version"):
            behind.sink.hello()
        [one] = [one for one in examine(behind) if one.check.startswith("mongodb")]

    assert (Level.FAILURE, "use a newer server, of which the driver knows") == (one.level, one.advice)
