"""A server or process that is frozen is named itself, and nobody is told to start a second one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy import Proxy
from tests.servers import freeze, resume
from writebehind import Pipeline, connect
from writebehind.local.embedded import EmbeddedRedis
from writebehind.operations.doctor import Finding, Level, examine, processes

#: Answers of a server that runs come sooner than that, ms.
TIMEOUT_MS = 500

HEALTHY = {"leader": "here", "lag_s": 0.2, "error": None}


@pytest.fixture
def frozen(server: EmbeddedRedis, settings) -> Iterator[Pipeline]:
    """A pipeline whose Redis, which is its broker too, is frozen."""
    changes = {"redis_url": server.url, "broker_url": "", "redis_timeout_ms": TIMEOUT_MS}
    with connect(settings.model_copy(update=changes)) as pipeline:
        freeze(server)
        try:
            yield pipeline
        finally:
            resume(server)


def failures(pipeline: Pipeline) -> dict[str, Finding]:
    return {one.check: one for one in examine(pipeline) if one.level is Level.FAILURE}


@pytest.mark.parametrize("named", ["", "redis://{address}/1"])
def test_a_frozen_redis_that_is_the_broker_too(frozen, server, named):
    """It is one server, which is to be looked at: nothing says to start it, as it runs."""
    broker_url = named.format(address=f"127.0.0.1:{server.port}")
    frozen.settings = frozen.settings.model_copy(update={"broker_url": broker_url})
    found = failures(frozen)
    assert "the same server as Redis" in found["broker"].found
    for one in ("redis", "broker"):
        assert "start it" not in found[one].advice, found[one]
        assert "start no other on its data" in found[one].advice, found[one]


def test_a_frozen_broker_of_its_own(patient, server, tmp_path):
    """It is not to be started either."""
    with EmbeddedRedis(tmp_path) as other:
        patient.settings = patient.settings.model_copy(update={"broker_url": other.url})
        freeze(other)
        try:
            found = failures(patient)["broker"]
        finally:
            resume(other)
    assert ("same server" in found.found, "start no other" in found.advice) == (False, True), found
    assert "BROKER_URL" in found.advice


def test_a_mongodb_that_hangs(patient, mongo):
    """As with Redis: that nothing refuses a connection is no sign that it has ended."""
    with Proxy(mongo.port) as way:
        way.hang()
        url = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
        with connect(patient.settings.model_copy(update={"mongodb_url": url})) as pipeline:
            found = failures(pipeline)["mongodb"]
    assert "start no other" in found.advice, found
    assert "MONGODB_URL" in found.advice


@pytest.mark.parametrize("heard_s", [None, 6.0])
def test_a_frozen_listener(heard_s):
    """It is told apart from one that waits for MongoDB, which notes each second that it lives."""
    frozen = HEALTHY | {"alive_seconds_ago": 5.5, "heard_seconds_ago": heard_s}
    one = processes.listener(frozen)
    assert Level.WARNING is one.level
    assert one.found.startswith("the listener here has shown no sign of life for 6 s"), one
    assert "MongoDB" not in one.found + one.advice

    waits = processes.listener(HEALTHY | {"alive_seconds_ago": 1.0, "heard_seconds_ago": 6.0})
    assert "MongoDB does not answer it" in waits.found
