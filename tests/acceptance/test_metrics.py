"""The page for Prometheus equals what was done, whatever was killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import SETTINGS, System, start
from tests.acceptance.topology import servers
from tests.acceptance.variants import own_server
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.procfile import default_procfile
from writebehind.settings.running import STATE_FILE

pytestmark = pytest.mark.acceptance

DOCUMENT = "/v1/{collection}/{id}"
USERS = {"collection": "users"}
#: Of each round; the last ones have a condition that does not hold.
PUTS, HOT_READS, COLD_READS, INCREMENTS, STALE_PUTS = 60, 200, 30, 40, 10
#: While MongoDB is away: of documents that Redis does not have.
FAILED_READS, FAILED_CHANGES = 20, 15


class Page:
    """The figures of a system at a moment, by its exporter."""

    def __init__(self, system: System) -> None:
        url = json.loads((system.stack.data_dir / STATE_FILE).read_text("utf-8"))["metrics"]
        answer = httpx.get(url, trust_env=False, timeout=10).raise_for_status()
        families = text_string_to_metric_families(answer.text)
        self._samples = [one for each in families for one in each.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all series of this name with these labels."""
        return sum(one.value for one in self._samples if one.name == name and labels.items() <= one.labels.items())


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    """Two web processes and two workers that flush."""
    directory = tmp_path_factory.mktemp("metrics")
    procfile = directory / "Procfile"
    lines = default_procfile().read_text("utf-8").splitlines()
    (worker,) = (line for line in lines if line.startswith("worker:"))
    procfile.write_text("\n".join([*lines, worker.replace("worker:", "worker2:", 1)]) + "\n")
    with (
        servers(directory / "servers") as given,
        start(directory, procfile=procfile, without=frozenset({"flower"}), **SETTINGS, **given) as stack,
        System(stack) as system,
    ):
        wait_until(lambda: system.status()["workers"] == 3, "all workers", 60)
        yield system


def web_workers(system: System) -> list[psutil.Process]:
    """The processes that answer requests."""
    parent = psutil.Process(system.stack.pids()["web"])
    return [one for one in parent.children() if "resource_tracker" not in " ".join(one.cmdline())]


def make_round(system: System, name: str) -> None:
    """Do what `PUTS` and so on say, one request after the other."""
    http = system.http
    for number in range(PUTS):
        http.put(f"/v1/users/{name}{number}", json={"n": number, **system.fill}).raise_for_status()
    for number in range(HOT_READS):
        http.get(f"/v1/users/{name}{number % 7}").raise_for_status()
    for number in range(COLD_READS):
        assert http.get(f"/v1/users/{name}-cold-{number}").status_code == 404
    for _ in range(INCREMENTS):
        http.post(f"/v1/pages/{name}:increment", json={"views": 1}).raise_for_status()
    for number in range(STALE_PUTS):
        stale = {"If-Match": f'"{"0" * 32}"'}
        assert http.put(f"/v1/users/{name}{number}", json={"n": 0}, headers=stale).status_code == 412


def make_outage(system: System) -> list[httpx.Response]:
    """Stop MongoDB for a while; the answers to what needs it meanwhile."""
    http, mongo = system.http, system.mongodb_pid
    os.kill(mongo, signal.SIGSTOP)
    try:
        for number in range(PUTS):
            http.put(f"/v1/users/out{number}", json={"n": number}).raise_for_status()
        for number in range(PUTS):
            http.get(f"/v1/users/out{number}").raise_for_status()
        wait_until(lambda: Page(system).sum("writebehind_breaker_state", state="open") == 1, "the breaker", 30)
        assert Page(system).sum("writebehind_mongodb_up") == 0
        assert Page(system).sum("writebehind_pending_documents") >= PUTS
        return [
            *(http.get(f"/v1/users/lost{number}") for number in range(FAILED_READS)),
            *(http.post(f"/v1/users/lost{number}:increment", json={"n": 1}) for number in range(FAILED_CHANGES)),
        ]
    finally:
        os.kill(mongo, signal.SIGCONT)


@own_server
def test_the_figures_equal_what_was_done(system):
    """Over two web processes and two workers, of which one each is killed, an outage, and documents refused."""
    system.database.create_collection(
        "events", validator={"$jsonSchema": {"properties": {"n": {"bsonType": "int"}}}}
    )
    before = Page(system)

    make_round(system, "a")
    victim, other = web_workers(system)
    worker = system.stack.pids()["worker"]
    os.kill(victim.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    wait_until(
        lambda: len(web_workers(system)) == 2 and victim not in web_workers(system), "another web process", 30
    )
    system.close()
    system.connect()
    system.wait_until_ready()
    make_round(system, "b")
    refused = make_outage(system)
    for number in range(5):
        system.http.put(f"/v1/events/poison{number}", json={"n": "text"}).raise_for_status()
    system.wait_until_drained(60)

    assert other in web_workers(system)
    after = Page(system)

    def done(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    assert done("writebehind_writes_total", **USERS) == 3 * PUTS
    assert done("writebehind_writes_total", collection="pages") == 2 * INCREMENTS
    assert done("writebehind_acknowledged_writes_total") == 3 * PUTS + 2 * INCREMENTS + 5
    assert done("writebehind_reads_total", **USERS, source="hit") == 2 * HOT_READS + PUTS
    assert done("writebehind_reads_total", **USERS, source="miss") == 2 * COLD_READS
    assert done("writebehind_read_duration_seconds_count", **USERS) == 2 * (HOT_READS + COLD_READS) + PUTS
    requests = "writebehind_http_request_duration_seconds_count"
    assert done(requests, route=DOCUMENT, method="PUT") == 3 * PUTS + 5 + 2 * STALE_PUTS
    assert done(requests, route=DOCUMENT, method="GET", status="200") == 2 * HOT_READS + PUTS
    assert done(requests, route=DOCUMENT, method="GET", status="404") == 2 * COLD_READS
    assert {one.status_code for one in refused} == {503}
    left_alone = sum("has failed lately" in one.json()["detail"] for one in refused)
    assert done("writebehind_failed_reads_total", **USERS) == FAILED_READS
    assert done("writebehind_failed_writes_total", **USERS, reason="condition") == 2 * STALE_PUTS
    assert done("writebehind_failed_writes_total", **USERS) == 2 * STALE_PUTS + FAILED_CHANGES
    assert done(requests, status="503") == FAILED_READS + FAILED_CHANGES
    failures = ("writebehind_failed_reads_total", "writebehind_failed_writes_total")
    assert sum(done(one, **USERS, reason="breaker-open") for one in failures) == left_alone > 0
    assert done("writebehind_buried_writes_total") == 5
    assert after.sum("writebehind_dead_letters", collection="events") == 5
    assert done("writebehind_persisted_writes_total") == 3 * PUTS + 2 * INCREMENTS - done(
        "writebehind_coalesced_writes_total"
    )
    assert done("writebehind_persist_lag_seconds_count") == done("writebehind_persisted_writes_total")
    assert after.sum("writebehind_http_requests_in_progress") <= 1  # one that looks whether it is ready
    assert after.sum("writebehind_pending_documents") == 0


def test_the_api_shows_the_same_page(system):
    """Whichever of its processes answers: all tell the counts of all."""
    wanted = Page(system).sum("writebehind_writes_total", **USERS)

    for _ in range(8):
        with httpx.Client(base_url=system.stack.url, trust_env=False) as client:
            families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [one for each in families for one in each.samples if one.name == "writebehind_writes_total"]
        assert wanted == sum(one.value for one in samples if one.labels["collection"] == "users")


def test_the_exporter_records_the_last_hour(system):
    """Writes and reads of the API are in the history, with the latencies of what was read, within seconds."""

    def recorded() -> bool:
        system.http.put("/v1/users/history", json={"n": 1}).raise_for_status()
        system.http.get("/v1/users/history").raise_for_status()
        history = system.http.get("/admin/history").raise_for_status().json()
        return any(history["acknowledged_per_second"]) and any(history["latency"]["hit"].get("p99", ()))

    wait_until(recorded, "the history to have what was done", 30)


def test_the_exporter_watches_consistency(system):
    """Documents that were written are looked at, and readers see what is right."""

    def looked_at() -> bool:
        page = Page(system)
        return page.sum("writebehind_consistency_ratio_low", window="60") > 0

    wait_until(looked_at, "the observer to look at something", 90)

    page = Page(system)
    assert page.sum("writebehind_consistency_ratio", window="60") == 1
    assert 0 < page.sum("writebehind_consistency_ratio_low", window="60") < 1


@long
def test_counts_go_on_after_all_was_stopped(system):
    """The directory of the data has them: a deployment is no reason to begin anew."""
    system.put_all("before", PUTS)
    before = wait_until(lambda: Page(system).sum("writebehind_writes_total", **USERS), "the counts of writes")
    system.stack.stop()
    system.stack.start()
    system.close()
    system.connect()
    system.wait_until_ready()

    def after() -> float | None:
        try:
            return Page(system).sum("writebehind_writes_total", **USERS)
        except httpx.ConnectError:  # the exporter has not started yet
            return None

    assert before == wait_until(after, "the exporter", 30)
