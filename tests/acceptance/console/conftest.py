"""The console in a browser, before a running system on servers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from tests.acceptance.browser import Tab, browser, tab
from tests.acceptance.conftest import SLOW_MS, System, start
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

#: So long documents of a collection wait that no test waits for, ms.
LATE_MS = 120_000
#: An id that would do something if it became HTML.
EVIL = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Servers:
    """Servers that nobody but the test stops and starts."""

    redis: EmbeddedRedis
    mongo: EmbeddedMongo


@pytest.fixture(scope="package")
def servers(tmp_path_factory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    with EmbeddedRedis(directory, appendfsync="always") as redis, EmbeddedMongo(directory) as mongo:
        yield Servers(redis, mongo)


@pytest.fixture(scope="package")
def system(servers, tmp_path_factory) -> Iterator[System]:
    """The system on these servers."""
    urls = {"REDIS_URL": servers.redis.url, "MONGODB_URL": servers.mongo.url}
    slow = {"WRITEBEHIND_COLLECTIONS__slow__flush_delay_ms": str(SLOW_MS)}
    slow["WRITEBEHIND_COLLECTIONS__late__flush_delay_ms"] = str(LATE_MS)
    slow |= {f"WRITEBEHIND_COLLECTIONS__{one}__id_pattern": ".+" for one in ("slow", "events")}
    stack = start(tmp_path_factory.mktemp("console"), without=frozenset({"flower"}), **urls, **slow)
    with stack, System(stack) as system:
        system.wait_for_workers()
        yield system


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def opened(chromium) -> Iterator[Tab]:
    """A page in a wide window, which may complain of nothing."""
    with tab(chromium) as one:
        yield one


@pytest.fixture
def letter(system) -> Iterator[str]:
    """A dead letter with an evil id, which MongoDB would take by now."""
    events = system.database["events"]
    events.drop()
    events.insert_one({"_id": "taken", "mail": "taken@x"})
    events.create_index("mail", unique=True)
    system.http.put(f"/v1/events/{EVIL}", json={"mail": "taken@x", "n": 1, **system.fill}).raise_for_status()
    wait_until(lambda: system.status()["dead_letters"] == 1, "the dead letter")
    events.drop_index("mail_1")
    yield EVIL
    system.http.delete("/admin/dead-letters?all=true").raise_for_status()
