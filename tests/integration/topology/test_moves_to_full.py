"""Servers with names that are full, or become so, while partitions move from them or to them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration.topology.test_rebalance import keys_of, place, read, two, write
from tests.integration.topology.test_servers import opened, servers
from tests.topologies import NamedServers
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.topology import moving
from writebehind.redis.topology.record import MoveError, fair

__all__ = ["opened", "servers", "two"]  # fixtures

_GIVEN = {"maxmemory": "0", "maxmemory-policy": "noeviction"}


@pytest.fixture
def limited(servers) -> Iterator[NamedServers]:
    """The servers, whose limits and policies are as before after a test."""
    yield servers
    for name in servers.servers:
        configure(servers, name, _GIVEN)


def configure(servers: NamedServers, name: str, settings: dict[str, object]) -> None:
    """Let a server have settings."""
    for setting, value in settings.items():
        servers.ask(name, "CONFIG", "SET", setting, value)


def used(servers: NamedServers, name: str) -> int:
    """The memory that a server uses, bytes."""
    return int(re.search(rb"used_memory:([0-9]+)", servers.ask(name, "INFO", "memory"))[1])


def copies(servers: NamedServers, name: str) -> set[str]:
    """The keys of a server, and what it expects."""
    fields = servers.ask(name, "HKEYS", keys.SERVER)
    return keys_of(servers, name) | {one.decode() for one in fields if one.startswith((b"expected:", b"whole:"))}


def test_a_full_server_is_relieved(two, limited):
    """What moves away from it needs no memory there."""
    documents = write(two, 1)
    for name in ("a", "b"):
        configure(limited, name, {"maxmemory": 1})
    assert rebalance(two).moved
    assert {one: fair(str(one), ("a", "b", "c")) for one in documents} == {
        one: place(two, one) for one in documents
    }
    assert {1} == read(two, documents)


def test_a_server_without_room_gets_nothing(two, limited):
    """The command says how much is missing, and what to do; writes there are not refused for want of memory."""
    documents = write(two, 1)
    limit = used(limited, "c") + 1000
    configure(limited, "c", {"maxmemory": limit})
    with pytest.raises(MoveError, match=r"c lacks [0-9.]+ MiB for partition .* Raise its maxmemory, add a server"):
        rebalance(two)
    assert "c" not in {place(two, one) for one in documents}
    assert set() == copies(limited, "c")

    configure(limited, "c", {"maxmemory": 2 * limit})
    assert rebalance(two).moved
    assert {1} == read(two, documents)


def test_a_server_that_becomes_full_has_no_copies_left(two, limited, monkeypatch):
    """The partition is where it was, and the command says what to do."""
    documents = write(two, 1)
    monkeypatch.setattr(moving, "COPIED", 1)
    found = []

    def fill(progress) -> None:
        if progress.copied and not found:
            configure(limited, "c", {"maxmemory": 1, "maxmemory-policy": "volatile-lru"})
            found.extend(copies(limited, "c"))

    with pytest.raises(MoveError, match="server c has no memory left: raise its maxmemory"):
        rebalance(two, report=fill)
    assert len(found) > 1
    assert set() == copies(limited, "c")
    assert "c" not in {place(two, one) for one in documents}
    write(two, 2)
    assert {2} == read(two, documents)
