"""Fates of writes that a failover has lost, where others have come in between or MongoDB cannot be asked."""

from __future__ import annotations

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_lost_writes import Process, meet, promote, servers, start, stored
from tests.integration.topology.test_terms import cut_off
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind.errors import MongoUnavailableError, PipelineClosedError
from writebehind.redis.keys import partition_keys

__all__ = ["servers", "start"]


class Unasked:
    """MongoDB for one process: it does not answer, while it does to others."""

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(process.pipeline.sink, "versions", self._versions)

    def _versions(self, _ids: object) -> dict[str, int]:
        self.times += 1
        raise MongoUnavailableError("it is away")


@pytest.fixture
def outdated(servers: tuple[Watched, Watched], start) -> tuple[Process, Process]:
    """One whose write was lost, and another that has persisted a newer one, whose entry is gone."""
    process, other = start(), start()
    process.users().put("first", {"n": 1})
    cut_off(*servers)
    process.users().put("ada", {"n": 1})
    promote(servers)
    other.follow(servers[1])
    other.users().put("ada", {"n": 2})
    flush_all(other.pipeline)
    partition = process.pipeline.store.partition_of("users/s:ada")
    servers[1].ask("DEL", partition_keys(partition).entry("users/s:ada"))
    return process, other


def test_nothing_is_committed_again_unasked(servers, outdated, mongo_client, monkeypatch):
    """MongoDB may have something newer from others; it is asked until it answers."""
    process, other = outdated
    with monkeypatch.context() as away:
        unasked = Unasked(process, away)
        process.follow(servers[1])
        wait_until(lambda: unasked.times > 2, "it to ask again", 20)
        assert ({}, False) == (process.fates(), process.seen_to())
        assert 2 == other.users().get("ada")["n"]
    wait_until(process.seen_to, "MongoDB to answer", 20)
    assert {"superseded": 1} == process.fates()
    other.users().increment("ada", {"m": 1})
    assert 2 == stored(other, mongo_client)["ada"]


def test_what_cannot_be_asked_for_is_told_in_the_end(servers, outdated, monkeypatch):
    """Once deletions may be forgotten, nothing else would be left."""
    process, other = outdated
    Unasked(process, monkeypatch)
    process.pipeline.lost_writes._grace_us = 1
    meet(servers, process)
    assert {"late": 1} == process.fates()
    assert 2 == other.users().get("ada")["n"]


def test_a_pipeline_that_is_closed_meanwhile(servers, outdated, monkeypatch):
    """It commits nothing again without MongoDB, and its thread has ended."""
    process, other = outdated
    lost_writes = process.pipeline.lost_writes

    def closing(_ids: object) -> dict[str, int]:
        lost_writes.close()
        raise PipelineClosedError

    monkeypatch.setattr(process.pipeline.sink, "versions", closing)
    thread = lost_writes._thread
    process.follow(servers[1])
    wait_until(lambda: not thread.is_alive(), "the thread to end", 20)
    assert {} == process.fates()
    assert 2 == other.users().get("ada")["n"]


def test_closing_waits_for_the_thread(start):
    """Or it would go on with what is closed."""
    process = start(redis_timeout_ms=30_000)
    process.users().put("ada", {"n": 1})
    process.pipeline.store.recent.there_are_replicas()
    process.users().put("bob", {"n": 1})
    thread = process.pipeline.lost_writes._thread
    process.pipeline.lost_writes.close()
    assert not thread.is_alive()
