"""What clients see while MongoDB or Redis is away, and what is left of their writes when it is back.

`OUTAGE_S=20 pytest --log-cli-level=info tests/acceptance/test_outages.py` makes MongoDB's outages longer, and
shows what was measured.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from tests.acceptance.conftest import System, start
from tests.load import Reads, Writes
from tests.servers import freeze, resume
from tests.tiers import long
from tests.waiting import slowness, wait_until
from writebehind.history.outlook import WINDOW_S
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

log = logging.getLogger(__name__)

OUTAGE_S = float(os.environ.get("OUTAGE_S", "6"))
REDIS_OUTAGE_S = 3
#: Lines that all processes together log in a second of an outage, at most: one for each request that is refused,
#: of a hundred in a second, and a few for tasks.
MOST_LINES = 60
#: What is no wait for a server, even where tests share two cores with others.
SOON_S = 1.5
#: Lines that one process logs, at most, when a server ends and begins again.
MOST_LINES_OF_A_RESTART = 4
#: Fewer lines than these all processes together log when they start, and when a server ends and begins again.
MOST_LINES_OF_ALL = 15

#: Pending documents of a partition from which writes are refused: within the hour, as fast as documents come here.
CAP = 1_000
#: Documents are overdue that have waited for so long, seconds: the flush delay and what a flush needs; and the
#: second in which something was persisted last.
OVERDUE_S = 1 + 2 + 1
#: A document is due so long after its first write, seconds.
FLUSH_DELAY_S = 1
#: Seconds after which a worker that does nothing counts as silent.
SILENT_S = 15

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300 + OUTAGE_S)]


@dataclass(frozen=True)
class Servers:
    """Servers that nobody but the test stops and starts."""

    redis: EmbeddedRedis
    broker: EmbeddedRedis
    mongo: EmbeddedMongo


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    with (
        EmbeddedRedis(directory, appendfsync="always") as redis,
        EmbeddedRedis(directory / "broker") as broker,
        EmbeddedMongo(directory) as mongo,
    ):
        yield Servers(redis, broker, mongo)


@pytest.fixture(scope="module")
def system(servers, tmp_path_factory) -> Iterator[System]:
    """The system on these servers."""
    urls = {"REDIS_URL": servers.redis.url, "MONGODB_URL": servers.mongo.url, "BROKER_URL": servers.broker.url}
    cap = {"WRITEBEHIND_MAX_PENDING_PER_PARTITION": str(CAP)}
    with start(tmp_path_factory.mktemp("outages"), **urls, **cap) as stack, System(stack) as system:
        system.wait_for_workers()
        yield system


def logs(system: System) -> dict[str, list[str]]:
    """What each process has logged."""
    return {one.stem: one.read_text().splitlines() for one in (system.stack.data_dir / "log").glob("*.log")}


def for_seconds(seconds: float, what: str) -> None:
    """Let time pass while others do something."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= over, what, seconds + 1)


def lines(system: System) -> int:
    """How many lines all processes have logged."""
    return sum(one.read_bytes().count(b"\n") for one in (system.stack.data_dir / "log").glob("*.log"))


def test_each_process_says_in_a_line_that_it_is_at_work(system):
    """Nothing else is logged at the start, but for who reconciles, once that is due."""
    expected = {"web": "serves ", "worker": "consumes flush, refresh", "maintenance": "consumes maintenance"}
    expected |= {"beat": "issues ", "listen": "listens to changes of ", "flower": "watches redis"}
    expected |= {"exporter": "shows figures on "}
    if "preload" in system.stack.variant:  # which is another server
        del expected["web"]
    wait_until(lambda: logs(system).keys() >= expected.keys(), "all processes", 30)

    said = {name: [one for one in lines if "role=reconcile" not in one] for name, lines in logs(system).items()}
    assert dict.fromkeys(expected, 1) == {name: len(said[name]) for name in expected}, said
    assert {} == {name: said[name] for name, begin in expected.items() if f" INFO {begin}" not in said[name][0]}
    assert sum(map(len, logs(system).values())) < MOST_LINES_OF_ALL


@pytest.mark.parametrize("which", ["redis", "broker"])
def test_a_restart_is_told_in_few_lines(system, servers, which):
    """A server that ends and begins again costs each process a few lines, and no traceback."""
    before = logs(system)
    server, back = getattr(servers, which), f"back-{which}"
    server.kill()
    server.start()
    system.wait_until_ready()
    system.http.put(f"/v1/users/{back}", json={"n": 1}).raise_for_status()
    wait_until(lambda: system.stored(back), "the workers to be at work", 30)

    said = {name: lines[len(before.get(name, [])) :] for name, lines in logs(system).items()}
    assert {} == {name: lines for name, lines in said.items() if len(lines) > MOST_LINES_OF_A_RESTART}
    assert sum(map(len, said.values())) < MOST_LINES_OF_ALL, said
    assert "Traceback" not in str(said)
    assert "DeprecationWarning" not in str(said)


@pytest.mark.parametrize("which", ["redis", "broker"])
def test_hints_that_a_restart_loses_are_sent_again(system, servers, which):
    """By the worker that had taken them, while nobody sweeps: what they were for is persisted."""
    beat, server = system.stack.pids()["beat"], getattr(servers, which)
    system.wait_until_drained()
    os.kill(beat, signal.SIGSTOP)
    try:
        with Redis.from_url(servers.broker.url) as broker:

            def held() -> dict[str, int]:
                """Documents whose hints the worker has taken, and not followed yet; none if it was too fast."""
                written = system.put_all(f"lost-{which}-", 200)
                wait_until(lambda: not broker.llen("flush"), "the worker to take the hints")
                return written if system.status()["pending"] >= len(written) else {}

            written = wait_until(held, "hints that are not due when the worker has them", 30)
        server.kill()
        for_seconds(FLUSH_DELAY_S, "the hints to be due")
        server.start()
        system.wait_until_ready()
        system.wait_until_drained()
    finally:
        os.kill(beat, signal.SIGCONT)
    assert written == system.stored_versions(f"lost-{which}-")


@pytest.mark.parametrize("which", ["redis", *(pytest.param(one, marks=long) for one in ("broker", "mongo"))])
def test_a_server_hangs(system, servers, which):
    """Health is told meanwhile, and little is logged; soon after, MongoDB has all that was acknowledged."""
    prefix = f"hangs-{which}-"
    writes = Writes(system.stack.url, "users", [f"{prefix}{n}" for n in range(300)], fields=system.fill)
    health, server = Reads(system.stack.url, "/healthz", 0.1), getattr(servers, which)
    system.http.put("/v1/users/cached", json={"n": 0, **system.fill}).raise_for_status()
    system.wait_until_drained()
    pids, before = system.stack.pids(), lines(system)

    with writes, health:
        wait_until(lambda: writes.count > 50, "the writes to begin")
        freeze(server)
        try:
            for_seconds(OUTAGE_S, "the outage to end")
        finally:
            resume(server)
        logged = lines(system) - before
        so_far = writes.count
        wait_until(lambda: writes.count > so_far + 50, "writes to be taken", 20)
    back = time.monotonic()
    # A flusher that lost Redis in the midst of its work keeps its lease, 10 s; the next sweep follows within 5.
    found = looks(system, lambda one: not one["pending"], "everything to be in MongoDB")
    drained = time.monotonic()
    assert drained - back < 20 * slowness()
    too_soon = [
        one
        for one in found
        if is_known(one) and one["seconds_until_drained"] < drained - one["at"] - SOON_S * slowness()
    ]
    assert [] == too_soon

    log.info(
        "%s hangs for %g s: %d writes, %d refused, %d lines logged, persisted %.1f s after; health: max %.0f ms",
        *(which, OUTAGE_S, writes.count, len(writes.refused), logged, drained - back),
        1000 * max(health.seconds),
    )
    stored = system.stored(prefix)
    assert {} == {one: what for one, what in writes.acknowledged.items() if stored.get(one, (0, 0)) < what}
    assert {503} >= {answer.status_code for answer in writes.refused}
    assert (which == "redis") == bool(writes.refused)
    assert max(health.seconds) < SOON_S * slowness()
    assert logged < MOST_LINES * OUTAGE_S
    assert pids == system.stack.pids()
    assert 0 == system.status()["dead_letters"]


@pytest.mark.parametrize("how", ["hangs", pytest.param("is dead", marks=long)])
def test_mongodb_away(system, servers, how):
    """While MongoDB is away, writes are acknowledged and cached reads served at once; soon after, it has all."""
    prefix = f"away-{how.replace(' ', '-')}-"
    system.http.put("/v1/users/cached", json={"n": 0, **system.fill}).raise_for_status()
    system.wait_until_drained()
    writes = Writes(system.stack.url, "users", [f"{prefix}{n}" for n in range(400)], fields=system.fill)
    reads = Reads(system.stack.url, "/v1/users/cached")
    pids = system.stack.pids()

    with writes, reads:
        wait_until(lambda: writes.count > 50, "the writes to begin")
        if how == "hangs":
            freeze(servers.mongo)
        else:
            servers.mongo.kill()
        try:
            for_seconds(OUTAGE_S, "the outage to end")
            ready = system.http.get("/readyz")
        finally:
            resume(servers.mongo) if how == "hangs" else servers.mongo.start()
    back = time.monotonic()
    system.wait_until_drained(30)

    log.info(
        "MongoDB %s for %g s: %d writes, all persisted %.1f s after; cached reads: "
        "median %.1f ms, p99 %.1f ms, max %.1f ms",
        how,
        OUTAGE_S,
        writes.count,
        time.monotonic() - back,
        1000 * statistics.median(reads.seconds),
        1000 * statistics.quantiles(reads.seconds, n=100)[-1],
        1000 * max(reads.seconds),
    )
    assert [] == writes.refused
    assert writes.count > 10 * OUTAGE_S
    assert writes.acknowledged == system.stored(prefix)
    assert max(reads.seconds) < SOON_S * slowness()
    assert ready.status_code == 200
    assert ready.json()["mongodb"] != "ok"
    assert pids == system.stack.pids()
    assert 0 == system.status()["dead_letters"]


def test_redis_dies_and_comes_back(system, servers):
    """Nothing acknowledged is lost, reads bypass it meanwhile, writes are refused, and nothing needs a restart."""
    system.wait_until_drained()
    pids = system.stack.pids()
    writes = Writes(system.stack.url, "users", [f"redis-{n}" for n in range(300)], fields=system.fill)

    with writes:
        wait_until(lambda: writes.count > 100, "the writes to begin")
        servers.redis.kill()
        try:
            wait_until(lambda: system.http.get("/readyz").status_code == 503, "the API not to be ready", 5)
            for_seconds(REDIS_OUTAGE_S, "the outage to end")
            assert 503 == system.http.get("/readyz").status_code
            bypassed = system.http.get("/v1/users/redis-0")
            assert "fwd=bypass" in bypassed.headers["Cache-Status"]
        finally:
            servers.redis.start()
        system.wait_until_ready(10)
        so_far = writes.count
        wait_until(lambda: writes.count > so_far + 100, "writes to be taken again", 20)
    back = time.monotonic()
    system.wait_until_drained(30)

    log.info(
        "Redis dead for %g s: %d writes, %d refused, all persisted %.1f s after",
        REDIS_OUTAGE_S,
        writes.count,
        len(writes.refused),
        time.monotonic() - back,
    )
    stored = system.stored("redis-")
    # A write that was refused may have happened all the same, after the last one that was acknowledged.
    lost = {one: what for one, what in writes.acknowledged.items() if stored.get(one, (0, 0)) < what}
    assert {} == lost
    assert {503} == {answer.status_code for answer in writes.refused}
    assert {"1"} == {answer.headers["Retry-After"] for answer in writes.refused}
    assert pids == system.stack.pids()
    system.wait_for_workers(30)


def new_documents(system: System, prefix: str) -> Writes:
    """A client that writes a new document each time."""
    return Writes(system.stack.url, "users", [f"{prefix}{n}" for n in range(100_000)], fields=system.fill)


def looks(system: System, until: Callable[[dict[str, Any]], bool], what: str) -> list[dict[str, Any]]:
    """Statuses, one after the other, up to the first of which something is true."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        status = system.http.get("/admin/status?partitions=true").raise_for_status().json()
        found.append(status | {"at": time.monotonic()})
        return until(found[-1])

    wait_until(look, what, 60)
    for one in found:
        assert one["pending"] or one["seconds_until_drained"] == 0, one
        assert one["pending"] == 0 or one["seconds_until_drained"] != 0, one
    return found


def is_known(status: dict[str, Any]) -> bool:
    return status["seconds_until_drained"] is not None


@long
def test_nobody_knows_when_a_frozen_worker_goes_on(system):
    """Not from when documents are overdue, long before the worker counts as silent; until it has gone on."""
    worker = system.stack.pids()["worker"]
    with new_documents(system, "frozen"):
        looks(
            system, lambda one: one["pending"] > 0 and one["flushed_per_second"] > 0, "documents to be persisted"
        )
        os.killpg(worker, signal.SIGSTOP)
        try:
            for_seconds(OVERDUE_S, "what was persisted before to be long ago")
            frozen = looks(
                system, lambda one: one["oldest_pending_seconds"] > SILENT_S + OVERDUE_S, "more to wait"
            )
        finally:
            os.killpg(worker, signal.SIGCONT)
        wait_until(lambda: is_known(system.status()), "what is foretold to be known again", 30)
    system.wait_until_drained()

    overdue = [one for one in frozen if one["oldest_pending_seconds"] > OVERDUE_S]
    assert [] == [one for one in overdue if is_known(one)]
    because = [one["not_safe_because"] for one in overdue]
    # On its machine everybody sees that it is stopped.
    assert {"no worker is at work on what is pending"} == {*because}


@long
def test_what_is_foretold_of_an_outage_is_by_what_happens_since(system, servers):
    """When a cap is met, though nothing grew before; and, once MongoDB is back, when it has all."""
    with new_documents(system, "foretold"):
        looks(
            system, lambda one: one["pending"] > 0 and one["flushed_per_second"] > 0, "documents to be persisted"
        )
        for_seconds(WINDOW_S / 2, "a time in which nothing grows")
        servers.mongo.kill()
        try:
            first = looks(system, lambda one: one["breaker"] == "open", "the breaker to open")[-1]
            for_seconds(OVERDUE_S, "what waits to grow")
            last = looks(system, lambda one: one["seconds_until_cap"] is not None, "the cap to be foretold")[-1]
        finally:
            servers.mongo.start()
        back = looks(
            system, lambda one: one["totals"]["persisted"] > last["totals"]["persisted"], "MongoDB to be back"
        )
        began = time.monotonic()
        looks(system, is_known, "what is foretold to be known again")
        known_s = time.monotonic() - began
    system.wait_until_drained()

    assert not is_known(first)
    assert not is_known(last)
    fullest = max(one["pending"] for one in last["by_partition"])
    growth = (last["pending"] - first["pending"]) / (
        last["oldest_pending_seconds"] - first["oldest_pending_seconds"]
    )
    until_s = (CAP - fullest) / (growth * fullest / last["pending"])
    log.info("the cap is foretold in %.0f s, and met in %.0f s", last["seconds_until_cap"], until_s)
    assert until_s / 3 < last["seconds_until_cap"] < 3 * until_s
    assert "pending" == last["cap"]
    assert known_s < 5 * slowness(), back[-1]
