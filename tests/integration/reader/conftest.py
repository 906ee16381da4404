"""A reader on a store and a sink that counts what is asked of it."""

from __future__ import annotations

import pytest

from tests.reading import CountingSink, reader_of
from writebehind import CollectionSettings
from writebehind.reading.reader import Reader
from writebehind.redis.store import Store

SETTINGS = CollectionSettings(ttl=60, negative_ttl=5)


@pytest.fixture
def sink(mongo_client, database_name) -> CountingSink:
    return CountingSink(mongo_client, database_name, timeout_ms=5_000)


@pytest.fixture
def store(valkey_wire) -> Store:
    return Store(valkey_wire, database="shop", partitions=4, max_pending=100, tombstone_ttl_ms=60_000)


@pytest.fixture
def reader(store, sink) -> Reader:
    return reader_of(store, sink, load_timeout_ms=5_000)


@pytest.fixture
def users(mongo_client, database_name):
    return mongo_client[database_name]["users"]
