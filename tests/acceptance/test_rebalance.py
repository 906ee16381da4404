"""The whole system on servers with names, which become more under load."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.acceptance.clients import Stopping, beside, stopping
from tests.acceptance.conftest import System, start
from tests.tiers import long
from tests.topologies import NamedServers
from tests.waiting import FIRST_STEP_S, slowness, wait_until
from writebehind import Pipeline, load_settings
from writebehind.local.embedded import EmbeddedMongo
from writebehind.redis.topology.record import ServerRecord

pytestmark = [pytest.mark.acceptance, long]

PARTITIONS = "32"
#: Documents that are there before, so that there is something to copy.
BEFORE = 3_000
DOCUMENTS = 40
#: How often a mover is killed, until one dies on its way.
TRIES = 5
#: Between two writes of a client, seconds: where clients leave no CPU to the mover, most of them meet no move.
PAUSE_S = 0.01


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[NamedServers]:
    with NamedServers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.fixture(scope="module")
def system(servers, tmp_path_factory) -> Iterator[System]:
    """The system on two servers, which knows of a third."""
    with EmbeddedMongo(tmp_path_factory.mktemp("mongo")) as mongo:
        env = {
            "MONGODB_URL": mongo.url,
            "WRITEBEHIND_PARTITIONS": PARTITIONS,
            "WRITEBEHIND_COLLECTIONS__users__flush_delay_ms": "100",
        }
        of_two = load_settings(
            redis_url=servers.url_of("a", "b"), mongodb_url=mongo.url, partitions=int(PARTITIONS)
        )
        with Pipeline(of_two) as pipeline:
            pipeline.store.check()
        without = frozenset({"flower", "exporter"})
        with (
            start(tmp_path_factory.mktemp("system"), without=without, REDIS_URL=servers.url, **env) as stack,
            System(stack) as system,
        ):
            system.wait_for_workers()
            yield system


class Load(Stopping):
    """Clients that write and read documents of their own, one after the other, and note what went wrong."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system
        self.written: dict[str, int] = {}
        self.failed: list[str] = []
        self.longest_s = 0.0
        self.count = 0

    def client(self, number: int) -> None:
        """Write a document, read it, and go on to the next."""
        n = 0
        while not self.stop.wait(PAUSE_S):
            n += 1
            url = f"/v1/users/load{number}-{n % DOCUMENTS}"
            began = time.monotonic()
            answer = self.system.http.put(url, json={"n": n})
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            if not answer.is_success:
                self.failed.append(f"PUT {answer.status_code} {answer.text}")
                continue
            self.written[url.rpartition("/")[2]] = answer.json()["version"]
            answer = self.system.http.get(url)
            if not answer.is_success or answer.json()["n"] != n or "fwd=bypass" in str(answer.headers):
                self.failed.append(f"GET {answer.status_code} {answer.text} {answer.headers}, not {n}")
            self.count += 1


def rebalance(system: System, *arguments: str) -> subprocess.Popen[str]:
    """Start the command beside the system."""
    servers = {"REDIS_URL": system.stack.redis_url, "MONGODB_URL": system.stack.mongodb_url}
    return beside(servers | {"WRITEBEHIND_PARTITIONS": PARTITIONS}, "rebalance", "--json", *arguments)


def told_by(mover: subprocess.Popen[str]) -> Any:
    """What the command prints when it is through."""
    told, said = mover.communicate(timeout=60)
    assert told, said
    return json.loads(told)


def places_of(servers: NamedServers, name: str) -> set[str]:
    """What has moved to a server, as its own record says."""
    record = ServerRecord.parse(servers.ask(name, "HGETALL", "wb:server"))
    return set(record.here) if record else set()


def came_although_killed(system: System, servers: NamedServers) -> Any:
    """Let the third server come, kill who moves partitions there, and return what the next one still had to move.

    A mover that is through before it dies proves nothing: what came goes back then, for another try.
    """
    for _ in range(TRIES):
        killed = rebalance(system)
        wait_until(lambda: places_of(servers, "c"), "the first move", longest_step=FIRST_STEP_S)
        killed.kill()
        killed.communicate()
        if (came := told_by(rebalance(system)))["moved"]:
            return came
        told_by(rebalance(system, "--without", "c"))
    return pytest.fail(f"in {TRIES} tries no mover died before it was through")


def test_a_server_comes_and_goes_under_load(system, servers):
    """No read fails, no write is refused or waits for 2 s, nothing is lost; also when the mover is killed."""
    system.put_all("before", BEFORE)
    load = Load(system)
    with ThreadPoolExecutor(3) as threads, stopping(load):
        clients = [threads.submit(load.client, one) for one in range(3)]
        wait_until(lambda: load.count > 50, "a load")
        came = came_although_killed(system, servers)
        went = told_by(rebalance(system, "--without", "b"))
        load.stop.set()
        for one in clients:
            one.result()
    system.wait_until_drained(60)

    assert ([], True) == (load.failed, load.longest_s < 2 * slowness()), load.longest_s
    assert {"c"} == {one["target"] for one in came["moved"]}
    assert {"b"} == {one["source"] for one in went["moved"]}
    assert load.written == system.stored_versions("load")
    assert BEFORE == len(system.stored("before"))
    assert not [key for key in servers.ask("b", "KEYS", "wb:*") if key != b"wb:server"]
