"""Partitions that become more, on a Redis with a replica that takes its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.topology.growth.conftest import AFTER, read, write
from tests.integration.topology.test_terms import cut_off
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind.local.embedded import LOOPBACK
from writebehind.operations.growth import grow
from writebehind.operations.repartition import repartition
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology import confirming, splitting
from writebehind.redis.topology.confirming import Standing
from writebehind.redis.topology.record import MoveError


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A primary, and a replica that has all of it."""
    monkeypatch.setattr(confirming, "_TRIES", 4)
    options = {"repl-diskless-sync-delay": "0"}
    primary = Watched(tmp_path / "primary", options=options)
    replica = Watched(tmp_path / "replica", primary, options=options)
    with primary, replica:
        wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
        yield primary, replica


@pytest.mark.parametrize("change", [grow, repartition], ids=["online", "offline"])
def test_no_record_is_gone_by_that_a_replica_lacks(pair, process, change):
    """The number would be the former one after a failover, of partitions some of which are divided."""
    primary, replica = pair
    one = process(redis_url=primary.url)
    one.store.check()
    cut_off(primary, replica)
    with pytest.raises(MoveError, match="replicas of Redis do not confirm"):
        change(process(redis_url=primary.url), AFTER)
    assert [] == primary.ask("KEYS", "wb:{*}:divided")
    assert b"4" == replica.ask("GET", keys.PARTITIONS)


def test_no_mark_is_gone_by_that_a_replica_lacks(pair, process, monkeypatch):
    """It is lost in a failover, and whoever went by it has written where nobody looks then."""
    primary, replica = pair
    one = process(redis_url=primary.url)
    one.store.check()
    write(one, 1)
    follow, seen = type(one.store.growing).splitting, []

    def cut(self, *arguments, **named):
        if not seen:
            cut_off(primary, replica)
        seen.append(arguments)
        return follow(self, *arguments, **named)

    monkeypatch.setattr(type(one.store.growing), "splitting", cut)
    with pytest.raises(MoveError, match="changes too fast to be divided, or replicas lag"):
        grow(process(redis_url=primary.url), AFTER)
    assert [] == primary.ask("KEYS", "wb:{*}:divided")
    assert {1} == read(one)


def test_a_mark_that_cannot_be_taken_back_is_waited_for(pair, process, monkeypatch):
    """The freeze is over before the replica has it: others may have acted on it, so it stays."""
    primary, replica = pair
    one = process(redis_url=primary.url)
    one.store.check()
    write(one, 1)
    divide, divided = splitting.Splitting._divide, []

    def cut(self, freeze, standing):
        if not divided:
            cut_off(primary, replica)
        divided.append(self._partition)
        return divide(self, freeze, standing)

    with monkeypatch.context() as patched:
        patched.setattr(splitting, "SOON_MS", 2 * splitting.FREEZE_MS)
        patched.setattr(splitting.Splitting, "_divide", cut)
        with pytest.raises(MoveError, match="replicas of Redis do not confirm"):
            grow(process(redis_url=primary.url), AFTER)
    assert [0] == divided
    assert [partition_keys(0).divided.encode()] == primary.ask("KEYS", "wb:{*}:divided")
    replica.ask("REPLICAOF", LOOPBACK, primary.port)
    wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
    grow(process(redis_url=primary.url), AFTER)
    assert {1} == read(process(redis_url=primary.url, partitions=AFTER))


def test_copies_that_went_to_a_former_primary_are_not_relied_on(one):
    """Another one may lack the last of them, although it expects them still."""
    server = one.store._wire.connections("wb:{0}:pending")
    standing = Standing.of(server)
    info = server.exchange([("INFO", "replication")])[0]
    standing.see_same(server, info)
    with pytest.raises(MoveError, match="Redis has failed over meanwhile"):
        replace(standing, term="another").see_same(server, info)
