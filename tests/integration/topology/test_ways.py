"""Round trips of an event loop where Redis is several servers: begun where all is as far as is known, or left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import pytest

from tests.integration.topology.conftest import PARTITIONS, TIMEOUT_MS
from tests.integration.topology.test_cluster import move
from tests.topologies import NamedServers
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.operations.rebalance import rebalance
from writebehind.redis.connections import Connections
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire

T = TypeVar("T")
NAMES = [f"u{n}" for n in range(60)]
SOME_BYTES = 10_000


def made(pipeline: Pipeline, build: Callable[[], RoundTrip[T] | None]) -> T:
    """The result of a round trip, as a lane makes it, once a thread has had the look that is due before it."""

    def begun() -> RoundTrip[T] | None:
        return build() or (pipeline._wire.on_each([("TIME",)]) and build())

    trip = wait_until(begun, "it to be known where all is")
    lent = trip.server.lend()
    assert lent is not None
    connection, _ = lent
    answers = Connections.over(trip.server, connection, trip.commands)
    trip.server.take_back(connection, is_kept=True)
    return trip.conclude(answers)


def is_left(pipeline: Pipeline, build: Callable[[], RoundTrip[T] | None]) -> bool:
    """Whether a round trip is left to a thread, and has done nothing."""
    with pytest.raises(UndecidedError) as raised:
        made(pipeline, build)
    return raised.value.rest is None


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Iterator[NamedServers]:
    with NamedServers(tmp_path_factory.mktemp("named")) as servers:
        yield servers


@pytest.fixture
def on_named(settings, named, mongo_client, hints) -> Iterator[Callable[..., Pipeline]]:
    """Pipelines on some of the servers, each as a process of its own has one."""
    for name in named.servers:
        named.ask(name, "FLUSHALL")
    wires: list[Wire] = []

    def build(*names: str) -> Pipeline:
        url = named.url_of(*names)
        wires.append(Wire(open_servers(url, TIMEOUT_MS)))
        changed = settings.model_copy(update={"redis_url": url, "partitions": PARTITIONS})
        return Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client)

    yield build
    for wire in wires:
        wire.close()


def check_trips(pipeline: Pipeline) -> None:
    """Write and read documents on all servers, each by one round trip."""
    users = pipeline.collection("users")
    pipeline.check()
    for n, name in enumerate(NAMES):
        users.put(name, {"n": 0})
        written = made(pipeline, partial(users.put_trip, name, {"n": n}))
        read = made(pipeline, partial(users.read_trip, name, most_bytes=SOME_BYTES))
        assert (written.version, n) == (read.entry.version, read.entry.document["n"])
        assert n == users.get(name)["n"]
    assert len({pipeline.store.server_of_member(f"users/s:{name}") for name in NAMES}) > 1


def test_trips_to_servers_with_names(on_named):
    """Each goes to the server that has the document, and is a write, or a read, like any other."""
    check_trips(on_named("a", "b", "c"))


def test_trips_to_a_cluster(on_cluster):
    """So it is in a cluster."""
    check_trips(on_cluster)


def test_nothing_is_begun_before_anything_is_known(on_named, on_cluster, cluster):
    """A process that has not asked where partitions are leaves that to a thread."""
    fresh = Wire(open_servers(cluster.url, TIMEOUT_MS))
    assert fresh.way("wb:{0}:clock") is None
    fresh.close()
    on_named("a", "b", "c").check()
    late = on_named("a", "b", "c")
    assert (None, False) == (late._wire.way("wb:{0}:clock"), late.collection("users").puts_by_trips())


def test_a_partition_that_has_gone_to_another_server(on_named):
    """Nothing is written where it was, and what is read there does not hold."""
    former = on_named("a", "b")
    former.check()
    users = former.collection("users")
    for name in NAMES:
        users.put(name, {"n": 1})
    before = {name: former.store.server_of_member(f"users/s:{name}") for name in NAMES}
    later = on_named("a", "b", "c")
    rebalance(later)
    later._wire.look_again()
    gone = [name for name in NAMES if later.store.server_of_member(f"users/s:{name}") != before[name]]
    assert gone
    for name in gone:
        assert is_left(former, partial(users.read_trip, name, most_bytes=SOME_BYTES))
        assert is_left(former, partial(users.put_trip, name, {"n": 2}))
        assert 1 == later.collection("users").get(name)["n"]


def test_a_slot_that_has_gone_to_another_node(on_cluster, cluster, wire):
    """A node that has it no more carries nothing out; once a thread has learned of it, trips go to the other."""
    users = on_cluster.collection("users")
    on_cluster.check()
    name = next(one for one in NAMES if on_cluster.store.partition_of(f"users/s:{one}") == 0)
    users.put(name, {"n": 1})
    before = on_cluster.store.server_of_member(f"users/s:{name}")
    move(cluster, wire, 0)

    assert is_left(on_cluster, partial(users.read_trip, name, most_bytes=SOME_BYTES))
    assert is_left(on_cluster, partial(users.put_trip, name, {"n": 2}))

    assert 1 == users.get(name)["n"]
    assert before != on_cluster.store.server_of_member(f"users/s:{name}")
    users.put(name, {"n": 2})  # that node may not know the step yet
    made(on_cluster, partial(users.put_trip, name, {"n": 3}))
    assert 3 == users.get(name)["n"]
