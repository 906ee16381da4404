"""Partitions that move to a server with a name which has failed over before: nothing is lost by that."""

from __future__ import annotations

import logging

from tests.integration.topology.test_moves_fail_over import installation, read, write, written
from tests.waiting import wait_until
from writebehind import Durability
from writebehind.operations.rebalance import rebalance
from writebehind.redis.info import parse_info
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.guard import HOME, frozen_key

__all__ = ["installation"]  # a fixture


def moved_after_a_failover(installation) -> set[int]:
    """Let b fail over, and all of a move there; the partitions that did."""
    pair = installation.pairs["b"]
    pair.wait()
    installation.fail_over("b")
    mover = installation.process()
    wait_until(lambda: mover.store._wire.look_again() or True, "b", 30)
    pair.rejoin()
    installation.pairs["a"].wait()
    moved = {int(one.place) for one in rebalance(mover, without=["a"]).moved if one.place != HOME}
    pair.wait()
    return moved


def greet(pipeline) -> None:
    """Let a process greet each server over another connection."""
    pipeline.store._wire.close()
    pipeline.store._wire.on_each([("TIME",)])


def test_versions_do_not_leap_in_what_moves_there(installation):
    """Whoever comes finds that all has leapt which had to, and asks for nothing more with each greeting."""
    documents = written(installation, Durability.REPLICATED)
    running = installation.process()
    rebalance(installation.process())
    assert {1} == set(read(running, documents).values())
    moved = moved_after_a_failover(installation)
    ask = installation.pairs["b"].primary.ask

    for pipeline in (running, installation.process()):
        greet(pipeline)
        assert {1} == set(read(pipeline, documents).values())
    assert [] == [one for one in moved if ask("EXISTS", partition_keys(one).lapses)]

    def steps() -> str:
        return parse_info(ask("INFO", "commandstats")).get("cmdstat_evalsha", "").partition(",")[0]

    before = steps()
    greet(running)
    assert before == steps()


def test_nothing_is_told_as_lost_when_another_server_fails_over(installation, caplog):
    """Writes to what has moved stand, be they written over: the server that they are on lost none."""
    documents = written(installation, Durability.REPLICATED)
    first, second = installation.process(), installation.process()
    rebalance(installation.process())
    write(first, documents, 2)
    write(second, documents, 3)
    moved = moved_after_a_failover(installation)
    some = {one: documents[one] for one in moved}
    write(first, some, 4)
    greet(second)
    write(first, some, 5)
    write(second, some, 6)
    with caplog.at_level(logging.WARNING):
        installation.fail_over("a")
        for pipeline in (first, second):
            wait_until(lambda one=pipeline: greet(one) or True, "a", 30)
            lost = pipeline.lost_writes
            wait_until(lambda lost=lost: lost._met == lost._seen_to, "what was lost to be seen to", 30)
    assert [] == [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "writes_lost"]


def test_versions_leap_in_what_was_frozen_when_its_server_failed_over(installation):
    """It may stay there: each greeting looks again."""
    documents = written(installation, Durability.REPLICATED)
    pipeline, pair = installation.process(), installation.pairs["a"]
    frozen = frozen_key(str(next(iter(documents))))
    pair.primary.ask("SET", frozen, "token", "PX", 600_000)
    pair.wait()
    installation.fail_over("a")
    wait_until(lambda: greet(pipeline) or True, "a", 30)

    def leapt() -> set[int]:
        return {one for one in documents if pair.primary.ask("EXISTS", partition_keys(one).lapses)}

    assert set(documents) - leapt() == {next(iter(documents))}
    pair.primary.ask("DEL", frozen)
    greet(pipeline)
    assert set(documents) == leapt()
