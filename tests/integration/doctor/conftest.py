"""An installation in good health, on a Redis whose configuration may be changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from writebehind import Pipeline
from writebehind.local.embedded import EmbeddedRedis
from writebehind.operations.doctor import Finding, examine
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    """A server whose configuration may be changed."""
    with EmbeddedRedis(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def patient(server, settings, mongo_client) -> Iterator[Pipeline]:
    """A pipeline in good health, but for workers and beat."""
    wire = Wire(connection_pool(server.url, 5_000))
    wire.call("FLUSHALL")
    for name, value in (
        ("maxmemory", "100mb"),
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
    ):
        wire.call("CONFIG", "SET", name, value)
    changed = settings.model_copy(update={"redis_url": server.url, "broker_url": ""})
    yield Pipeline(changed, wire=wire, client=mongo_client)
    wire.close()


def found(pipeline: Pipeline, check: str) -> Finding:
    return next(one for one in examine(pipeline) if one.check == check)
