"""Which changes of servers are told as a loss of data: those after which what was only there is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import put
from tests.integration.topology.test_lost_writes import Process
from tests.integration.topology.test_servers import opened, servers
from tests.integration.topology.test_terms import cut_off
from tests.topologies import NamedServers, Watched
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.operations.rebalance import rebalance
from writebehind.redis.keys import LOST_DATA

__all__ = ["opened", "servers"]  # fixtures


def lost(pipeline: Pipeline) -> list[int]:
    """The documents of each loss, as a status tells them."""
    return [one["pending"] + one["dead_letters"] for one in pipeline.status()["lost_data"]]


@pytest.fixture
def primary(tmp_path) -> Iterator[Watched]:
    with Watched(tmp_path / "primary", options={"repl-diskless-sync-delay": "0"}) as server:
        yield server


@pytest.fixture
def replica(tmp_path, primary) -> Iterator[Watched]:
    with Watched(tmp_path / "replica", primary) as server:
        wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
        yield server


@pytest.fixture
def process(settings, mongo_client, primary) -> Iterator[Process]:
    """A process that has seen 4 documents which are only on the primary."""
    process = Process(settings, mongo_client, primary)
    process.pipeline.check()
    put(process.pipeline, 4)
    assert [] == lost(process.pipeline)
    yield process
    process.wire.close()


def test_a_replica_that_has_everything(process, primary, replica):
    """It takes the place of the primary, which ends; new documents wait there."""
    cut_off(primary, replica)
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    process.follow(replica)
    assert [] == lost(process.pipeline)
    put(process.pipeline, 5)
    assert [] == lost(process.pipeline)
    assert 5 == process.pipeline.status()["pending"]


def test_a_replica_that_missed_the_last_writes(process, primary, replica):
    """They are committed again, as whoever has acknowledged them lives."""
    cut_off(primary, replica)
    process.users().put("missed", {})
    assert [] == lost(process.pipeline)
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    process.follow(replica)
    put(process.pipeline, 1)
    assert [] == lost(process.pipeline)


def test_a_replica_without_data(process, settings, mongo_client, primary, replica):
    """It has never heard of the primary: so a process that has written nothing knows what was there."""
    looker = Process(settings, mongo_client, primary)
    assert [] == lost(looker.pipeline)
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    replica.ask("FLUSHALL")
    looker.follow(replica)
    assert [4] == lost(looker.pipeline)
    looker.wire.close()


def _restarted(primary: Watched) -> None:
    """As it was."""
    primary.kill()
    primary.start()


def _restored(primary: Watched) -> None:
    """From a copy of its files, before which everything was written that waits."""
    data = primary._data
    primary.ask("SET", "later", "1")
    primary.kill()
    shutil.copytree(data, copy := data.with_name("copy"))
    shutil.rmtree(data)
    copy.rename(data)
    primary.start()


@pytest.mark.parametrize("change", [_restarted, _restored])
def test_the_same_files(process, primary, change: Callable[[Watched], None]):
    """A Redis that starts with what it had has lost nothing."""
    change(primary)
    process.wire.close()
    wait_until(lambda: process.pipeline.status()["pending"] == 4, "its data", 30)
    assert [] == lost(process.pipeline)


def test_no_files(process, primary):
    """A Redis whose data directory was taken away starts empty."""
    primary.kill()
    shutil.rmtree(primary._data)
    primary._data.mkdir()
    primary.start()
    process.wire.close()
    assert [4] == lost(process.pipeline)


def test_one_server_of_several(opened, servers: NamedServers):
    """What was there is told, and nothing of what others have: be it the one that has what is of no partition."""
    pipeline = opened(servers.url)
    pipeline.check()
    put(pipeline, 24)
    told: list[int] = []
    for name in ("b", "a"):
        waited = pipeline.status()["pending"]
        servers.ask(name, "FLUSHALL")
        pipeline.store._wire.look_again()
        told.append(waited - pipeline.status()["pending"])
        assert told == lost(pipeline)
        assert told[-1]


def test_partitions_that_move(opened, servers):
    """All that they have moves along."""
    pipeline = opened(servers.url_of("a", "b"))
    pipeline.check()
    put(pipeline, 24)
    assert [] == lost(pipeline)
    pipeline = opened(servers.url)
    assert [] == lost(pipeline)
    seen: list[list[int]] = []
    rebalance(pipeline, report=lambda _: seen.append(lost(pipeline)))
    assert seen
    assert not any(seen)
    assert 24 == pipeline.status()["pending"]
    assert [] == lost(pipeline)
    assert not pipeline.store._wire.call("EXISTS", LOST_DATA)
