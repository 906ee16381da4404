"""Copies that a move between servers with names leaves behind: who is told of them, and whether they come back."""

from __future__ import annotations

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_rebalance import dying, place, two, write
from tests.integration.topology.test_servers import opened, servers
from writebehind.operations.doctor import servers as doctor
from writebehind.operations.doctor.findings import Level
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.topology import rebalancing
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.record import MoveError

__all__ = ["opened", "servers", "two"]  # fixtures


def interrupted(two, monkeypatch, step: str) -> list[int]:
    """Have a rebalancing die before a step of its end; the partitions that it has moved to c."""
    with dying(monkeypatch, step, after=False), pytest.raises(KeyboardInterrupt):
        rebalance(two)
    return [one for one in range(two.store.partitions) if place(two, one) == "c"]


def told(pipeline) -> list[str]:
    """What `doctor` and the status say of copies."""
    found = [one.found for one in doctor.check(pipeline) if one.level is Level.WARNING]
    return found + [one["found"] for one in pipeline.status()["to_do"] if one["condition"] == "copies"]


@pytest.mark.parametrize("step", ["see_arrived", "drop_left"])
def test_copies_are_told_until_they_are_dropped(two, opened, servers, monkeypatch, step):
    """By `doctor` and in the status, whoever looks."""
    write(two, 1)
    moved = interrupted(two, monkeypatch, step)
    other = opened(servers.url)

    one, same = told(other)

    assert one == same
    assert one.endswith(" that moved to other servers")
    left = {
        name: len([key for key in servers.ask(name, "HKEYS", keys.SERVER) if b"left:" in key]) for name in "ab"
    }
    assert len(moved) == sum(left.values())
    assert all(f"server {name} has copies of {count} partition" in one for name, count in left.items() if count)
    assert rebalance(two).finished
    assert [] == told(other)


def test_what_has_arrived_for_certain_does_not_come_back(two, opened, servers, monkeypatch):
    """Its new server comes back empty: that is recorded anew, and readers get what MongoDB has."""
    documents = write(two, 1)
    flush_all(two)
    moved = interrupted(two, monkeypatch, "drop_left")
    slow = two.collection("slow")
    for one in moved:
        slow.put(documents[one], {"n": 2})
    flush_all(two)
    servers.ask("c", "FLUSHALL")

    slow.put(documents[moved[0]], {"n": 3})

    assert ["c"] * len(moved) == [place(two, one) for one in moved]
    expected = {one: 3 if one == moved[0] else 2 for one in moved}
    other = opened(servers.url)
    assert expected == {one: slow.get(documents[one])["n"] for one in moved}
    assert sorted(map(str, moved)) == sorted(rebalance(other).finished)
    assert expected == {one: other.collection("slow").get(documents[one])["n"] for one in moved}
    assert [] == told(two)


def test_what_comes_back_has_no_copies_of_what_mongodb_has(two, opened, servers, monkeypatch):
    """Nobody has confirmed that it arrived: what is pending may be all that there is, the rest may be old."""
    slow, documents = two.collection("slow"), write(two, 1)
    flush_all(two)
    pending = [f"pending-{at}" for at in range(50)]
    for name in pending:
        slow.put(name, {"n": 5})
    moved = interrupted(two, monkeypatch, "see_arrived")
    for one in moved[1:]:
        slow.put(documents[one], {"n": 2})
    slow.delete(documents[moved[0]])
    flush_all(two)
    servers.ask("c", "FLUSHALL")

    rebalance(opened(servers.url))

    after = opened(servers.url).collection("slow")
    assert [None, *[2] * (len(moved) - 1)] == [(after.get(documents[one]) or {}).get("n") for one in moved]
    assert {5} == {after.get(name)["n"] for name in pending}


def test_what_a_server_did_not_know_is_only_to_be_dropped(two, opened, servers):
    """A server comes back from before a move: it lets go of what moved, tells so, and never gets it back."""
    documents = write(two, 1)
    moved = [one for one in rebalance(two).moved if one.place != HOME]
    for one in moved:
        servers.ask(one.source, "HSET", keys.SERVER, one.place, 0)
    two.store._wire.look_again()

    assert {b"c/1/over"} == {servers.ask(one.source, "HGET", keys.SERVER, f"left:{one.place}") for one in moved}
    assert 2 == len(told(two))
    servers.ask("c", "FLUSHALL")
    two.collection("slow").put(documents[int(moved[0].place)], {"n": 2})
    assert len(moved) == len(rebalance(two).finished)
    assert {"c"} == {place(two, int(one.place)) for one in moved}
    assert [] == told(two)


def test_what_leaves_again_meanwhile_ends_a_rebalancing(two, monkeypatch):
    """Between two looks at the records another mover may have begun: the command says so."""
    write(two, 1)
    with dying(monkeypatch, "arrive", after=False), pytest.raises(KeyboardInterrupt):
        rebalance(two)
    monkeypatch.setattr(rebalancing, "settle", lambda *_: None)
    with pytest.raises(MoveError, match="somebody else moves partition"):
        two.store.rebalancing.finish()
