"""The whole system under load, while 16 partitions become 64."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.clients import Stopping, beside, stopping
from tests.acceptance.conftest import SETTINGS, System, start
from tests.conftest import TOPOLOGY
from tests.tiers import long
from tests.waiting import slowness, wait_until
from writebehind.redis.keys import partition_keys

pytestmark = [
    pytest.mark.acceptance,
    long,  # tests/integration/topology/growth has each step of it
    pytest.mark.skipif(TOPOLOGY == "servers", reason="on servers with names the number changes offline only"),
]

BEFORE, AFTER = "16", "64"
#: Documents that are there before, so that there is something to copy.
DOCUMENTS_BEFORE = 3_000
DOCUMENTS, CLIENTS = 40, 4
#: Between two writes of a client, seconds: where clients leave no CPU to the mover, most of them meet no move.
PAUSE_S = 0.01
#: The mover is killed so often, after up to so many seconds of work.
KILLS, WORKS_S = 3, 1.5


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    """The system with two web processes and both workers."""
    without = frozenset({"flower", "exporter"})
    env = {**SETTINGS, "WRITEBEHIND_PARTITIONS": BEFORE}
    with start(tmp_path_factory.mktemp("system"), without=without, **env) as stack, System(stack) as system:
        system.wait_for_workers()
        yield system


class Load(Stopping):
    """Clients that write and read documents of their own, and note what went wrong."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system
        self.written: dict[str, int] = {}
        self.failed: list[str] = []
        self.longest_s = 0.0
        self.count = 0

    def client(self, number: int) -> None:
        """Write a document, read it in each way that there is, and go on to the next."""
        n = 0
        while not self.stop.wait(PAUSE_S):
            n += 1
            id_ = f"load{number}-{n % DOCUMENTS}"
            document = {"n": n, "name": f"name{number}-{n}", "city": f"city{number}", "rank": n}
            began = time.monotonic()
            answer = self.system.http.put(f"/v1/people/{id_}", json=document)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            if not answer.is_success:
                self.failed.append(f"PUT {answer.status_code} {answer.text}")
                continue
            self.written[id_] = answer.json()["version"]
            self.see(f"/v1/people/{id_}", n)
            self.see(f"/v1/people?name={document['name']}", n)
            self.count += 1

    def see(self, url: str, n: int) -> None:
        """Read a document."""
        answer = self.system.http.get(url)
        if not answer.is_success or answer.json()["n"] != n or "fwd=bypass" in str(answer.headers):
            self.failed.append(f"GET {url} {answer.status_code} {answer.text} {answer.headers}, not {n}")

    def reader(self) -> None:
        """Read many documents at once, as they were before."""
        while not self.stop.wait(PAUSE_S):
            ids = [f"before{random.randrange(DOCUMENTS_BEFORE)}" for _ in range(50)]
            answer = self.system.http.post("/v1/slow:get", json={"ids": ids})
            if not answer.is_success or answer.json()["documents"].keys() != set(ids):
                self.failed.append(f"POST {answer.status_code} {answer.text[:500]}")


def repartition(system: System) -> subprocess.Popen[str]:
    """Start the command beside the system."""
    servers = {**system.servers, "WRITEBEHIND_PARTITIONS": BEFORE}
    return beside(servers, "repartition", "--online", AFTER, "--json")


def divided(system: System) -> int:
    """The number of partitions that are divided."""
    with system.redis() as wire:
        marks = wire.calls([("GET", partition_keys(at).divided) for at in range(int(BEFORE))])
    return marks.count(AFTER.encode())


def test_sixteen_partitions_become_sixty_four_under_load(system):
    """No read fails, no write is refused or waits for 2 s, nothing is lost; also when the mover is killed."""
    system.put_all("before", DOCUMENTS_BEFORE, "slow")
    load = Load(system)
    with ThreadPoolExecutor(CLIENTS + 1) as threads, stopping(load):
        clients = [threads.submit(load.client, one) for one in range(CLIENTS)]
        clients.append(threads.submit(load.reader))
        wait_until(lambda: load.count > 50, "a load")
        for _ in range(KILLS):
            killed, before = repartition(system), divided(system)
            wait_until(lambda: killed.poll() is not None or divided(system) > before, "a division", 60)  # noqa: B023
            time.sleep(random.uniform(0, WORKS_S))
            killed.kill()
            killed.communicate()
        told, said = repartition(system).communicate(timeout=120)
        assert told, said
        came = json.loads(told)
        seen = load.count
        wait_until(lambda: load.count > seen + 50, "a load after it")
        load.stop.set()
        for one in clients:
            one.result()
    system.wait_until_drained(60)

    assert ([], True) == (load.failed[:5], load.longest_s < 2 * slowness()), load.longest_s
    assert AFTER == str(came["after"]) == str(system.status()["partitions"])
    assert load.written == system.stored_versions("load", "people")
    assert DOCUMENTS_BEFORE == len(system.stored("before", "slow"))
