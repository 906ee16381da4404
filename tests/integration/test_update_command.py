"""A batch in one command of bytes: what of it is left to the driver's bulk write, and what is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, PyMongoError
from pymongo.synchronous.collection import Collection
from pymongo.synchronous.database import Database

from tests.sinks import COLLECTION, deletion, results, write
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb import update_command
from writebehind.mongodb.columns import Columns, columns
from writebehind.mongodb.outcomes import Result, Write

#: Changes what a command has answered.
Changes = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name][COLLECTION]


@pytest.fixture
def by_driver(monkeypatch) -> list[int]:
    """The sizes of the batches that the driver's bulk write was given."""
    sizes: list[int] = []
    original = Collection.bulk_write

    def bulk_write(target, operations, **options):
        sizes.append(len(operations))
        return original(target, operations, **options)

    monkeypatch.setattr(Collection, "bulk_write", bulk_write)
    return sizes


@pytest.fixture
def after(monkeypatch) -> Callable[[Changes], None]:
    """Let something happen after `update` commands are done."""

    def begin(changes: Changes) -> None:
        original = Database.command

        def command(database, name, *rest, **options):
            answer = original(database, name, *rest, **options)
            return changes(answer) if name == "update" else answer

        monkeypatch.setattr(Database, "command", command)

    return begin


def raises(error: PyMongoError) -> Changes:
    def change(_: dict[str, Any]) -> dict[str, Any]:
        raise error

    return change


def test_plain_documents_take_one_command(sink, users, by_driver):
    """Of any sizes and ids; those that are there are replaced."""
    results(sink, write("a", 1, text="x" * 100_000), write("c", 1))

    assert [Result.PERSISTED] * 3 == results(sink, write("a", 2), write("", 2), write("Zoë", 2))
    assert {"a": 2, "c": 1, "": 2, "Zoë": 2} == {one["_id"]: one["_v"] for one in users.find()}
    assert [] == by_driver


@pytest.mark.parametrize("limit", ["MOST_DOCUMENTS", "MOST_BYTES"])
def test_what_is_too_much_for_a_command_is_left_to_the_driver(sink, users, by_driver, monkeypatch, limit):
    """Which makes several of it."""
    monkeypatch.setattr(update_command, limit, 1)

    assert [Result.PERSISTED] * 2 == results(sink, write("a", 1), write("b", 1))
    assert ([2], 2) == (by_driver, users.count_documents({}))


def test_deletions_are_left_to_the_driver(sink, users, by_driver):
    """With the documents beside them."""
    results(sink, write("a", 1))

    assert [Result.PERSISTED] * 2 == results(sink, deletion("a", 2), write("b", 2))
    assert ([2], ["b"]) == (by_driver, [one["_id"] for one in users.find()])


@pytest.mark.parametrize(
    "error",
    [AutoReconnect("lost"), *(OperationFailure("steps down", code) for code in (91, 189, 262, 10107, 11602))],
    ids=repr,
)
def test_what_another_server_may_take_is_sent_again(sink, users, by_driver, after, error):
    """Nobody knows whether it was done; where it was, the versions keep it from being done once more."""
    results(sink, write("b", 7, n="newer"))
    after(raises(error))

    found = results(sink, write("a", 5, n=1), write("b", 5, n="older"), write("c", 5))

    assert [Result.PERSISTED, Result.SUPERSEDED, Result.PERSISTED] == found
    assert {"a": 5, "b": 7, "c": 5} == {one["_id"]: one["_v"] for one in users.find()}
    assert 3 == by_driver[0]


def test_durability_that_another_server_may_give_is_asked_for_again(sink, by_driver, after):
    """A server that steps down says so of durability, and no more."""
    after(lambda answer: {**answer, "writeConcernError": {"code": 189, "errmsg": "steps down"}})

    assert [Result.PERSISTED] == results(sink, write("a", 1))
    assert [1] == by_driver


def test_what_is_not_durable_is_not_settled(sink, by_driver, after):
    """And is not sent again at once, as the driver would not."""
    after(lambda answer: {**answer, "writeConcernError": {"code": 64, "errmsg": "no majority"}})

    with pytest.raises(MongoUnavailableError, match="no majority"):
        sink.write(COLLECTION, [write("a", 1)])
    assert [] == by_driver


def test_what_took_too_long_is_not_sent_again(sink, by_driver, after):
    """A flusher may send nothing once its time is over."""
    after(raises(NetworkTimeout("timed out")))

    with pytest.raises(MongoUnavailableError):
        sink.write(COLLECTION, [write("a", 1)])
    assert [] == by_driver


def test_an_answer_that_says_nothing(sink, users, by_driver, after):
    """The driver is asked to do it, who reads such answers otherwise."""
    after(lambda answer: {"ok": answer["ok"]})

    assert [Result.PERSISTED] == results(sink, write("a", 1))
    assert ([1], 1) == (by_driver, users.count_documents({}))


def in_columns(*writes: Write) -> Columns:
    [found] = columns(COLLECTION, [(one.id.member, one.entry.value) for one in writes], [])
    return found


def test_columns_that_are_taken_have_no_outcomes(sink, users, by_driver):
    """And no object is made for any of their documents."""
    batch = in_columns(write("a", 2, n=1), write("b", 1))

    assert [] == sink.write(COLLECTION, batch)
    assert ([], []) == (by_driver, batch._writes)
    assert {"a": 2, "b": 1} == {one["_id"]: one["_v"] for one in users.find()}


def test_each_of_columns_has_an_outcome_where_not_all_are_taken(sink, users):
    """As by the other way."""
    results(sink, write("b", 7, n="newer"), write("c", 3))

    outcomes = sink.write(COLLECTION, in_columns(write("a", 2), write("b", 5), write("c", 3)))

    assert [Result.PERSISTED, Result.SUPERSEDED, Result.PERSISTED] == [one.result for one in outcomes]
    assert {"a": 2, "b": 7, "c": 3} == {one["_id"]: one["_v"] for one in users.find()}


def test_columns_that_another_server_may_take_are_sent_again(sink, users, by_driver, after):
    """By the driver."""
    after(raises(OperationFailure("steps down", 189)))

    outcomes = sink.write(COLLECTION, in_columns(write("a", 5), write("b", 5)))

    assert [Result.PERSISTED] * 2 == [one.result for one in outcomes]
    assert ([2], {"a": 5, "b": 5}) == (by_driver, {one["_id"]: one["_v"] for one in users.find()})


def test_a_command_can_be_logged(sink, caplog):
    """What is sent, with its documents."""
    with caplog.at_level(logging.DEBUG, logger="pymongo.command"):
        sink.write(COLLECTION, in_columns(write("a", 5, n="Ada Lovelace")))
    assert any("Ada Lovelace" in one.getMessage() for one in caplog.records)
