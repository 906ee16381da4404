"""A pipeline on a Redis behind a proxy, which can hang or cut connections: fixtures for who imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Way
from writebehind import Pipeline, connect

#: How long Redis has to answer, ms.
TIMEOUT_MS = 500


@pytest.fixture
def way(valkey, valkey_wire, way_to) -> Iterator[Way]:
    with way_to("redis", valkey.port) as way:
        yield way


@pytest.fixture
def pipeline(settings, way) -> Iterator[Pipeline]:
    changes = {"redis_url": way.url, "redis_timeout_ms": TIMEOUT_MS, "confirm_timeout_ms": TIMEOUT_MS // 2}
    with connect(settings.model_copy(update=changes)) as pipeline:
        yield pipeline
