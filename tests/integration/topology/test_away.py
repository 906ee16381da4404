"""One primary of a Redis Cluster is away, and nothing takes its place: only its own partitions wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pymongo import MongoClient

from tests.conftest import Hints
from tests.integration.topology.conftest import TIMEOUT_MS
from tests.topologies import Cluster, EveryWire
from tests.waiting import wait_until
from writebehind import Pipeline, load_settings
from writebehind.errors import RedisUnavailableError
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.opening import open_servers

PARTITIONS = 16


@dataclass(frozen=True)
class Away:
    """A pipeline, the partitions whose server is away, and those of the others."""

    pipeline: Pipeline
    hints: Hints
    lost: list[int]
    served: list[int]

    def name(self, partition: int, of: str) -> str:
        """The name of a document in a partition."""
        found = (f"{of}{n}" for n in range(10_000))
        return next(one for one in found if self.pipeline.store.partition_of(f"users/s:{one}") == partition)

    def put(self, of: str) -> dict[int, str]:
        """Write a document in each partition that is served; their names."""
        names = {one: self.name(one, of) for one in self.served}
        for one in names.values():
            self.pipeline.collection("users").put(one, {"n": 1})
        return names

    def pending(self) -> int:
        """The number of pending documents in the partitions that are served."""
        return sum(self.pipeline.store._wire.call("ZCARD", partition_keys(one).pending) for one in self.served)


@pytest.fixture(scope="module")
def stays(tmp_path_factory) -> Iterator[Cluster]:
    """Three primaries with a replica each, which stay replicas."""
    with Cluster(tmp_path_factory.mktemp("stays"), fails_over=False) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=[0, 1, 2])
def away(request, tmp_path_factory, stays, mongo, mongo_client: MongoClient) -> Iterator[Away]:
    """Each primary in turn is killed, after the pipeline has seen whose Redis it is."""
    wire = EveryWire(open_servers(stays.url, TIMEOUT_MS))
    wire.call("FLUSHALL")
    empty = tmp_path_factory.mktemp("settings") / "writebehind.toml"
    empty.touch()
    with pytest.MonkeyPatch.context() as patch:  # the fixture for this is one for each test
        patch.setenv("WRITEBEHIND_CONFIG", str(empty))
        settings = load_settings(
            redis_url=stays.url,
            mongodb_url=mongo.url,
            mongodb_database=f"away_{request.param}",
            partitions=PARTITIONS,
            hot_samples=0,
            defaults={"flush_delay_ms": 0},
            collections={"users": {}, "through": {"write": "through"}},
        )
    hints = Hints()
    pipeline = Pipeline(settings, hints=hints, wire=wire, client=mongo_client)
    pipeline.check()
    dead = stays.nodes[request.param]
    places = {one: wire.server_of(partition_keys(one).pending) for one in range(PARTITIONS)}
    lost = [one for one, place in places.items() if place.endswith(f":{dead.port}")]
    dead.kill()
    try:
        yield Away(pipeline, hints, lost, [one for one in places if one not in lost])
    finally:
        dead.start()
        wait_until(stays.is_whole, "the cluster to be whole", 30)
        wire.close()


def test_the_other_partitions_are_flushed(away: Away, mongo_client):
    """What is acknowledged elsewhere reaches MongoDB, whichever server it is; the lease is given back."""
    names = away.put("flushed")
    for one in away.served:
        away.pipeline.flusher.flush(one)

    users = mongo_client[away.pipeline.settings.mongodb_database]["users"]
    assert len(names) == users.count_documents({"_id": {"$in": [*names.values()]}})
    assert 0 == away.pending()
    leases = [away.pipeline.store._wire.call("EXISTS", partition_keys(one).lease) for one in away.served]
    assert {0} == set(leases)


def test_a_lost_partition_is_not_flushed(away: Away):
    """A flush of a partition whose server is away says so."""
    with pytest.raises(RedisUnavailableError):
        away.pipeline.flusher.flush(away.lost[0])


def test_the_other_partitions_are_swept(away: Away):
    """What nobody has flushed there is found, and deletions are audited."""
    names = away.put("swept")
    del away.hints[:]
    wire = away.pipeline.store._wire
    for one in names:  # the hints of these writes were lost, and they are overdue
        of = partition_keys(one)
        wire.call("DEL", of.scheduled)
        for member in wire.call("ZRANGE", of.pending, 0, -1):
            wire.call("ZADD", of.pending, 1, member)
    swept = away.pipeline.maintenance.sweep()

    assert {*away.served} == {one.partition for one in away.hints}
    assert len(away.served) == swept["enqueued"]
    assert 0 == away.pipeline.maintenance.audit_deletions()["deleted_again"]
    for one in away.served:
        away.pipeline.flusher.flush(one)
