"""The breaker beside clocks that are set back, other hands, and ends of processes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest
from pymongo.errors import InvalidName, InvalidOperation, OperationFailure, WaitQueueTimeoutError
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.integration.breaker.processes import DOWN, Process
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.entry import ABSENT
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, PipelineClosedError, RedisUnavailableError
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb.breaker import FAILURES, BreakerState, MongoBreaker
from writebehind.mongodb.sink import Sink
from writebehind.redis.keys import BREAKER
from writebehind.redis.shared.breaker import SharedBreaker


@pytest.mark.parametrize("error", [InvalidName("empty"), OperationFailure("no", 73), OperationFailure("no", 13)])
def test_one_collection_opens_it_for_nobody(wire, mongo_client, database_name, monkeypatch, error):
    """That a name is impossible, or one collection is not to be read, is no outage: reads of others go on."""
    breaker = MongoBreaker(SharedBreaker(wire), probe_ms=1_000)
    sink = Sink(mongo_client, database_name, timeout_ms=5_000, breaker=breaker)
    ids = DocumentId.of("secret", "y"), DocumentId.of("users", "y")
    original = SyncCollection.find

    def find(self, *args, **kwargs):
        if self.name == "secret":
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SyncCollection, "find", find)
    for _ in range(2 * FAILURES):
        with pytest.raises(MongoUnavailableError, match="MongoDB refuses"):
            sink.find(ids[0])
        assert ABSENT == sink.find(ids[1])
    for _ in range(2 * FAILURES):
        with pytest.raises(MongoUnavailableError, match="MongoDB refuses"):
            sink.find(DocumentId.of("logs.", "y"))
    assert BreakerState() == breaker.state()


def test_a_probe_that_dies_is_followed_by_another(wire):
    """Whoever may find out and never says how it went is replaced."""
    one, other = Process(wire, probe_ms=60_000), Process(wire, probe_ms=60_000)
    one.fail()
    wait_until(one.breaker._enter, "the right to find out")

    assert not other.use()
    assert 0 < one.breaker.state().retry_after_s <= 60
    other.let_interval_end()
    assert other.use()


@pytest.mark.usefixtures("long_intervals")
def test_without_redis_each_process_finds_out_for_itself(one, monkeypatch):
    """When Redis does not answer either, a failure keeps this process off MongoDB for an interval."""

    def down(*_: object) -> None:
        raise RedisUnavailableError

    monkeypatch.setattr(one.breaker._shared._wire, "exchange", down)
    assert one.use()
    one.fail(1)
    assert not one.use()
    assert 2 == one.asked
    one.breaker._open_until = 0.0
    assert one.use()


@pytest.mark.parametrize("state", ["open", "half-open"])
def test_a_clock_that_is_set_back_keeps_it_open_no_longer(one, other, wire, state):
    """Where Redis's clock steps back by minutes, MongoDB is asked at once, and not when it has caught up."""
    one.fail()
    later_ms = 600_000 + int(wire.call("HGET", BREAKER, "until"))
    wire.call("HSET", BREAKER, "until", later_ms, "state", state)

    assert other.breaker.state().retry_after_s <= 60
    assert other.breaker._failed("begun before it opened", probing=False) <= 0.1
    assert wait_until(other.use, "the probe", timeout=5)
    assert other.asked == 1


def test_the_wait_for_a_probe_is_no_step_of_the_clock(wire):
    """While one caller finds out, the others wait for as long as it may take, and not only for the interval."""
    first, second = Process(wire, probe_ms=60_000), Process(wire, probe_ms=60_000)
    first.fail()
    wait_until(lambda: first.breaker._open_until <= time.monotonic(), "the interval")
    assert first.breaker._enter()
    assert not second.use()


@pytest.mark.parametrize("odd", [None, "", "nan", "-inf", "1e300", b"\xff"])
def test_what_other_hands_have_made_of_it(wire, odd):
    """Fields that are missing or odd raise nothing, and keep nobody out for longer than the longest interval."""
    one, other = Process(wire, probe_ms=50), Process(wire, probe_ms=50)

    def tamper() -> None:
        for field in ("until", "interval", "why", "since", "failures"):
            wire.call("HDEL", BREAKER, field)
            if odd is not None:
                wire.call("HSET", BREAKER, field, odd)

    one.fail(1)
    tamper()
    one.fail(FAILURES)
    tamper()
    other.use(DOWN)
    state = other.breaker.state()
    assert 0 <= state.retry_after_s <= breaker_module.LONGEST_INTERVAL_MS / 1000
    wait_until(one.breaker._enter, "the right to find out")
    tamper()
    one.breaker._failed("still down", probing=True)
    tamper()
    wait_until(other.use, "the breaker to be closed", timeout=5)
    assert BreakerState() == one.breaker.state()


def test_a_pipeline_that_is_closed_while_it_reads(settings, valkey_wire):
    """Its threads hear that it is closed, and no other process that MongoDB is away."""
    pipeline = Pipeline(settings)
    users = pipeline.collection("users")
    failures: list[Exception] = []

    def read() -> None:
        for n in count():
            try:
                users.get(f"{threading.get_ident()}-{n}")
            except MongoUnavailableError as error:
                failures.append(error)
                if len(failures) > FAILURES:
                    return

    with ThreadPoolExecutor(4) as threads:
        reading = [threads.submit(read) for _ in range(4)]
        wait_until(lambda: valkey_wire.call("DBSIZE") > 20, "documents to be read")
        pipeline.close()
        for one in reading:
            one.result(20)

    assert {PipelineClosedError} == set(map(type, failures))
    assert 0 == valkey_wire.call("EXISTS", BREAKER)
    assert [] == valkey_wire.call("KEYS", "wb:*load:*")


@pytest.mark.parametrize("error", [WaitQueueTimeoutError("all are in use"), InvalidOperation("after close")])
def test_what_this_process_has_not_asked(sink, one, error):
    """It says nothing of MongoDB: neither does it open the breaker, nor does it close one that is open."""
    sink._ask = one.breaker.guard

    def fail() -> None:
        for _ in range(FAILURES + 1):
            with suppress(MongoUnavailableError), sink._guard(), sink._deadline():
                raise error

    fail()
    assert "closed" == one.breaker.state().state
    one.fail()
    one.let_interval_end()
    fail()
    assert "half-open" == one.breaker.state().state
