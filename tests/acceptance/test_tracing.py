"""Traces of real processes: from a request to the bulk write that persisted it, as a collector receives them."""

from __future__ import annotations

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

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT
from tests.acceptance.test_forks import running
from tests.acceptance.variants import GUNICORN
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

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
    with EmbeddedRedis(tmp_path_factory.mktemp("tracing")) as redis:
        yield {
            **CONFIG,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis.url,
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
    ("web", "pool"), [("writebehind run web", "threads"), (GUNICORN, "prefork")], ids=["granian", "forks"]
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


def test_a_collector_that_is_away_costs_a_line(env, collector, tmp_path):
    """Requests are answered, the process ends in time, and what is lost is said once."""
    env |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    log = tmp_path / "web"
    with running("writebehind run web", env | {"WRITEBEHIND_WEB_WORKERS": "1"}, log):
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


def _status(http: httpx.Client) -> dict[str, Any]:
    try:
        answer = http.get("/admin/status")
    except httpx.TransportError:
        return {}
    return answer.json() if answer.status_code == 200 else {}
