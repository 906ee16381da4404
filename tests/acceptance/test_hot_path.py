"""What reads and writes cost: counted between real web processes and real servers, in the servers' protocols."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT, System, in_threads
from tests.acceptance.taps import MongoTap, RedisTap
from tests.acceptance.variants import own_server, web_command
from tests.proxy import rerouted
from tests.tiers import long
from tests.tls import TlsFront
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

pytestmark = pytest.mark.acceptance

WEB_PROCESSES, WEB_THREADS = 4, 8
#: How many readers want the same at once: many times as many as there are threads.
READERS, MANY_READERS = 200, 1_000


@dataclass(frozen=True)
class Tapped:
    """Web processes of their own on the servers of a system, and what they ask these servers."""

    http: httpx.Client
    redis: RedisTap
    mongo: MongoTap
    #: Of an entry: threads of the service read no more of it than one may, those of gunicorn all of it.
    read: tuple[str, str]

    @property
    def trips(self) -> Counter[tuple[str, ...]]:
        """The round trips to Redis that requests made, without what a process does once a second, or once.

        That is a sample of vital signs and of what is pending, the API keys, and the counts of what was read, on a
        connection that may be new; a look at what all processes share; and a script that the server does not know
        yet.
        """
        once = {"TIME", "INFO", "SMEMBERS", "HEAT", "HINCRBY", "CLIENT", "SCRIPT", "HGETALL", "GET"}
        once |= {"ZRANDMEMBER", "STRLEN", "AUTH", "SHARED"}
        return Counter(trip for trip in self.redis.trips if trip == self.read or not once.intersection(trip))

    def forget(self) -> None:
        """Begin to count."""
        self.redis.trips.clear()
        self.mongo.commands.clear()


def starts(redis: RedisTap) -> int:
    return sum("RECORD" in trip for trip in redis.trips)


@pytest.fixture(scope="module")
def tapped(system, authority) -> Iterator[Tapped]:
    def port_of(url: str) -> int:
        return urlsplit(url).port

    port = free_port()
    with (
        RedisTap(port_of(system.stack.redis_url)) as to_redis,
        MongoTap(port_of(system.stack.mongodb_url)) as to_mongo,
        TlsFront(authority.server_context(), to_redis.port) as front,
    ):
        redis_url = rerouted(system.stack.redis_url, to_redis.port)
        if "tls" in system.stack.variant:
            redis_url = authority.redis_url(front.port, system.stack.redis_url)
        env = {
            **os.environ,
            **CONFIG,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "REDIS_URL": redis_url,
            "MONGODB_URL": rerouted(system.stack.mongodb_url, to_mongo.port),
            "BROKER_URL": system.stack.redis_url,  # so that the tap hears the pipeline only, not Celery
            "WRITEBEHIND_PORT": str(port),
            "WRITEBEHIND_WEB_WORKERS": str(WEB_PROCESSES),
            "WRITEBEHIND_WEB_THREADS": str(WEB_THREADS),
            # An absence stays known for the whole test: on many open connections gunicorn's threads leave some
            # requests until `--keep-alive` is over, a minute.
            "WRITEBEHIND_COLLECTIONS__users__negative_ttl": "600",
        }
        command = bound_to_parent(web_command(system.stack.variant))
        server = Group(subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True))
        url = f"http://127.0.0.1:{port}"
        try:
            # As long as the test may take: all readers share one process, which is also the way to the servers.
            with httpx.Client(base_url=url, timeout=100, trust_env=False, limits=LIMITS) as http:
                wait_until(lambda: http.get("/readyz").status_code == 200, "a web process", 60)
                # Each looks whose Redis it is when it starts, and the last ones may still be at it;
                # where the application is loaded before the server forks, that is done once.
                expected = 1 if "preload" in system.stack.variant else WEB_PROCESSES
                wait_until(lambda: starts(to_redis) >= expected, "all of them", 60)
                http.get("/v1/users/nobody-knows")
                assert [("find", "users")] == [one for one in to_mongo.commands if one[0] != "ping"]  # it hears
                bounded = "preload" not in system.stack.variant
                yield Tapped(http, to_redis, to_mongo, ("GETRANGE" if bounded else "GET", "PTTL"))
        finally:
            end([server])


def test_a_write_is_one_command(system, tapped):
    """100 writes are 100 commands to Redis, each a round trip of its own, and none to MongoDB."""
    tapped.http.put("/v1/pages/hot", json={"n": -1, **system.fill}).raise_for_status()
    tapped.forget()  # the script is known from here on

    for n in range(100):
        tapped.http.put("/v1/pages/hot", json={"n": n, **system.fill}).raise_for_status()

    assert {("EVALSHA",): 100} == tapped.trips
    assert [] == tapped.mongo.commands


@pytest.mark.parametrize("drained", [False, True], ids=["pending", "persisted"])
def test_a_cached_read_is_one_round_trip(system, tapped, drained):
    """100 reads of a document in Redis are 100 round trips of two commands, and none to MongoDB."""
    tapped.http.put("/v1/users/warm", json={"n": 1, **system.fill}).raise_for_status()
    if drained:
        system.wait_until_drained()
    tapped.forget()

    for _ in range(100):
        assert tapped.http.get("/v1/users/warm").headers["Cache-Status"].startswith("writebehind; hit")

    assert {tapped.read: 100} == tapped.trips
    assert [] == tapped.mongo.commands


def status_for(url: httpx.URL, path: str) -> int:
    """The status of the answer to a GET on a connection of its own, sent again as HTTP clients do it.

    A pool of httpx looks through all connections for each request: with 1,000 of them readers would take ten times
    as long as whom they ask.
    """
    while True:
        with closing(HTTPConnection(url.host, url.port, timeout=100)) as connection:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
            except RemoteDisconnected:  # one of 1,000 threads may be late with the head of its request
                continue
        if answer.status != 503:
            return answer.status
        time.sleep(float(answer.headers["Retry-After"]))  # MongoDB takes longer than threads wait for it


# Processes of gunicorn take connections as it happens: 200 do not keep all of their threads waiting.
@pytest.mark.parametrize(
    "readers", [pytest.param(READERS, marks=own_server), pytest.param(MANY_READERS, marks=long)]
)
@pytest.mark.parametrize(("found", "status"), [(True, 200), (False, 404)])
def test_a_cold_document_is_loaded_once(system: System, tapped, found, status, readers):
    """All readers of what is not cached, in 4 web processes, cost MongoDB one query, also if it has nothing."""
    one = f"{'cold' if found else 'nobody'}{readers}"
    if found:
        # The listener takes a load that began before it has heard of this for an old one.
        events = system.status()["listener"]["events"]
        new = {"_id": one, "name": "Cold", **system.fill}
        system.database.users.replace_one({"_id": one}, new, upsert=True)  # the driver may try twice
        wait_until(lambda: system.status()["listener"]["events"] > events, "the listener to have seen it", 20)
    tapped.forget()
    statuses: list[int] = []

    def everybody_waits() -> bool:
        return len(tapped.mongo.commands) >= 1 and looks() >= WEB_PROCESSES * WEB_THREADS

    def looks() -> int:
        return tapped.trips[tapped.read]

    def read(_: int) -> None:
        statuses.append(status_for(tapped.http.base_url, f"/v1/users/{one}"))  # a sum could lose some of others

    def look_on(_: int) -> None:
        # The load is held up until every thread of both processes has found nothing in Redis.
        try:
            wait_until(everybody_waits, f"{WEB_PROCESSES * WEB_THREADS} readers to wait for one load", 4)
        finally:
            tapped.mongo.queries_pass.set()

    tapped.mongo.queries_pass.clear()
    in_threads(readers + 1, lambda n: read(n) if n else look_on(n))

    assert {status: readers} == Counter(statuses)
    assert [("find", "users")] == [one for one in tapped.mongo.commands if one[0] != "ping"]  # a look-out's
