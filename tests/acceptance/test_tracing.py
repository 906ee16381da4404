"""Traces of real processes: from a request to the bulk write that persisted it, as a collector receives them."""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pymongo import MongoClient

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT
from tests.acceptance.test_forks import running
from tests.acceptance.topology import redis_servers
from tests.acceptance.variants import GUNICORN
from tests.tiers import cases
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo, free_port
from writebehind.tallies.families import LOST_SPANS, REQUESTS
from writebehind.tallies.tallies import Tallies

pytestmark = pytest.mark.acceptance

DOCUMENTS = 20
#: The trace of a client, and the span in which it puts documents.
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WORKER = (
    "writebehind run worker -Q flush,refresh,maintenance --loglevel warning --concurrency 2 "
    "--without-gossip --without-mingle --pool"
)


@dataclass
class Collector:
    """What processes have sent: spans by the name of their service."""

    port: int = 0
    spans: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            [name] = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans[name] += scope.spans

    def named(self, service: str, name: str) -> list[Any]:
        return [one for one in self.spans[f"writebehind-{service}"] if one.name == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Whoever takes OTLP over HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@pytest.fixture
def env(tmp_path_factory, mongo: EmbeddedMongo, database_name, collector) -> Iterator[dict[str, str]]:
    """What tells processes where the servers are. No span leaves before its process ends."""
    with redis_servers(tmp_path_factory.mktemp("tracing")) as redis:
        yield {
            **CONFIG,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            **redis,
            "MONGODB_URL": mongo.url,
            "MONGODB_DATABASE": database_name,
            "WRITEBEHIND_PORT": str(free_port()),
            "WRITEBEHIND_WEB_WORKERS": "2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0",
        }


@pytest.mark.parametrize(
    ("web", "pool"),
    cases({"forks": (GUNICORN, "prefork"), "granian": ("writebehind run web", "threads")}, {"forks"}),
)
def test_a_request_leads_to_its_bulk_write(env, collector, tmp_path, web, pool):
    """Over all processes, also those that fork, whose last spans leave at their end; nobody else is sampled."""
    commands = {"web": web, "worker": f"{WORKER} {pool}", "listen": "writebehind listen"}
    with ExitStack() as processes:
        for name, command in commands.items():
            processes.enter_context(running(command, env, tmp_path / name))
        http = processes.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}", timeout=30, trust_env=False, limits=LIMITS
            )
        )
        wait_until(lambda: _status(http).get("workers"), "the web process and the worker", 60)
        for n in range(DOCUMENTS):
            sampled = {"traceparent": f"00-{TRACE}-{SPAN}-01"} if n % 2 else {}
            http.put(f"/v1/users/u{n}", json={"n": n}, headers=sampled).raise_for_status()
        wait_until(lambda: _status(http)["pending"] == 0, "everything to be in MongoDB", 30)
        wait_until(lambda: _status(http)["listener"]["leader"], "the listener", 30)

    trace, span = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    requests = collector.named("web", "PUT /v1/{collection}/{id}")
    commits = collector.named("web", "commit users")
    flushes = collector.named("worker", "flush")
    writes = collector.named("worker", "bulkWrite users")
    assert [(trace, span)] * (DOCUMENTS // 2) == [(one.trace_id, one.parent_span_id) for one in requests]
    assert {one.span_id for one in requests} == {one.parent_span_id for one in commits}
    linked = [link.span_id for one in writes for link in one.links]
    assert {one.span_id for one in commits} == {*linked}
    assert {link.span_id for one in flushes for link in one.links} == {*linked}
    assert {one.span_id for one in flushes} >= {one.parent_span_id for one in writes}
    assert {trace} == {one.trace_id for spans in collector.spans.values() for one in spans}
    for name in commands:
        assert "Traceback" not in (tmp_path / name).read_text()


def test_a_request_id_leads_to_everything_about_the_request(env, collector, mongo, tmp_path):
    """From its answer to its line, its span, and the dead letter that its write has become, by fields alone."""
    env |= {"WRITEBEHIND_LOG_FORMAT": "json", "WRITEBEHIND_ACCESS_LOG": "true", "WRITEBEHIND_WEB_WORKERS": "1"}
    sampled = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    with MongoClient(mongo.url) as client:
        client[env["MONGODB_DATABASE"]].users.create_index("name", unique=True)
    with ExitStack() as processes:
        for name, command in {"web": "writebehind run web", "worker": f"{WORKER} threads"}.items():
            processes.enter_context(running(command, env, tmp_path / name))
        url = f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}"
        http = processes.enter_context(httpx.Client(base_url=url, timeout=30, trust_env=False, limits=LIMITS))
        wait_until(lambda: _status(http).get("workers"), "the web process and the worker", 60)
        http.put("/v1/users/ada?durability=persisted", json={"name": "x"}).raise_for_status()
        answer = http.put("/v1/users/bob", json={"name": "x"}, headers=sampled).raise_for_status()
        plain = http.put("/v1/users/eve", json={"name": "x"}).raise_for_status()
        wait_until(lambda: _status(http)["dead_letters"] == 2, "the dead letters", 30)
        [*letters] = [http.get(f"/admin/dead-letters/users/{name}").json() for name in ("bob", "eve")]
        deleted = http.delete("/v1/users/ada", headers=sampled)  # not before, or its name is free for one of them

    said = {
        name: [json.loads(one) for one in (tmp_path / name).read_text().splitlines()] for name in ("web", "worker")
    }
    lines = {one["request_id"]: one for one in said["web"] if one.get("event") == "request"}
    line, other = lines[answer.headers["X-Request-Id"]], lines[plain.headers["X-Request-Id"]]
    assert [(answer.json()["version"], TRACE), (plain.json()["version"], None)] == [
        (one["version"], one["trace_id"]) for one in letters
    ]
    assert [(line["version"], TRACE), (other["version"], None)] == [
        (one["version"], one["trace_id"]) for one in letters
    ]
    assert "trace_id" not in other
    gone = lines[deleted.headers["X-Request-Id"]]
    assert ("DELETE", TRACE, True) == (gone["method"], gone["trace_id"], gone["version"] > line["version"])
    [request] = collector.named("web", "PUT /v1/{collection}/{id}")
    attributes = {one.key: one.value.string_value for one in request.attributes}
    assert line["request_id"] == attributes["writebehind.request_id"]
    assert (line["trace_id"], line["span_id"]) == (request.trace_id.hex(), request.span_id.hex())
    buried = {one["version"]: one for one in said["worker"] if one.get("event") == "dead_letter"}
    assert {line["version"], other["version"]} == buried.keys()
    mine = buried[line["version"]]
    assert ("users", "users/s:bob", TRACE) == (mine["collection"], mine["member"], mine["write_trace_id"])
    assert mine["span_id"] in {one.span_id.hex() for one in collector.named("worker", "flush")}


def test_a_collector_that_is_away_costs_a_line(env, collector, tmp_path):
    """Requests are answered, the process ends in time, what is lost is said once, and each span is counted."""
    env |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    log, counts = tmp_path / "web", tmp_path / "counts"
    env |= {"WRITEBEHIND_WEB_WORKERS": "1", "WRITEBEHIND_METRICS_DIR": str(counts)}
    with running("writebehind run web", env, log):
        url = f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False, limits=LIMITS) as http:
            wait_until(lambda: _status(http), "the web process", 60)
            for n in range(20):
                http.put(f"/v1/users/u{n}", json={"n": n}).raise_for_status()
            wait_until(lambda: "collector" in log.read_text(), "the line", 30)
            http.put("/v1/users/ada", json={"n": 1}).raise_for_status()

    lines = [one for one in log.read_text().splitlines() if "collector of traces" in one]
    assert 1 == len(lines)
    assert "Traceback" not in log.read_text()
    assert not collector.spans
    counted = Tallies(counts).read()
    lost = sum(count for (name, _), [count, *_] in counted.items() if name == LOST_SPANS.name)
    requests = sum(
        sum(buckets)
        for (name, labels), [_, *buckets] in counted.items()
        if name == REQUESTS.name and labels[0] != "/healthz"  # which nobody traces
    )
    assert requests + 21 == lost  # each put has a commit too


def _status(http: httpx.Client) -> dict[str, Any]:
    try:
        answer = http.get("/admin/status")
    except httpx.TransportError:
        return {}
    return answer.json() if answer.status_code == 200 else {}
