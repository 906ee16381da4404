"""Fates of writes that a failover has lost, where others have come in between or MongoDB cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_lost_writes import (
    Process,
    fail_over,
    meet,
    promote,
    servers,
    start,
    stored,
)
from tests.integration.topology.test_terms import cut_off
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, PipelineClosedError
from writebehind.redis.keys import DATABASE, partition_keys

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
def apart(servers: tuple[Watched, Watched], start) -> tuple[Process, Process]:
    """One whose write was lost, which does not know it, and another that has met the new primary."""
    process, other = start(), start()
    process.users().put("first", {"n": 1})
    cut_off(*servers)
    process.users().put("ada", {"n": 1})
    promote(servers)
    other.follow(servers[1])
    return process, other


def outdate(servers: tuple[Watched, Watched], other: Process) -> None:
    """Write over what was lost, and persist it; its entry is evicted."""
    other.users().put("ada", {"n": 2})
    flush_all(other.pipeline)
    partition = other.pipeline.store.partition_of("users/s:ada")
    servers[1].ask("DEL", partition_keys(partition).entry("users/s:ada"))


@pytest.fixture
def outdated(servers: tuple[Watched, Watched], apart) -> tuple[Process, Process]:
    """The same, where the other one has persisted a newer write, whose entry is gone."""
    outdate(servers, apart[1])
    return apart


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


def test_what_is_written_while_mongodb_is_asked_stands(servers, apart, mongo_client, monkeypatch):
    """Also where it is persisted, and its entry evicted, before the process that asks has the answer."""
    process, other = apart
    times: list[int] = []
    versions = process.pipeline.sink.versions

    def asked(ids: Sequence[DocumentId]) -> dict[str, int]:
        found = versions(ids)
        if not times:
            outdate(servers, other)
        times.append(1)
        return found

    monkeypatch.setattr(process.pipeline.sink, "versions", asked)
    meet(servers, process)

    assert 2 == other.users().get("ada")["n"]
    assert ({"superseded": 1}, 2) == (process.fates(), len(times))
    assert 2 == stored(other, mongo_client)["ada"]
    assert 0 == process.pipeline.status()["dead_letters"]


def test_what_cannot_be_asked_for_is_told_in_the_end(servers, outdated, monkeypatch):
    """Once deletions may be forgotten, nothing else would be left."""
    process, other = outdated
    Unasked(process, monkeypatch)
    process.pipeline.lost_writes._recommits._grace_us = 1
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


def test_what_another_process_saw_is_no_loss(servers, start, mongo_client):
    """The former primary had both writes: who commits the later one again brings the earlier one back with it."""
    process, other = start(), start()
    process.users().increment("ada", {"n": 1})
    cut_off(*servers)
    process.users().increment("ada", {"n": 1})
    other.users().increment("ada", {"n": 1})
    promote(servers)
    meet(servers, other)
    meet(servers, process)
    assert ({}, {"recommitted": 1}) == (process.fates(), other.fates())
    assert {"ada": 3} == stored(process, mongo_client)


def test_a_process_that_begins_while_the_replica_is_away(servers, start, mongo_client):
    """It sees a primary without any: what it writes there is lost with it all the same, and committed again."""
    primary, _ = servers
    cut_off(*servers)
    wait_until(lambda: b"connected_slaves:0" in primary.ask("INFO", "replication"), "the replica to be away", 20)
    process = start()
    process.users().put("ada", {"n": 1})
    wait_until(lambda: process.pipeline.lost_writes._marks, "it to look what replicas have", 20)
    fail_over(servers, process)
    assert {"recommitted": 1} == process.fates()
    assert {"ada": 1} == stored(process, mongo_client)


def test_what_is_lost_a_second_time_is_told(tmp_path, settings, mongo_client):
    """Also when it was committed again in between, and a newer write has come over it since."""
    primary = Watched(tmp_path / "primary")
    replica, another = (Watched(tmp_path / name, primary) for name in ("replica", "another"))
    with primary, replica, another:
        wait_until(lambda: primary.ask("WAIT", 2, 100) == 2, "the replicas", 30)
        process, other = (Process(settings, mongo_client, primary) for _ in range(2))
        process.users().increment("ada", {"n": 1})
        wait_until(lambda: primary.ask("WAIT", 2, 100) == 2, "the replicas to have it", 30)
        cut_off(primary, replica)
        cut_off(primary, another)
        process.users().increment("ada", {"n": 1})
        fail_over((primary, replica), process)
        assert 2 == process.users().get("ada")["n"]
        replica.kill()
        another.ask("REPLICAOF", "NO", "ONE")
        other.follow(another)
        other.users().increment("ada", {"n": 1})
        process.follow(another)
        wait_until(lambda: process.fates() == {"recommitted": 1, "superseded": 1}, "it to be told", 20)
        for one in (process, other):
            one.pipeline.lost_writes.close()
            one.wire.close()


def test_what_mongodb_has_is_not_late(servers, start):
    """A write that was persisted before the failover is no loss, however long ago that was."""
    process = start()
    users = process.users()
    users.put("first", {"n": 1})
    cut_off(*servers)
    users.put("persisted", {"n": 1})
    flush_all(process.pipeline)
    users.put("pending", {"n": 1})
    process.pipeline.lost_writes._recommits._grace_us = 1
    fail_over(servers, process)
    assert {"late": 1} == process.fates()


def test_what_others_have_replaced_stands(servers, start, mongo_client):
    """A document that has no version by now may have come after the write."""
    process = start()
    users = process.users()
    users.put("first", {"n": 1})
    cut_off(*servers)
    users.put("ada", {"n": 1})
    flush_all(process.pipeline)
    collection = mongo_client[process.pipeline.settings.mongodb_database]["users"]
    collection.replace_one({"_id": "ada"}, {"n": 99})
    fail_over(servers, process)
    assert 99 == users.get("ada")["n"]
    assert {"replaced": 1} == process.fates()


def test_nothing_is_committed_to_the_redis_of_others(servers, start, monkeypatch):
    """It may be given to them after it was greeted."""
    process = start()
    process.users().put("first", {"n": 1})
    cut_off(*servers)
    process.users().put("ada", {"n": 1})
    promote(servers)
    lost_writes = process.pipeline.lost_writes
    with monkeypatch.context() as waiting:
        waiting.setattr(lost_writes, "look", lambda: 0.1)
        process.follow(servers[1])
        process.wire.on_each([("PING",)])
        servers[1].ask("SET", DATABASE, "database/others")
    wait_until(process.seen_to, "the process to see to what was lost", 20)
    assert {"foreign": 1} == process.fates()
    of = partition_keys(process.pipeline.store.partition_of("users/s:ada"))
    assert 0 == servers[1].ask("EXISTS", of.entry("users/s:ada"), of.pending)
