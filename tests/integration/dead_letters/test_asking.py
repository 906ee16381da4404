"""Who lets something be pending asks workers for a flush, or leaves no ticket that says that somebody did."""

from __future__ import annotations

import os
import socket
import sys
from unittest.mock import Mock

import pytest

from tests.integration.conftest import flush_all, wait_for_tasks
from writebehind import Pipeline
from writebehind.flushing.dead_letters import Filter
from writebehind.redis.keys import partition_keys


@pytest.fixture
def dead(pipeline, users, stored) -> Pipeline:
    """A pipeline with a dead letter, and nothing pending."""
    stored.create_index("mail", unique=True)
    stored.insert_one({"_id": "first", "mail": "same"})
    users.put("ada", {"mail": "same"})
    flush_all(pipeline)
    assert 1 == pipeline.dead_letters.count()
    assert [] == tickets(pipeline)
    return pipeline


@pytest.fixture
def silent(pipeline, valkey_wire, mongo_client) -> Pipeline:
    """Another process on the same servers, which asks nobody for a flush."""
    return Pipeline(pipeline.settings, wire=valkey_wire, client=mongo_client)


def tickets(pipeline: Pipeline) -> list[int]:
    """The partitions of which a flush task is said to be on its way."""
    every = range(pipeline.settings.partitions)
    return [one for one in every if pipeline.store._wire.call("EXISTS", partition_keys(one).scheduled)]


def overdue(pipeline: Pipeline) -> None:
    """Let a document be pending for long, of which no worker was told."""
    one = pipeline.collection("users").put("ada", {"n": 1})
    of = partition_keys(pipeline.store.partition_of("users/s:ada"))
    pipeline.store._wire.call("ZADD", of.pending, one.version // 1000 - 60_000, "users/s:ada")
    pipeline.store._wire.call("DEL", of.scheduled)


def test_a_replay_by_the_command_line_asks_workers(run, dead, depths):
    """The flush task of a replayed letter is in the broker when the command ends: nothing waits for the sweep.

    What is said promises no more than that.
    """
    output = run("dead-letters", "replay", "--all").output
    assert "1 replayed; workers try that now, and --wait says what comes of it" in output

    wait_for_tasks(depths, 1)
    assert [dead.store.partition_of("users/s:ada")] == tickets(dead)


def test_who_replays_and_discards_is_logged(run, dead, caplog, monkeypatch):
    """With what was meant and how many there were; by number where a user has no name."""
    run("dead-letters", "replay", "users", "ada")
    flush_all(dead)
    monkeypatch.setattr("getpass.getuser", Mock(side_effect=KeyError))
    run("dead-letters", "discard", "--code", "11000", "--yes")

    told = [one for one in caplog.records if getattr(one, "event", "").startswith("letters_")]
    assert [("letters_replayed", 1), ("letters_discarded", 1)] == [(one.event, one.count) for one in told]
    assert ["users ada", "--code 11000"] == [one.chosen for one in told]
    assert all(one.by.endswith(f"@{socket.gethostname()}") for one in told)
    assert told[1].by.startswith(f"{os.getuid()}@")


def test_reconciling_by_the_command_line_asks_workers(run, pipeline, depths):
    """So is that of what reconciling finds waiting."""
    overdue(pipeline)

    assert "unscheduled" in run("reconcile", "--all").output

    wait_for_tasks(depths, 1)


@pytest.mark.parametrize("why", ["no Celery", "no such broker"])
def test_without_a_broker_no_ticket_is_left(run, dead, monkeypatch, why):
    """Where the command can ask nobody, it replays all the same, and keeps nobody else from asking."""
    if why == "no Celery":
        monkeypatch.setitem(sys.modules, "writebehind.celery.publisher", None)
    else:
        monkeypatch.setenv("BROKER_URL", "nonsense://127.0.0.1:1/0")

    assert "1 replayed" in run("dead-letters", "replay", "--all").output

    assert [] == tickets(dead)
    assert 1 == dead.status()["pending"]


def test_who_asks_nobody_keeps_nobody_from_asking(pipeline, silent, hints):
    """A write of a process that sends no hints issues no ticket: the next one of another process sends one."""
    silent.collection("users").put("ada", {"n": 1})
    assert [] == tickets(pipeline)
    hints.clear()

    pipeline.collection("users").put("ada", {"n": 2})

    assert [pipeline.store.partition_of("users/s:ada")] == [hint.partition for hint in hints] == tickets(pipeline)


def test_neither_do_its_replays_sweeps_and_flushes(dead, silent):
    """Nor does it issue a ticket where it replays a letter, sweeps, or lets go of what others have to flush."""
    [letter] = silent.dead_letters.all(Filter())
    silent.dead_letters.replay([letter])
    assert [] == tickets(dead)

    overdue(dead)
    assert {"pending": 1, "enqueued": 0} == silent.maintenance.sweep()
    assert [] == tickets(dead)

    partition = silent.store.partition_of("users/s:ada")
    assert [] == silent.store.pending.claim(partition, "token", lease_ms=5_000, limit=0)
    assert [partition] == tickets(dead)
    assert silent.store.pending.release(partition, "token") is None
    assert [] == tickets(dead)
