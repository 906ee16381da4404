"""Servers with names that come back empty while partitions move to them, or after that: nothing else gets lost."""

from __future__ import annotations

import pytest

from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_rebalance import place, read, two, write
from tests.integration.topology.test_servers import opened, servers
from tests.topologies import ask
from writebehind.operations.drain import drain
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.topology.arriving import bring_back
from writebehind.redis.topology.record import Left, MoveError

__all__ = ["opened", "servers", "two"]  # fixtures


def test_nothing_goes_to_a_server_that_was_emptied_between_two_moves(two, opened, servers):
    """The mover says so, and the next one records the server, and moves the rest."""
    write(two, 1)
    begun = []

    def empty(progress) -> None:
        if progress.moved == 1 and not begun:
            begun.append(progress.place)
            servers.ask("c", "FLUSHALL")

    with pytest.raises(MoveError, match=r"server c came back empty, .* start this again"):
        rebalance(two, report=empty)
    assert 0 == servers.ask("c", "EXISTS", keys.SERVER)
    assert "c" != place(two, int(begun[0]))

    other = opened(servers.url)
    assert begun[0] in {one.place for one in rebalance(other).moved}
    documents = write(two, 2)
    assert {2} == read(two, documents) == read(other, documents)
    assert len(documents) == drain(two, timeout_s=20).persisted


@pytest.fixture
def nameless(two, servers):
    """Documents, and server c with a record as former releases left it where c was emptied between two moves.

    The first that has moved is lost.
    """
    documents = write(two, 1)
    lost, *_ = [one.place for one in rebalance(two).moved]
    servers.ask("c", "HDEL", keys.SERVER, "name", "servers", lost)
    servers.ask("c", "DEL", *servers.ask("c", "KEYS", f"wb:{{{lost}}}:*"))
    del documents[int(lost)]
    return documents


def test_a_record_without_a_name_is_completed_by_rebalance(nameless, opened, servers):
    """All that the server has is found again, and is nowhere else."""
    process = opened(servers.url)
    rebalance(process)
    assert {1} == read(process, nameless)
    assert len(nameless) == drain(process, timeout_s=20).persisted
    assert set(by_partition(process)) == set(write(process, 2))


def test_a_record_without_a_name_is_completed_by_whoever_is_refused(nameless, opened, servers):
    """No command has to be given."""
    process = opened(servers.url)
    documents = write(process, 2)
    assert {2} == read(process, documents)
    assert len(documents) == drain(process, timeout_s=20).persisted


def test_nothing_comes_back_while_the_other_server_is_not_recorded(two, servers):
    """It could not be told to let nothing arrive: a record without a name may have all of the partition."""
    write(two, 1)
    port, left = servers.servers["c"].port, Left.of("c", 1, "mark@")
    one = next(iter(rebalance(two, dry_run=True).moved))
    ask(port, "HSET", keys.SERVER, f"whole:{one.place}", left.mark)
    source, target = two.store._wire.unguarded(one.source), two.store._wire.unguarded("c")
    try:
        with pytest.raises(MoveError, match="server c came back empty"):
            bring_back(source, target, one.place, left)
    finally:
        source.close()
        target.close()
    assert {f"whole:{one.place}".encode(): left.mark.encode()} == dict(
        zip(*[iter(ask(port, "HGETALL", keys.SERVER))] * 2, strict=True)
    )
