"""What stands in another partition than its own reaches MongoDB or the dead letters, and is nowhere lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import again
from writebehind import Pipeline
from writebehind.operations.drain import drain
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys

ADA = "users/s:ada"


@pytest.fixture
def home(pipeline) -> int:
    """The partition of the document."""
    return pipeline.store.partition_of(ADA)


@pytest.fixture
def elsewhere(pipeline, home) -> int:
    """Another one."""
    return (home + 1) % pipeline.settings.partitions


@pytest.fixture
def displace(pipeline, home, elsewhere) -> Callable[..., None]:
    """Moves a document by hand, as if a process that takes Redis to be divided otherwise had acknowledged it."""

    def move(*, entry: bool = True, mark: bool = True, to: int = elsewhere) -> None:
        pipeline.store.assigned.record(to + 1)  # on servers with names: Redis was once divided into so many
        wire, of, there = pipeline.store._wire, partition_keys(home), partition_keys(to)
        if entry:
            wire.call("RENAME", of.entry(ADA), there.entry(ADA))
        if mark:
            wire.call("ZADD", there.pending, wire.call("ZSCORE", of.pending, ADA), ADA)
            wire.call("ZREM", of.pending, ADA)
        wire.call("DEL", of.scheduled)  # which that process did not ask for

    return move


def put(pipeline: Pipeline, n: object) -> int:
    return pipeline.collection("users").put("ada", {"n": n}).version


def settle_all(pipeline: Pipeline) -> None:
    """Drain: all of it within the time that is promised, and nothing is left in another partition."""
    drained = drain(pipeline, timeout_s=10)
    assert (0, 0) == (drained.pending, pipeline.status()["pending"])
    wire = pipeline.store._wire
    for number in (*range(20), MOST_PARTITIONS - 1):
        of = partition_keys(number)
        if number != pipeline.store.partition_of(ADA):
            assert 0 == wire.call("EXISTS", of.pending, of.dead, of.entry(ADA), of.kept(ADA)), number


def reconcile(pipeline: Pipeline) -> dict[str, int]:
    return pipeline.reconciler.make_pass().found


@pytest.fixture
def wrong(pipeline) -> Pipeline:
    """A process that takes Redis to be divided in another way."""
    return again(pipeline, 7)
