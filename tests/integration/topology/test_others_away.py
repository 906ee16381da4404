"""Servers with names of which one fails over while another one is away, busy, or not used yet."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.integration.topology.test_moves_fail_over import (
    Installation,
    comes_back_with,
    installation,
    read,
    write,
    written,
)
from tests.integration.topology.test_servers import busy
from tests.waiting import wait_until
from writebehind import Durability
from writebehind.errors import RedisUnavailableError
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.info import parse_info
from writebehind.redis.topology.guard import HOME

__all__ = ["installation"]  # a fixture


def divided(of: Installation) -> dict[int, str]:
    """Documents on both servers, and nobody at work on them."""
    documents = written(of, Durability.REPLICATED)
    mover = of.process()
    rebalance(mover)
    of.end(mover)
    return documents


def on_a(process, documents) -> list[int]:
    return [one for one in documents if process.store.server_of(one) == "a"]


def test_what_a_failover_has_lost_is_committed_again_while_another_server_is_away(installation):
    """However long that is: what the other one has was not lost, and nothing of it may be on this one."""
    documents = divided(installation)
    process = installation.process()
    write(process, documents, 2)
    lost, *others = on_a(process, documents)
    installation.pairs["a"].cut()
    slow = process.collection("slow")
    slow.put(documents[lost], {"n": 3})
    installation.pairs["b"].primary.kill()
    installation.fail_over("a")

    wait_until(lambda: slow.get(documents[lost]) == {"_id": documents[lost], "n": 3}, "what was lost", 20)
    primary = installation.pairs["a"].primary
    for one in others:
        assert wait_until(lambda one=one: slow.put(documents[one], {"n": 4}), "a write", 20)
    before = int(parse_info(primary.ask("INFO", "stats"))["total_connections_received"])
    for one in others * 3:
        slow.put(documents[one], {"n": 5})
    after = int(parse_info(primary.ask("INFO", "stats"))["total_connections_received"])
    assert after - before < len(others)


def test_recent_writes_are_released_where_a_server_is_not_used_yet(installation):
    """It is in the list, has no record, and has failed over once: it has lost nothing, and tells nothing."""
    documents = written(installation, Durability.REPLICATED)
    spare = installation.pairs["b"]
    spare.primary.ask("SET", "x", 1)
    spare.wait()
    installation.fail_over("b")
    process = installation.process()
    process.store.recent.there_are_replicas()
    write(process, documents, 2)

    wait_until(lambda: process.store.recent.is_empty, "the replica to have told so", 20)
    installation.pairs["a"].cut()
    lost = next(iter(documents.values()))
    process.collection("slow").put(lost, {"n": 3})
    installation.fail_over("a")
    wait_until(lambda: process.collection("slow").get(lost) == {"_id": lost, "n": 3}, "what was lost", 20)
    lost_writes = process.lost_writes
    wait_until(lambda: lost_writes._seen_to == lost_writes._met > 0, "the process to see to it", 20)


@contextmanager
def killed(server):
    server.kill()
    yield
    server.start()


@pytest.mark.parametrize("away", [killed, busy])
@pytest.mark.parametrize("knows", ["the former primary", "nothing"])
def test_nobody_writes_to_what_may_have_moved_while_another_server_says_nothing(installation, away, knows):
    """A replica that missed the move has the place of its primary; what has not moved is written to."""
    documents = written(installation, Durability.REPLICATED)
    process, mover = installation.process(), installation.process()
    assert {1} == set(read(process, documents).values())
    moved = [one.place for one in rebalance(mover).moved]
    pair = comes_back_with(installation, moved)
    slow = process.collection("slow")
    places = [int(one) for one in moved if one != HOME]
    with away(installation.pairs["b"].primary):
        if knows == "nothing":
            process = installation.process()
            slow = process.collection("slow")
        for one in set(documents).difference(places):
            wait_until(lambda one=one: slow.put(documents[one], {"n": 2}), "a write", 20)
        for one in places:
            with pytest.raises(RedisUnavailableError):
                slow.put(documents[one], {"n": 2}, durability=Durability.BUFFERED)
            slow.read(documents[one])  # as MongoDB has it

    write(process, documents, 3)
    assert {3} == set(read(installation.process(), documents).values())
    here = {one.decode() for one in pair.primary.ask("HKEYS", keys.SERVER)}
    assert set() == here.intersection(moved)


def test_a_process_that_begins_while_a_server_is_away_uses_the_others(installation):
    """Partitions that are to move to it yet stay available, where nobody has the place of another one."""
    documents = written(installation, Durability.REPLICATED)
    mover = installation.process()
    installation.pairs["b"].wait()
    mover.store.rebalancing.use(["a", "b"])
    installation.pairs["b"].primary.kill()
    write(installation.process(), documents, 2)
