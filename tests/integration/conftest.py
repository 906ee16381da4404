"""What several modules of this tier share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from click.testing import CliRunner, Result
from pymongo.collection import Collection as MongoCollection

from tests.proxy import Proxy
from tests.tls import TlsFront
from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.celery.depths import QueueDepths
from writebehind.celery.names import FLUSH_QUEUE
from writebehind.cli import cli
from writebehind.collection import Collection
from writebehind.mongodb.sink import Sink
from writebehind.operations.drain import drain
from writebehind.redis.keys import partition_keys
from writebehind.redis.wire import Wire


def environment(settings: Settings) -> dict[str, str]:
    """The variables with which a command finds the servers of a test."""
    return {
        "REDIS_URL": settings.redis_url,
        **({"BROKER_URL": settings.broker_url} if settings.broker_url else {}),
        "MONGODB_URL": settings.mongodb_url,
        "MONGODB_DATABASE": settings.mongodb_database,
        "WRITEBEHIND_PARTITIONS": str(settings.partitions),
        "WRITEBEHIND_ALLOW_UNLISTED": "true",
    }


@dataclass(frozen=True)
class Way:
    """A way to a server that can be cut, slowed and left hanging."""

    proxy: Proxy
    url: str


@pytest.fixture(params=["plain", "tls"])
def way_to(request, authority) -> Callable[[str, int], AbstractContextManager[Way]]:
    """Makes a way to a server, `redis` or `mongodb`, on a port: plainly, and with TLS."""

    @contextmanager
    def open_way(kind: str, port: int) -> Iterator[Way]:
        with ExitStack() as stack:
            if request.param == "tls":
                port = stack.enter_context(TlsFront(authority.server_context(), port)).port
            proxy = stack.enter_context(Proxy(port))
            plain = {
                "redis": f"redis://127.0.0.1:{proxy.port}/0",
                # directConnection: the server's answer to hello names its own port, not the proxy's.
                "mongodb": f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true",
            }
            secure = {"redis": authority.redis_url, "mongodb": authority.mongodb_url}
            yield Way(proxy, secure[kind](proxy.port) if request.param == "tls" else plain[kind])

    return open_way


@pytest.fixture
def sink(mongo_client, database_name) -> Sink:
    return Sink(mongo_client, database_name, timeout_ms=10_000)


@pytest.fixture
def other(pipeline, valkey_wire, mongo_client) -> Pipeline:
    """Another process with the same settings, on the same servers."""
    return Pipeline(pipeline.settings, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def users(pipeline) -> Collection:
    return pipeline.collection("users")


@pytest.fixture(name="stored")
def in_mongodb(pipeline, mongo_client) -> MongoCollection:
    """The same documents as MongoDB has them."""
    return mongo_client[pipeline.settings.mongodb_database]["users"]


@pytest.fixture
def run(settings, monkeypatch) -> Callable[..., Result]:
    """The command line on the servers of this test."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    return invoke


@pytest.fixture
def depths(settings, empty_broker) -> Iterator[QueueDepths]:
    """How many messages wait in the broker, which was empty."""
    depths = QueueDepths(settings)
    yield depths
    depths.close()


def wait_for_tasks(depths: QueueDepths, count: int) -> None:
    """Wait until the broker says of so many flush tasks that they wait: RabbitMQ counts some time later."""
    wait_until(lambda: depths().get(FLUSH_QUEUE, 0) == count, f"{count} flush tasks in the broker")


@contextmanager
def full(wire: Wire) -> Iterator[None]:
    """Within it, Redis has no memory for anything more, and nothing to evict."""
    wire.call("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        wire.call("CONFIG", "SET", "maxmemory", 0)


@contextmanager
def evicting(wire: Wire, policy: str) -> Iterator[None]:
    """Within it, Redis is `full`, and evicts by a policy."""
    before = wire.call("CONFIG", "GET", "maxmemory-policy")
    wire.call("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        with full(wire):
            yield
    finally:
        wire.call(
            "CONFIG",
            "SET",
            "maxmemory-policy",
            dict(before)[b"maxmemory-policy"] if isinstance(before, dict) else before[1],
        )


def put(pipeline: Pipeline, count: int, n: int = 0) -> dict[str, int]:
    """Write documents that are not due for a minute; their numbers by id."""
    for at in range(count):
        pipeline.collection("slow").put(f"u{at}", {"n": n + at})
    return {f"u{at}": n + at for at in range(count)}


def drained_with(pipeline: Pipeline, count: int) -> Pipeline:
    """The pipeline with so many documents but one, and a deletion, all settled; nobody waits for its time-out."""
    pipeline.settings = pipeline.settings.model_copy(update={"redis_timeout_ms": 1})
    pipeline.check()
    put(pipeline, count)
    pipeline.collection("slow").delete("u0")
    drain(pipeline, timeout_s=30)
    return pipeline


def flush_all(pipeline: Pipeline) -> None:
    """Bring everything that is pending to MongoDB, due or not.

    And once more what is tried again, as a document that was in its way has changed meanwhile.
    """
    for _ in range(2):
        for partition in range(pipeline.settings.partitions):
            wire, of = pipeline.store._wire, partition_keys(partition)
            for member in wire.call("ZRANGE", of.pending, 0, -1):
                wire.call("ZADD", of.pending, 0, member)
            pipeline.flusher.flush(partition)
        if not pipeline.status()["pending"]:
            break
    assert 0 == pipeline.status()["pending"]


def stored(pipeline: Pipeline, collection: str = "slow") -> dict[str, int]:
    """What MongoDB has of them."""
    return {one["_id"]: one["n"] for one in pipeline.sink._database[collection].find()}


def again(pipeline: Pipeline, partitions: int) -> Pipeline:
    """Another process on the same servers, with another number of partitions."""
    settings = pipeline.settings.model_copy(update={"partitions": partitions})
    return Pipeline(settings, wire=pipeline.store._wire, client=pipeline._client)
