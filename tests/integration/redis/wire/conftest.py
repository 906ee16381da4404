"""A wire to Redis on a way that can be cut, slowed and left hanging."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Way
from tests.proxy import Proxy
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire

TIMEOUT_MS, PATIENCE_MS = 300, 20_000


@pytest.fixture(scope="module")
def valkey(one_valkey) -> EmbeddedRedis:
    """A single server in any case: each server of several is spoken to over connections like these."""
    return one_valkey


@pytest.fixture
def way(valkey, way_to) -> Iterator[Way]:
    with way_to("redis", valkey.port) as way:
        yield way


@pytest.fixture
def proxy(way) -> Proxy:
    return way.proxy


@pytest.fixture
def wire(way) -> Iterator[Wire]:
    """One that no busy machine keeps from an answer."""
    wire = Wire(connection_pool(way.url, PATIENCE_MS))
    yield wire
    wire.close()


@pytest.fixture
def hasty(way) -> Iterator[Wire]:
    """One whose calls end soon where no answer comes."""
    wire = Wire(connection_pool(way.url, TIMEOUT_MS))
    yield wire
    wire.close()
