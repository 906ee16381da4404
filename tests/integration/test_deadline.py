"""A thread that has a deadline waits no longer for MongoDB, and tells nobody that MongoDB is away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pymongo import MongoClient

from tests.integration.conftest import Way
from tests.waiting import slowness, wait_until
from writebehind import Durability, Pipeline
from writebehind.deadline import endless, ends_at, left_s
from writebehind.errors import MongoBusyError, MongoUnavailableError

#: Deadline of a thread, and of what it asks MongoDB for, seconds.
SOON_S, LATE_S = 0.5, 20.0


@pytest.fixture
def way(mongo, way_to) -> Iterator[Way]:
    with way_to("mongodb", mongo.port) as way:
        yield way


@pytest.fixture
def far(settings, way, pipeline) -> Iterator[Pipeline]:
    """A pipeline that is patient with MongoDB."""
    late = {"mongodb_timeout_ms": int(LATE_S * 1000), "load_timeout_ms": int(LATE_S * 1000), "lease_ms": 60_000}
    patient = settings.model_copy(update=late | {"persist_timeout_ms": int(LATE_S * 1000)})
    with MongoClient(way.url, serverSelectionTimeoutMS=int(LATE_S * 1000)) as client:
        yield Pipeline(patient, wire=pipeline.store._wire, client=client)


def test_time_that_is_left():
    """The innermost block does not prolong it, but what must not be broken off."""
    assert 7.0 == left_s(7)
    with ends_at(time.monotonic() + 100), ends_at(time.monotonic() + 200):
        assert 7.0 == left_s(7)
        assert 90 < left_s(1_000) <= 100
        with endless():
            assert 1_000 == left_s(1_000)
        with ends_at(time.monotonic() - 1):
            assert 0 == left_s(7)
    assert 1_000 == left_s(1_000)


def test_a_read_ends_with_its_thread(far, way):
    """The breaker stays closed: MongoDB has had no time to answer."""
    users = far.collection("through")
    far.sink.ping(timeout_s=LATE_S)
    slow = slowness()
    way.proxy.slow(LATE_S)
    began = time.monotonic()
    with ends_at(began + SOON_S), pytest.raises(MongoUnavailableError):
        users.get("ada")
    took_s = time.monotonic() - began
    with ends_at(began), pytest.raises(MongoBusyError):
        users.get("ada")
    way.proxy.slow(0)

    assert took_s < LATE_S / 4 * max(slow, slowness())
    wait_until(lambda: far.breaker.state().reason == "", "the breaker")
    assert None is users.get("ada")


def test_a_write_says_in_time_how_far_it_has_come(far, way):
    """It is not persisted yet, and stands."""
    users = far.collection("slow")
    far.sink.ping(timeout_s=LATE_S)
    with ends_at(time.monotonic() + 0.1):
        written = users.put("ada", {"n": 1}, durability=Durability.PERSISTED)

    assert Durability.BUFFERED == written.durability
    assert {"_id": "ada", "n": 1} == users.get("ada")
