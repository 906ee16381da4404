"""HTTP in, MongoDB out: the whole system, and what it does when parts of it die."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.acceptance.conftest import System, start
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

OUTAGE_S = 8


def put_all(system: System, prefix: str, count: int, **fields: object) -> dict[str, int]:
    """Write documents in one bulk; their versions by id."""
    items = [{"op": "put", "id": f"{prefix}{n}", "doc": {"n": n, **fields}} for n in range(count)]
    results = system.http.post("/v1/users:bulk", json=items).json()["results"]
    assert {200, 201} >= {one["status"] for one in results}
    return {one["id"]: one["version"] for one in results}


def versions_in_mongodb(system: System, prefix: str) -> dict[str, int]:
    found = system.database.users.find({"_id": {"$regex": f"^{prefix}"}}, {"_v": 1})
    return {one["_id"]: one["_v"] for one in found}


def in_threads(calls: int, call: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(calls) as threads:
        list(threads.map(call, range(calls)))


def test_a_write_is_read_at_once_and_persisted_soon(system):
    """What was acknowledged is the next answer, and two seconds later MongoDB has it."""
    answer = system.http.put("/v1/users/ada", json={"name": "Ada"})

    assert answer.status_code in {200, 201}
    assert {"_id": "ada", "name": "Ada"} == system.http.get("/v1/users/ada").json()
    expected = {"_id": "ada", "name": "Ada", "_v": answer.json()["version"]}
    assert wait_until(lambda: system.database.users.find_one({"_id": "ada"}) == expected, "the document", 2)


def test_many_writes_are_coalesced(system):
    """20,000 writes over 2,000 ids end as their last versions, with less than half as many operations."""
    system.wait_until_drained()
    before = system.status()["totals"].get("operations", 0)
    last: dict[str, tuple[int, int]] = {}
    lock = threading.Lock()
    dice = random.Random(7)

    def send(numbers: list[int]) -> None:
        items = [{"op": "put", "id": f"many{n % 2000}", "doc": {"n": n}} for n in numbers]
        with system.client() as client:
            results = client.post("/v1/users:bulk", json=items).json()["results"]
        with lock:
            for number, one in zip(numbers, results, strict=True):
                last[one["id"]] = max(last.get(one["id"], (0, 0)), (one["version"], number))

    numbers = list(range(20_000))
    dice.shuffle(numbers)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, [numbers[at : at + 1000] for at in range(0, 20_000, 1000)]))
    system.wait_until_drained(60)

    found = system.database.users.find({"_id": {"$regex": "^many"}})
    assert {one["_id"]: (one["_v"], one["n"]) for one in found} == last
    assert len(last) == 2000
    assert system.status()["totals"]["operations"] - before < 10_000


def test_no_increment_is_lost_or_counted_twice(system):
    """50 callers that add 1 forty times each end at exactly 2,000."""

    def caller(_: int) -> None:
        with system.client() as client:
            for _ in range(40):
                client.post("/v1/pages/home:increment", json={"views": 1}).raise_for_status()

    in_threads(50, caller)

    assert 2000 == system.http.get("/v1/pages/home").json()["views"]
    system.wait_until_drained()
    assert 2000 == system.database.pages.find_one({"_id": "home"})["views"]


def test_a_cold_document_is_loaded_once(system):
    """200 readers of a document that is not cached, in two web processes, cost MongoDB one query."""
    system.wait_until_drained()
    system.database.users.insert_one({"_id": "cold", "name": "Cold"})

    def queries() -> int:
        return system.mongo.admin.command("serverStatus")["opcounters"]["query"]

    before = queries()
    statuses: list[int] = []

    def reader(_: int) -> None:
        with system.client() as client:
            statuses.append(client.get("/v1/users/cold").status_code)

    in_threads(200, reader)

    assert [200] * 200 == statuses
    assert 1 == queries() - before


@pytest.mark.parametrize("name", ["worker", "maintenance", "beat"])
def test_a_killed_process_loses_nothing(system, name):
    """Whichever process dies while 2,000 documents are pending, all of them are in MongoDB within 30 s."""
    written = put_all(system, f"kill-{name}-", 2000)
    victim = system.stack.pids()[name]

    os.kill(victim, signal.SIGKILL)

    system.wait_until_drained(30)
    assert written == versions_in_mongodb(system, f"kill-{name}-")
    wait_until(lambda: system.stack.pids()[name] != victim, f"another {name}", 30)
    wait_until(lambda: system.status()["workers"] == 2, "both workers", 30)


def test_a_killed_web_process_loses_nothing(system):
    """What was acknowledged before the web server died is persisted, and another one answers soon."""
    written = put_all(system, "web-", 500)

    os.kill(system.stack.pids()["web"], signal.SIGKILL)

    wait_until(lambda: system.http.get("/readyz").status_code == 200, "another web process", 30)
    system.wait_until_drained(30)
    assert written == versions_in_mongodb(system, "web-")


def test_mongodb_away(system):
    """While MongoDB hangs every write is acknowledged and cached reads are served; afterwards nothing is lost."""
    system.http.put("/v1/users/cached", json={"name": "Cached"})
    system.wait_until_drained()
    mongodb = system.stack.pids()["mongodb"]
    written: dict[str, int] = {}
    slowest = 0.0
    os.kill(mongodb, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + OUTAGE_S
        while time.monotonic() < deadline:
            answer = system.http.put(f"/v1/users/away{len(written) % 500}", json={"n": len(written)})
            written[answer.raise_for_status().json()["id"]] = answer.json()["version"]
            start_s = time.monotonic()
            assert "Cached" == system.http.get("/v1/users/cached").json()["name"]
            slowest = max(slowest, time.monotonic() - start_s)
        assert system.status()["pending"] > 0
    finally:
        os.kill(mongodb, signal.SIGCONT)

    system.wait_until_drained(30)
    assert written == versions_in_mongodb(system, "away")
    assert slowest < 2, "a cached read waited for MongoDB"


def test_redis_restarts(system):
    """A Redis that is killed and comes back has everything that its file had; the workers go on by themselves."""
    put_all(system, "restart-", 300)
    system.wait_until_drained()
    victim = system.stack.pids()["redis"]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: system.stack.pids()["redis"] != victim, "another Redis", 30)
    wait_until(lambda: system.http.get("/readyz").status_code == 200, "the API to be ready", 30)
    written = wait_until(lambda: put_all(system, "restarted-", 300), "a bulk write", 30)
    system.wait_until_drained(30)
    assert written == versions_in_mongodb(system, "restarted-")


def test_the_hot_path(system):
    """A write is one command to Redis, a cached read is two in one round trip, and MongoDB is not asked."""
    wire = pytest.importorskip("redis").Redis.from_url(system.stack.redis_url)
    system.wait_until_drained()
    for n in range(30):  # both web processes have loaded the script
        system.http.put(f"/v1/events/warm{n}", json={})
    system.wait_until_drained()

    def by_clients() -> dict[str, int]:
        commands = wire.info("commandstats")
        return {
            name: commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("getrange", "get", "pttl")
        }

    before, queries = by_clients(), system.mongo.admin.command("serverStatus")["opcounters"]["query"]
    for _ in range(100):
        system.http.get("/v1/events/warm1").raise_for_status()
    after = by_clients()

    assert 100 == after["pttl"] - before["pttl"]
    assert queries == system.mongo.admin.command("serverStatus")["opcounters"]["query"]
    wire.close()


def test_stop_and_start(tmp_path):
    """SIGTERM leaves no process behind, and what was pending is persisted after the next start."""
    with start(tmp_path, WRITEBEHIND_DEFAULTS='{"flush_delay_ms": 4000}') as stack, System(stack) as system:
        written = put_all(system, "stop-", 200)
        assert 200 == system.status()["pending"]
        processes = [psutil.Process(pid) for pid in (stack.pid, *stack.pids().values())]
        processes += [child for process in processes for child in process.children(recursive=True)]
        assert stack.stop() == 0

    assert [] == [process for process in processes if process.is_running()]
    with start(tmp_path) as stack, System(stack) as system:
        system.wait_until_drained(40)
        assert written == versions_in_mongodb(system, "stop-")
