"""Servers with names that come back empty while partitions move to them, or after that: nothing else gets lost."""

from __future__ import annotations

import pytest

from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_rebalance import dying, keys_of, place, read, two, write
from tests.integration.topology.test_servers import PARTITIONS, opened, servers
from tests.topologies import ask
from writebehind.operations.drain import drain
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
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


@pytest.fixture
def begun(two, monkeypatch):
    """Documents, and a move from server b that was killed after it had copied all of a partition."""
    documents, goal = write(two, 1), ("a", "b", "c")
    one = next(one for one in two.store.rebalancing.plan(goal, PARTITIONS) if one.source == "b")
    two.store.rebalancing.use(goal)
    with dying(monkeypatch, "_catch_up", after=False), pytest.raises(KeyboardInterrupt):
        two.store.rebalancing.move(one, lambda _: None)
    return documents, one


@pytest.mark.parametrize("deleted", [False, True], ids=["changed", "deleted"])
def test_copies_that_a_killed_mover_has_left_are_not_used(begun, two, opened, servers, mongo_client, deleted):
    """What was changed or deleted since stays so, where the server that they came from is emptied later."""
    documents, one = begun
    partition = int(one.place)
    name, slow = documents[partition], two.collection("slow")
    assert servers.ask("c", "EXISTS", partition_keys(partition).entry(f"slow/s:{name}"))
    slow.put(name, {"n": 2})
    if deleted:
        slow.delete(name)
    drain(two, timeout_s=20)
    servers.ask("b", "FLUSHALL")

    process = opened(servers.url)
    process.collection("slow").put("another", {"n": 3})
    process.store.check()
    found = process.collection("slow").get(name)
    assert (None if deleted else 2) == (found and found["n"])
    drain(process, timeout_s=20)
    stored = mongo_client[two.settings.mongodb_database]["slow"].find_one({"_id": name})
    assert (None if deleted else 2) == (stored and stored["n"])


def test_copies_that_a_killed_mover_has_left_are_taken_out(begun, two, servers):
    """Also where nothing goes to that server any more."""
    documents, _ = begun
    assert keys_of(servers, "c")
    assert [] == list(rebalance(two, without=["c"]).moved)
    assert set() == keys_of(servers, "c")
    assert [] == [field for field in servers.ask("c", "HKEYS", keys.SERVER) if field.startswith(b"expected:")]
    assert {1} == read(two, documents)
