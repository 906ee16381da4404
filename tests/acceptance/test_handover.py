"""Flushers that end, and flushers that come back when nobody expects them any more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import System, start
from tests.acceptance.topology import redis_servers
from tests.acceptance.variants import VARIANT
from tests.proxy import Proxy
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo
from writebehind.local.procfile import default_procfile

pytestmark = [pytest.mark.acceptance, long]

LEASE_MS = 2_500
#: Long enough for 5,000 documents to be written and a worker to be ended before any of them is due.
DELAY_MS = 15_000 if "large" in VARIANT else 4_000
PADDING = 2_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[dict[str, str]]:
    with redis_servers(tmp_path_factory.mktemp("handover-redis")) as env:
        yield env


@pytest.fixture(scope="module")
def mongo(tmp_path_factory) -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo(tmp_path_factory.mktemp("handover")) as server:
        yield server


@pytest.fixture(scope="module")
def way(mongo) -> Iterator[Proxy]:
    """The way of the first worker to MongoDB."""
    with Proxy(mongo.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def system(redis, mongo, way, tmp_path_factory) -> Iterator[System]:
    """A system with two workers; the first has a way to MongoDB of its own."""
    directory = tmp_path_factory.mktemp("two-workers")
    lines = [line for line in default_procfile().read_text().splitlines() if not line.startswith("flower")]
    worker = next(line for line in lines if line.startswith("worker:")).removeprefix("worker: exec ")
    own = f"MONGODB_URL='mongodb://127.0.0.1:{way.port}/?directConnection=true'"
    lines += [f"other: exec {worker}"]
    lines = [f"worker: {own} exec {worker}" if line.startswith("worker:") else line for line in lines]
    procfile = directory / "Procfile"
    procfile.write_text("\n".join(lines))
    env = {
        **redis,
        "MONGODB_URL": mongo.url,
        "WRITEBEHIND_LEASE_MS": str(LEASE_MS),
        "WRITEBEHIND_MONGODB_TIMEOUT_MS": "1500",
        "WRITEBEHIND_SWEEP_INTERVAL": "1",
        "WRITEBEHIND_OVERDUE_MS": "1000",
        "WRITEBEHIND_COLLECTIONS__slow__flush_delay_ms": str(DELAY_MS),
    }
    stack = start(directory, procfile=procfile, **env)
    with stack, System(stack) as system:
        wait_until(lambda: system.status()["workers"] == 3, "all workers", 60)
        yield system


def test_a_worker_that_ends_hands_over(system):
    """SIGTERM to one of two workers with 5,000 documents pending: the other persists them when due."""
    began = time.monotonic()
    written: dict[str, int] = {}
    for part in range(5):
        written |= system.put_all(f"end{part}-", 1000, "slow")
    assert 5000 == system.status()["pending"]

    os.kill(system.stack.pids()["worker"], signal.SIGTERM)
    wait_until(lambda: system.status()["workers"] == 2, "the worker to have taken its leave", 5)

    due = began + DELAY_MS / 1000
    first = wait_until(lambda: len(system.stored_versions("end", "slow")) and time.monotonic(), "the first", 20)
    assert first - due < 2 + 1  # flush tasks are planned by the second
    system.wait_until_drained(30)
    assert written == system.stored_versions("end", "slow")


def test_a_flusher_that_was_frozen(system, way):
    """What a flusher sends after its lease neither overwrites what is newer nor brings back what was deleted."""
    wait_until(lambda: system.status()["workers"] == 3, "all workers", 60)
    ids = [f"zombie{n}" for n in range(64)]
    pages = system.database["pages"]
    for _ in range(3):  # so that the first worker has connections: it could open none later
        system.put_all("zombie", 64, "pages")
        system.wait_until_drained(40)
    way.hang()

    def is_on_its_way() -> bool:
        system.put_all("zombie", 64, "pages", padding="x" * PADDING)
        return max(way.held, default=0) > PADDING  # more than the driver says of its own accord

    wait_until(is_on_its_way, "a bulk write of the first worker to be on its way", 30)
    worker = system.stack.pids()["worker"]
    os.killpg(worker, signal.SIGSTOP)
    try:
        newest = system.put_all("zombie", 64, "pages")
        system.wait_until_drained(40)
        deleted = ids[::2]
        for one in deleted:
            system.http.delete(f"/v1/pages/{one}").raise_for_status()
        system.wait_until_drained(40)
        expected = {one: newest[one] for one in ids if one not in deleted}
        assert expected == system.stored_versions("zombie", "pages")
    finally:
        way.flow()  # what was held arrives now
        os.killpg(worker, signal.SIGCONT)

    three_leases = 3 * LEASE_MS / 1000
    over = time.monotonic() + three_leases + 3
    wait_until(lambda: time.monotonic() > over, "the frozen flusher to have had its say", three_leases + 10)
    assert expected == system.stored_versions("zombie", "pages")
    assert 0 == system.status()["dead_letters"]
    assert {404} == {system.http.get(f"/v1/pages/{one}").status_code for one in deleted}
    assert pages.count_documents({"_id": {"$in": deleted}}) == 0
