"""Reads that fail are counted by the reason, as servers that are away make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.proxy import Proxy
from writebehind import Pipeline, Settings
from writebehind.documents.ids import DocumentId
from writebehind.errors import Reason, UnavailableError
from writebehind.mongodb.waiting import Places, wait_in
from writebehind.redis.keys import partition_keys
from writebehind.tallies.families import FAILED_READS


@pytest.fixture
def way(mongo) -> Iterator[Proxy]:
    with Proxy(mongo.port) as proxy:
        yield proxy


@pytest.fixture
def on_the_way(way, settings, valkey_wire) -> Iterator[Pipeline]:
    """A pipeline whose way to MongoDB can be left hanging, and which it has gone once."""
    url = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
    given: Settings = settings.model_copy(update={"mongodb_url": url, "mongodb_timeout_ms": 500})
    with closing(Pipeline(given, wire=valkey_wire)) as one:
        assert one.collection("users").get("nobody") is None
        yield one


def why(pipeline: Pipeline, name: str = "cold") -> UnavailableError:
    """The error of a read."""
    with pytest.raises(UnavailableError) as raised:
        pipeline.collection("users").get(name)
    return raised.value


def counted(pipeline: Pipeline) -> Counter[str]:
    """Failed reads of users, by reason."""
    return Counter(
        {
            labels[1]: int(count)
            for (family, labels), (count, *_) in pipeline.tallies.read().items()
            if family == FAILED_READS.name and labels[0] == "users"
        }
    )


def test_a_mongodb_that_is_late_and_is_left_alone_then(on_the_way, way):
    """Who asks waits in vain, and whoever comes after that does not ask."""
    way.hang()

    reasons = [why(on_the_way).reason]
    while Reason.BREAKER_OPEN not in reasons:
        reasons.append(why(on_the_way).reason)

    assert Reason.MONGODB_LATE is reasons[0]
    assert {Reason.MONGODB_LATE, Reason.MONGODB_AWAY, Reason.BREAKER_OPEN} >= set(reasons)
    assert Counter(map(str, reasons)) == counted(on_the_way)


def test_those_who_wait_for_the_same_load_fail_for_its_reason(on_the_way, way):
    """Each of them is a failed read, and is told as much as the one that has asked."""
    way.hang()
    with ThreadPoolExecutor(8) as threads:
        errors = list(threads.map(lambda _: why(on_the_way), range(8)))

    assert {(str(one), one.inner, one.retry_after_s, one.outage) for one in errors} == {
        (str(errors[0]), errors[0].inner, errors[0].retry_after_s, True)
    }
    assert Counter({"mongodb-late": 8}) == counted(on_the_way)
    assert len({id(one) for one in errors}) == 8


def test_a_mongodb_that_nobody_reaches(on_the_way, way):
    """No server can be chosen."""
    way.close()
    on_the_way._client.close()
    nobody = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
    with closing(Pipeline(on_the_way.settings.model_copy(update={"mongodb_url": nobody}), wire=None)) as other:
        assert Reason.MONGODB_AWAY is why(other).reason
        assert Counter({"mongodb-away": 1}) == counted(other)


def test_as_many_wait_as_may(pipeline):
    """Who finds no place has not asked."""
    places = Places(1)
    places.take()

    def read() -> Reason:
        wait_in(places)
        return why(pipeline).reason

    with ThreadPoolExecutor(1) as threads:
        assert Reason.MONGODB_BUSY is threads.submit(read).result(10)
    assert Counter({"mongodb-busy": 1}) == counted(pipeline)


def test_what_other_hands_have_spoiled(pipeline):
    """The first who meets it is refused, and the next one reads."""
    store, ada = pipeline.store, DocumentId.of("users", "ada")
    store._wire.call("RPUSH", partition_keys(store.partition_of(ada.member)).entry(ada.member), "x")

    assert Reason.REDIS_SPOILED is why(pipeline, "ada").reason
    assert pipeline.collection("users").get("ada") is None
    assert Counter({"redis-spoiled": 1}) == counted(pipeline)


def test_a_pipeline_that_is_closed(on_the_way):
    """What needs MongoDB is refused."""
    on_the_way.close()

    assert Reason.CLOSED is why(on_the_way).reason
    assert Counter({"closed": 1}) == counted(on_the_way)
