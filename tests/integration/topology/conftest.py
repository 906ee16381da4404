"""A cluster, and a pipeline on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.topologies import Cluster, EveryWire
from writebehind import Pipeline
from writebehind.redis.topology.opening import open_servers

PARTITIONS = 16
#: Of a busy machine all nodes answer sooner.
TIMEOUT_MS = 2_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """Three primaries with a replica each."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def wire(cluster) -> Iterator[EveryWire]:
    """A wire to the cluster, whose keys it has taken out."""
    wire = EveryWire(open_servers(cluster.url, TIMEOUT_MS))
    wire.call("FLUSHALL")
    yield wire
    wire.close()


@pytest.fixture
def on_cluster(settings, cluster, wire, mongo_client, hints) -> Pipeline:
    """A pipeline on the cluster. Nobody flushes but the test."""
    changed = settings.model_copy(update={"redis_url": cluster.url, "partitions": PARTITIONS})
    return Pipeline(changed, hints=hints, wire=wire, client=mongo_client)
