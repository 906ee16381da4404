"""Addresses of several servers, and the server that each command goes to."""

from __future__ import annotations

from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from writebehind import load_settings
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.addresses import ManyServers, many_servers
from writebehind.redis.topology.cluster import _slot
from writebehind.redis.topology.routing import key_of, tag
from writebehind.settings.urls import redacted

ADDRESSES = {
    "redis://h": None,
    "unix:///run/redis.sock": None,
    "redis+cluster://h": ManyServers("cluster", [("h", 6379)], "redis://server/0", "", {}),
    "redis+cluster://h:1,i/0": ManyServers("cluster", [("h", 1), ("i", 6379)], "redis://server/0", "", {}),
    "redis+cluster://[::1]:1,i": ManyServers("cluster", [("::1", 1), ("i", 6379)], "redis://server/0", "", {}),
    "rediss+cluster://u:p%2F@h?ssl_cert_reqs=none": ManyServers(
        "cluster", [("h", 6379)], "rediss://u:p%2F@server/0?ssl_cert_reqs=none", "", {}
    ),
    "redis+sentinel://h,i:3/main": ManyServers(
        "sentinel", [("h", 26379), ("i", 3)], "redis://server/0", "main", {}
    ),
    "rediss+sentinel://:p@h/main/2?sentinel_password=s%26&client_name=n": ManyServers(
        "sentinel", [("h", 26379)], "rediss://:p@server/2?client_name=n", "main", {"password": "s&"}
    ),
}


@pytest.mark.parametrize(("url", "address"), ADDRESSES.items())
def test_an_address_is_taken_apart(url, address):
    """Hosts, login, service, database and options are what the URL says, and the settings take it."""
    assert address == many_servers(load_settings(redis_url=url).redis_url)


@pytest.mark.parametrize("url", ["redis+cluster://u:geheim@h:1,i:2", "redis+sentinel://:geheim@h,i/main/0"])
def test_an_address_is_shown_without_its_password(url):
    """The hosts are shown, and the password is not."""
    assert ("geheim" not in redacted(url), True) == (True, "@h" in redacted(url))


@given(st.text(alphabet=ascii_letters + "{}:é", max_size=12))
def test_a_key_is_placed_as_a_cluster_places_it(key):
    """The slot of a key's tag is the slot that redis-py, and so a node, has the key in."""
    assert key_slot(key.encode()) == _slot(tag(key))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("MGET", "a", "b"), "a"),
        (("EVALSHA", "sha", 2, "a", "b", "c"), "a"),
        (("EVAL", "return 1", 2, "a", "b", "c"), "a"),
        (("ZADD", "a", 1, "b"), "a"),
    ],
)
def test_the_first_key_decides(command, key):
    """The key of a command, or of a step."""
    assert key == key_of(command)


@pytest.mark.parametrize(
    "command", [("TIME",), ("INFO",), ("SCRIPT", "LOAD", "x"), ("EVALSHA", "sha", 0, "x"), ("EVAL", "", 0)]
)
def test_a_command_without_key_is_for_a_server(command):
    """What has no key is never sent to whichever server comes first."""
    with pytest.raises(ValueError, match="has no key"):
        key_of(command)


def test_what_one_step_touches_is_in_one_slot():
    """The keys of a partition, and those that a lease guards, are where the others are."""
    together = (
        [getattr(partition_keys(7), name) for name in ("pending", "clock", "dead", "counts")],
        [keys.RECONCILE, keys.RECONCILE_LEASE, keys.DRIFT, keys.DRIFT_FREE],
        [keys.LISTENER, keys.LISTENER_LEASE],
        [keys.consistency(3), keys.INCONSISTENT],
        [keys.HISTORY, keys.HISTORY_COARSE, keys.HISTORY_LEASE],
        list(keys.changes("users")),
    )
    assert [1] * len(together) == [len({_slot(tag(one)) for one in some}) for some in together]
