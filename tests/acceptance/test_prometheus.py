"""A real Prometheus scrapes the running system by the configuration of deploy/, and each panel shows something."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.acceptance.conftest import SETTINGS, System, start
from tests.acceptance.topology import servers
from tests.acceptance.variants import own_server
from tests.prometheus import DEPLOY, PROMETHEUS, SELECTOR, SERIES, needs_prometheus, promtool
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.settings.running import STATE_FILE

#: A busy machine gives waits many times their bounds: what they wait for is to be told, and no time-out.
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600), needs_prometheus]

#: Series that this system does not have, and why: a query of them alone may return nothing.
MISSING = {
    "writebehind_seconds_until_safe": "there are dead letters",
    "writebehind_seconds_until_cap": "nothing grows for long",
    "writebehind_refused_writes_total": "no cap is met",
    "writebehind_failed_reads_total": "servers answer",
    "writebehind_failed_writes_total": "the same, and nothing is written on a condition",
    "writebehind_lost_writes_total": "Redis keeps what it has",
    "writebehind_lost_spans_total": "nothing is traced",
    "writebehind_postponed_writes_total": "MongoDB takes what it gets, or refuses it for good",
    "writebehind_drift_total": "Redis and MongoDB agree",
    "writebehind_drift_repaired_total": "the same",
    "writebehind_redis_replication_lag_seconds": "there is no replica",
    "writebehind_redis_replication_lag_bytes": "the same",
    "writebehind_mongodb_replication_lag_seconds": "there is no secondary",
    "writebehind_mongodb_queued_operations": "the embedded server does not tell",
}
#: What happens by itself, as often as is good for a test.
OFTEN = {
    "WRITEBEHIND_SWEEP_INTERVAL": "1",
    "WRITEBEHIND_WARM_INTERVAL": "1",
    "WRITEBEHIND_RECONCILE_INTERVAL": "1",
    "WRITEBEHIND_RECONCILE_PASS_S": "2",
    "WRITEBEHIND_CONSISTENCY_CPU_PERCENT": "25",
}


class Prometheus:
    """A running server, and a client of it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def get(self, path: str, **parameters: object) -> Any:
        """The data of an answer."""
        answer = self._http.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, (parameters, answer.text)
        return answer.json()["data"]

    def has_data(self, expr: str) -> bool:
        """Whether a query has returned a number at any moment lately."""
        for variable, value in (("$__rate_interval", "8s"), ("$job", "writebehind")):
            expr = expr.replace(variable, value)
        now = time.time()
        found = self.get("query_range", query=expr, start=now - 60, end=now, step=1)["result"]
        return any(not math.isnan(float(value)) for one in found for _, value in one["values"])

    def is_ready(self) -> bool:
        return self._http.get("/-/ready").status_code == 200

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("watched")
    with (
        servers(directory / "servers") as given,
        start(directory, without=frozenset({"flower"}), **SETTINGS, **OFTEN, **given) as stack,
        System(stack) as system,
    ):
        validator = {"$jsonSchema": {"properties": {"n": {"bsonType": "int"}}}}
        system.database.create_collection("events", validator=validator)
        system.wait_for_workers()
        system.http.put("/v1/stale/older", json={"n": 1}).raise_for_status()
        yield system


@pytest.fixture(scope="module")
def rounds() -> Iterator[int]:
    """Numbers for `make_load`, which writes other documents in each round."""
    return count()


def exporter(system: System) -> str:
    """The address of the page."""
    return json.loads((system.stack.data_dir / STATE_FILE).read_text("utf-8"))["metrics"]


@pytest.fixture(scope="module")
def prometheus(system, tmp_path_factory) -> Iterator[Prometheus]:
    """Runs by the configuration of deploy/, but scrapes this system, and each second."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    found = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    found["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    found["rule_files"] = [str(DEPLOY / "prometheus/rules.yml")]
    found["scrape_configs"][0]["static_configs"][0]["targets"] = [exporter(system).split("/")[2]]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(found), "utf-8")
    port = free_port()
    command = [
        str(PROMETHEUS),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    server = Group(subprocess.Popen(bound_to_parent(command), start_new_session=True))
    client = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(client.is_ready, "Prometheus", 30)
        yield client
    finally:
        client.close()
        end([server])


def make_load(system: System, number: int) -> None:
    """Some of everything: hits, misses, stale reads, documents that MongoDB refuses, bodies that are too large."""
    http = system.http
    system.put_all(f"load{number}-", 20)
    for one in range(20):
        http.get(f"/v1/users/load{number}-{one % 5}").raise_for_status()
        http.get(f"/v1/users/nobody{number}-{one}")
        http.get(f"/v1/users/nobody{number}-{one}")
    http.post("/v1/pages/home:increment", json={"views": 1}).raise_for_status()
    http.put("/v1/stale/one", json={"n": number}).raise_for_status()
    http.get("/v1/stale/one").raise_for_status()
    http.get("/v1/stale/older").raise_for_status()
    http.put(f"/v1/events/poison{number % 5}", json={"n": "text"}).raise_for_status()
    http.post("/v1/users:bulk", content=b" " * (17 << 20))


@own_server
@long
def test_each_panel_shows_something(system, prometheus, rounds):
    """Each query of the dashboard returns numbers while the system is used, but those of what it does not have."""
    dashboard = json.loads((DEPLOY / "grafana/writebehind.json").read_text("utf-8"))
    missing = {
        target["expr"]: one["title"]
        for one in dashboard["panels"]
        for target in one.get("targets", ())
        if not {name for name, _ in SELECTOR.findall(target["expr"])} & MISSING.keys()
    }
    assert len(missing) > 100

    def shown() -> bool:
        make_load(system, next(rounds))
        for expr in [expr for expr in missing if prometheus.has_data(expr)]:
            del missing[expr]
        return not missing

    try:
        wait_until(shown, "all panels to show something", 60)
    except pytest.fail.Exception:
        assert missing == {}
        raise


def test_rules_are_evaluated(system, prometheus, rounds):
    """Each rule is well, and what refuses documents is about to be told."""
    make_load(system, next(rounds))

    def begun_when_well() -> set[str]:
        groups = prometheus.get("rules")["groups"]
        rules = [one for group in groups for one in group["rules"]]
        assert len(rules) > 25
        assert {"ok"} == {one["health"] for one in rules}
        return {one["name"] for one in rules if one["type"] == "alerting" and one["state"] != "inactive"}

    wait_until(lambda: "WritebehindDeadLetters" in begun_when_well(), "dead letters to be told", 20)
    # Until each target was scraped, one is missing.
    wait_until(lambda: "WritebehindExporterMissing" not in begun_when_well(), "the first scrapes", 60)
    assert begun_when_well() <= {"WritebehindDeadLetters", "WritebehindDrift", "WritebehindConsistencyBelowOne"}


def test_the_pages_are_well_formed(system, prometheus):
    """Prometheus's own tool has nothing to say about names and helps, of the exporter's page and of the API's."""
    pages = [
        httpx.get(url, timeout=30, trust_env=False).text
        for url in (exporter(system), f"{system.stack.url}/metrics")
    ]

    for page in pages:
        assert promtool("check", "metrics", text=page) == ""


@own_server
def test_the_page_has_what_is_described(system, rounds):
    """Every series is there that is described, but those of what this system does not have."""

    def found() -> set[str]:
        page = httpx.get(exporter(system), timeout=30, trust_env=False).text
        names = (line.partition(" ")[0] for line in page.splitlines() if not line.startswith("#"))
        return {one.partition("{")[0] for one in names}

    def missing() -> set[str]:
        make_load(system, next(rounds))
        return SERIES.keys() - found() - MISSING.keys()

    with suppress(pytest.fail.Exception):
        wait_until(lambda: not missing(), "all series", 60)
    assert set() == missing()
    assert set() == found() - SERIES.keys()
