"""Plain requests answered in the event loop, on a real Redis: all that anybody is told is as with Flask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from random import Random

import pytest

import web.hot_path
from tests.tiers import examples
from tests.topologies import Cluster, EveryWire, NamedServers
from tests.unit.web.requests import OF_KEYS, requests
from tests.unit.web.server.test_hot_path import Way, check_same, is_replayed, keyed, nothing, without_mongodb
from web.hot_path import HotPath
from writebehind.access import refused
from writebehind.local.embedded import EmbeddedRedis
from writebehind.logs.setup import ACCESS
from writebehind.redis.topology.opening import open_servers

pytestmark = pytest.mark.one_server("two servers of its own")


@pytest.fixture(params=["one", "named", "cluster"])
def redis(request, tmp_path) -> Iterator[str]:
    """The Redis of whoever answers in the loop: one server, or several."""
    kinds = {"one": EmbeddedRedis, "named": NamedServers, "cluster": Cluster}
    with kinds[request.param](tmp_path / "one") as servers:
        yield servers.url


@pytest.fixture
def ways(tmp_path, monkeypatch, caplog, redis) -> Iterator[tuple[Way, Way]]:
    """One that answers in the loop what it can, and one by Flask alone, each with a Redis of its own."""
    monkeypatch.setattr(web.hot_path, "_SIGNALS", ())  # a fixture of all tests listens to them
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, ACCESS)
    monkeypatch.setattr(refused.Allowance, "take", lambda _: True)  # nothing that is made meanwhile keeps it
    with EmbeddedRedis(tmp_path / "other") as other:
        both = tuple(
            Way(tmp_path / name, is_hot=is_hot, wire=EveryWire(open_servers(url, 5_000)))
            for name, is_hot, url in (("hot", True, redis), ("flask", False, other.url))
        )
        yield both
        for way in both:
            way.close()


@pytest.fixture
def here(monkeypatch) -> list[bool]:
    """Whether each plain request was answered in the loop; a lane is waited for."""
    answered: list[bool] = []
    answer_here = HotPath.answer_here

    async def noting(self, environ, lanes, wait):
        while any(one._is_fetching for one in lanes._lanes.values()):  # noqa: ASYNC110 - an executor ends it
            await asyncio.sleep(0.001)
        found = await answer_here(self, environ, lanes, wait)
        answered.append(found is not None)
        return found

    monkeypatch.setattr(HotPath, "answer_here", noting)
    return answered


def test_any_requests_are_answered_as_flask_does(ways, here):
    """With and without keys, with documents that MongoDB alone has, and without it."""
    hot, flask = ways
    count, most = examples(4_000), hot.pipeline.settings.max_document_bytes
    batches = [
        (happen, list(requests(Random(seed), count // parts, most, OF_KEYS if seed else ())))
        for seed, (happen, parts) in enumerate([(nothing, 2), (keyed, 2), (without_mongodb, 4)])
    ]

    for way in ways:
        way.answer(batches)

    check_same(hot, flask)
    assert sum(here) > len(hot.lines) // 12  # or hardly any was
    assert any(is_replayed(headers) for _, _, headers, _ in hot.answers)
