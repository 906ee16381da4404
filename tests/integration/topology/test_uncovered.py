"""A slot of a Redis Cluster that no node has: the partition of it waits, and no other does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from redis.exceptions import ResponseError

from tests.integration.topology.conftest import PARTITIONS, TIMEOUT_MS
from tests.integration.topology.test_cluster import by_partition, node_with
from tests.topologies import SLOTS, Cluster, EveryWire
from tests.waiting import wait_until
from web.app import create_app
from writebehind import BulkOperation, Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.monitoring.page import Page
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.cluster import _slot
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.routing import tag

LOST = 3


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Iterator[Cluster]:
    """Three primaries."""
    with Cluster(tmp_path_factory.mktemp("bare"), replicas=0) as cluster:
        yield cluster


@pytest.fixture
def opened(bare, settings, mongo_client, hints) -> Iterator[Callable[[], Pipeline]]:
    """Makes pipelines on it, which is empty at first."""
    wires = []

    def open_one() -> Pipeline:
        wires.append(EveryWire(open_servers(bare.url, TIMEOUT_MS)))
        changed = settings.model_copy(update={"redis_url": bare.url, "partitions": PARTITIONS})
        return Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client)

    open_one().store._wire.call("FLUSHALL")
    yield open_one
    for one in wires:
        one.close()


@contextmanager
def uncovered(cluster: Cluster, pipeline: Pipeline, key: str) -> Iterator[None]:
    """The slot of a key is nobody's."""
    slot = _slot(tag(key))
    had = node_with(cluster, pipeline.store._wire.server_of(key))

    def known() -> int:
        """The most slots that any node knows somebody for; the others may hear of it again from each other."""
        for one in cluster.nodes:
            with suppress(ResponseError):
                one.tell("DELSLOTS", slot)
        return max(sum(last - first + 1 for first, last, *_ in one.tell("SLOTS")) for one in cluster.nodes)

    wait_until(lambda: known() < SLOTS, "the slot to be nobody's")
    try:
        yield
    finally:
        had.tell("ADDSLOTS", slot)
        wait_until(cluster.is_whole, "the cluster to be whole", 30)


def failed(pipeline: Pipeline, documents: dict[int, str], n: int) -> list[int]:
    """The partitions whose documents are not written, each by itself."""
    slow, lost = pipeline.collection("slow"), []
    for partition, name in documents.items():
        try:
            slow.put(name, {"n": n})
        except RedisUnavailableError:
            lost.append(partition)
    return lost


@pytest.mark.parametrize("is_new", [False, True], ids=["that knew its node", "that starts then"])
def test_only_its_partition_waits(bare, opened, is_new):
    """For a process that has the map of before, and one that finds it so."""
    known = opened()
    known.check()
    documents = by_partition(known)
    assert [] == failed(known, documents, 0)
    with uncovered(bare, known, partition_keys(LOST).pending):
        one = opened() if is_new else known
        slow = one.collection("slow")
        if is_new:
            one.check()
        results = slow.bulk([BulkOperation("put", name, {"n": 1}) for name in documents.values()])
        assert [LOST] == [at for at, found in zip(documents, results, strict=True) if isinstance(found, Exception)]
        assert [LOST] == failed(one, documents, 2)
        found = slow.read_each(documents.values())
        assert {at: at == LOST for at in documents} == {
            at: bypassed for at, (_, bypassed) in zip(documents, found, strict=True)
        }
        for at in documents:
            if at != LOST:
                one.flusher.flush(at)
    wait_until(lambda: failed(known, documents, 3) == [], "the slot to be served again")


def test_it_is_told(bare, opened):
    """The status, `/readyz` and metrics say that a part of the cluster is away, and how many partitions."""
    pipeline = opened()
    pipeline.check()
    assert [] == failed(pipeline, by_partition(pipeline), 0)
    with uncovered(bare, pipeline, partition_keys(LOST).pending):
        away = [{"server": "", "partitions": [LOST]}]
        wait_until(lambda: pipeline.status()["away"] == away, "the map to be asked for anew")
        status = pipeline.status()
        ready = create_app(pipeline).test_client().get("/readyz")
        page = Page(pipeline).render("")[0].decode()
    assert (PARTITIONS - 1, False) == (status["pending"], status["safe"])
    assert "part of the cluster does not answer, which has 1 partition" in status["not_safe_because"]
    assert (200, [LOST]) == (ready.status_code, ready.get_json()["away"][0]["partitions"])
    assert "\nwritebehind_partitions_away 1" in page


@pytest.mark.parametrize("key", [keys.DATABASE, keys.PARTITIONS, keys.COUNTERS, keys.BREAKER])
def test_what_belongs_to_no_partition(bare, opened, key):
    """A process that has seen whose Redis it is goes on, in all partitions."""
    pipeline = opened()
    pipeline.check()
    documents = by_partition(pipeline)
    assert [] == failed(pipeline, documents, 0)
    with uncovered(bare, pipeline, key):
        lost = [at for at in documents if _slot(str(at)) == _slot(tag(key))]
        assert lost == failed(pipeline, documents, 1)
        pipeline.store.load()
        pipeline.status()
