"""The map of a cluster, where no node can be asked for it."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from redis import ConnectionPool
from redis.exceptions import RedisClusterException

from writebehind.errors import RedisUnavailableError
from writebehind.local.embedded import LOOPBACK, free_port
from writebehind.redis.topology.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    """One whose only known node nobody reaches."""
    place = LOOPBACK, free_port()
    return Cluster([place], lambda one: ConnectionPool(host=one[0], port=one[1]), timeout_s=1, options={})


def test_no_node_is_reached_at_first(cluster):
    """It is away, as any Redis is that does not answer: no request fails otherwise."""
    with pytest.raises(RedisUnavailableError):
        cluster.servers()


def test_no_node_is_reached_later(cluster):
    """The map that was known may do, and is asked for again."""
    cluster._map = known = Mock(get_primaries=lambda: [Mock(host=LOOPBACK, port=7)])
    known.nodes_manager.initialize.side_effect = RedisClusterException("no node is reachable")
    cluster._stale = True

    assert [f"{LOOPBACK}:7"] == [one.name for one in cluster.servers()]
    assert (True, 1) == (cluster._stale, known.nodes_manager.initialize.call_count)
