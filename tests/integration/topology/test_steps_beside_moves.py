"""Steps beside moves between servers with names: each that is acknowledged is carried out once."""

from __future__ import annotations

import threading

import pytest

from tests.integration.topology.test_rebalance import two, write
from tests.integration.topology.test_servers import opened, servers
from tests.waiting import wait_until
from writebehind.errors import RedisUnavailableError
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.store import Store
from writebehind.redis.topology import moving
from writebehind.redis.topology.guard import HOME

__all__ = ["opened", "servers", "two"]  # fixtures


def leave(two, monkeypatch) -> int:
    """Let a mover die right after a partition has left, and before it arrives; its number."""
    left, arrive = [], moving.arrive

    def die(target, place, of):
        if place == HOME:
            return arrive(target, place, of)
        left.append(int(place))
        raise RedisUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(moving, "arrive", die)
        with pytest.raises(RedisUnavailableError):
            rebalance(two)
    return left[0]


def test_a_conditional_write_that_lets_a_partition_arrive_is_done_once(two, opened, servers, monkeypatch):
    """Its own version is no reason to refuse it."""
    stale = opened(servers.url)
    documents, slow = write(stale, 1), stale.collection("slow")
    etags = {name: slow.read(name).entry.etag for name in documents.values()}
    name = documents[leave(two, monkeypatch)]

    slow.put(name, {"n": 5}, if_match=etags[name])

    assert 5 == slow.get(name)["n"]


def test_an_increment_that_lets_a_partition_arrive_counts_once(two, opened, servers, monkeypatch):
    """It leaves after the document was read and before the increment is committed."""
    stale = opened(servers.url)
    documents, slow = write(stale, 1), stale.collection("slow")
    going = next(int(one.place) for one in rebalance(two, dry_run=True).moved if one.place != HOME)
    commit_many, left = Store.commit_many, []

    def commit(self, *arguments, **named):
        if self is stale.store and not left:
            left.append(leave(two, monkeypatch))
        return commit_many(self, *arguments, **named)

    monkeypatch.setattr(Store, "commit_many", commit)
    slow.increment(documents[going], {"n": 1})

    assert ([going], 2) == (left, slow.get(documents[going])["n"])


def test_a_partition_arrives_while_another_server_is_away(two, opened, servers, monkeypatch):
    """Neither of the two servers that it is about."""
    stale = opened(servers.url)
    documents, slow = write(stale, 1), stale.collection("slow")
    going = leave(two, monkeypatch)
    source = next(name for name in "ab" if servers.ask(name, "HEXISTS", keys.SERVER, f"left:{going}"))
    away = servers.servers["b" if source == "a" else "a"]
    away.kill()
    try:
        slow.put(documents[going], {"n": 2})
    finally:
        away.start()
    assert b"1" == servers.ask("c", "HGET", keys.SERVER, str(going))


def test_increments_beside_moves_count_once(two, opened, servers):
    """Each partition that moves has one writer, and moves there and back a few times."""
    documents = write(two, 0)
    moved = [documents[int(one.place)] for one in rebalance(two, dry_run=True).moved if one.place != HOME]
    count, unknown = dict.fromkeys(moved, 0), dict.fromkeys(moved, 0)
    ended = threading.Event()

    def write_to(name: str) -> None:
        slow = opened(servers.url).collection("slow")
        while not ended.is_set():
            try:
                slow.increment(name, {"n": 1})
            except RedisUnavailableError:  # on a machine that is too busy to move in time
                unknown[name] += 1
            else:
                count[name] += 1

    threads = [threading.Thread(target=write_to, args=(name,)) for name in moved]
    for one in threads:
        one.start()
    try:
        for without in ([], ["c"], [], ["c"]):
            before = dict(count)
            assert rebalance(two, without=without).moved
            wait_until(lambda before=before: all(count[one] > before[one] for one in moved), "each to write", 30)
    finally:
        ended.set()
        for one in threads:
            one.join()

    surplus = {name: two.collection("slow").get(name)["n"] - count[name] for name in moved}
    assert not [name for name, one in surplus.items() if not 0 <= one <= unknown[name]]
