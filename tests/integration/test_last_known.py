"""While Redis is away its last known figures are told, with their time, by whoever is asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from threading import get_ident

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families as parse_text
from rich.console import Console

from tests.integration.conftest import put
from tests.proxy import Proxy
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, connect, last_known
from writebehind.cli import cli
from writebehind.cli.status import without_redis
from writebehind.errors import MongoBusyError, MongoUnavailableError, RedisUnavailableError
from writebehind.last_known import LastKnown
from writebehind.monitoring.page import Page
from writebehind.monitoring.watchers import Watchers
from writebehind.redis.shared import load_sample

pytestmark = pytest.mark.one_server("a proxy stands before one port")

TIMEOUT_MS = 500
ONLY_THERE = "5 documents were only in Redis: 5 pending of "


@pytest.fixture
def proxy(valkey, valkey_wire) -> Iterator[Proxy]:
    with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def pipeline(settings, proxy, tmp_path) -> Iterator[Pipeline]:
    """A process that keeps counts in a directory, before Redis hangs."""
    changes = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0", "redis_timeout_ms": TIMEOUT_MS}
    with connect(settings.model_copy(update={**changes, "metrics_dir": tmp_path})) as pipeline:
        put(pipeline, 5)
        yield pipeline


def hang(pipeline: Pipeline, proxy: Proxy) -> None:
    """Let Redis hang, once this process has met it."""
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        pipeline.store.now_ms()


def figures(page: Page) -> dict[str, float]:
    text = page.render("")[0].decode()
    return {one.name.removeprefix("writebehind_"): one.value for each in parse_text(text) for one in each.samples}


@pytest.mark.usefixtures("run")  # for the variables of a command
def test_the_status_of_a_terminal(pipeline, proxy, monkeypatch, tmp_path):
    """It says that Redis is away, and what was only there, as another process has seen it; for programs too."""
    pipeline.status()
    hang(pipeline, proxy)
    monkeypatch.setenv("REDIS_URL", pipeline.settings.redis_url)
    monkeypatch.setenv("WRITEBEHIND_METRICS_DIR", str(tmp_path))

    shown, as_json = (CliRunner().invoke(cli, ["status", *more]) for more in ((), ("--json",)))

    assert [RedisUnavailableError] * 2 == [type(one.exception) for one in (shown, as_json)]
    assert shown.stdout.startswith("Redis is away; at ")
    assert ": look on its host whether its process is stopped" in shown.stdout
    assert "#writebehindredisdown" in shown.stdout
    assert ONLY_THERE in shown.stdout
    told = json.loads(as_json.stdout)
    assert (5, 0, True) == (
        (known := told["last_known"])["pending"],
        known["dead_letters"],
        "Redis" in told["error"],
    )
    assert ["redis"] == [one["about"] for one in told["to_do"]]
    assert "redis: " not in as_json.stderr


def test_the_status_of_the_api(pipeline, proxy):
    """It is a 503 that has the last known figures; readiness does not say that there are no workers."""
    client = create_app(pipeline).test_client()
    assert 5 == client.get("/admin/status").json["pending"]
    hang(pipeline, proxy)

    answer = client.get("/admin/status")
    assert (503, "urn:problem-type:writebehind:redis-unavailable") == (answer.status_code, answer.json["type"])
    known = answer.json["last_known"]
    assert (5, 0, True) == (known["pending"], known["dead_letters"], known["pending_bytes"] > 0)
    assert known["seconds_ago"] >= 0
    [step] = answer.json["to_do"]
    assert ("redis", True) == (step["about"], step["found"].startswith("Redis did"))
    assert "look on its host whether its process is stopped" in step["advice"]
    assert step["runbook"].endswith("/docs/runbook.md#writebehindredisdown")

    ready = client.get("/readyz").json
    assert (False, None, None) == (ready["ready"], ready["workers"], ready["silent_workers"])


class MadeUp:
    """A MongoDB that gives a sign of life after some time, or fails; the driver has seen one before, or not."""

    def __init__(self, *, takes_s: float = 0.0, error: Exception | None = None, seen: bool = True) -> None:
        self._takes_s, self._error, self._seen = takes_s, error, seen
        self.asked = 0

    def ping(self, *, timeout_s: float) -> None:
        self.asked += 1
        if self._error:
            raise self._error
        if self._takes_s > timeout_s:
            raise MongoUnavailableError("MongoDB does not answer", inner="no answer came in time", outage=True)

    def unreachable(self) -> str:
        return ""

    def round_trip_s(self) -> float:
        return 0.001 if self._seen else 0.0


def test_both_servers_are_away(pipeline, proxy, monkeypatch):
    """Both are named, each with what to do: who sees to one of them alone has not seen to it."""
    assert not pipeline.keyring.is_on()  # known before, or nobody would be let in
    hang(pipeline, proxy)
    silent = MadeUp(takes_s=float("inf"))
    monkeypatch.setattr(pipeline._status, "_life", silent)
    client = create_app(pipeline).test_client()
    redis, mongodb = client.get("/admin/status").json["to_do"]
    assert ("redis", "mongodb") == (redis["about"], mongodb["about"])
    assert "MongoDB does not answer" == mongodb["found"]
    with (console := Console(width=200)).capture() as printed:
        console.print(without_redis(None, (redis, mongodb), RedisUnavailableError()))
    assert printed.get().startswith("Redis and MongoDB are away; ")
    client.get("/admin/status")
    assert 1 == silent.asked  # for all who ask within a second


@pytest.mark.parametrize(
    "life",
    [
        MadeUp(takes_s=1.0, seen=False),
        MadeUp(error=MongoBusyError("as many wait as may")),
    ],
    ids=["a first connection", "no connection is free"],
)
def test_a_mongodb_that_answers_is_not_away(pipeline, proxy, monkeypatch, life):
    """To connect takes its time, as does a crowd: neither is an outage."""
    hang(pipeline, proxy)
    monkeypatch.setattr(pipeline._status, "_life", life)
    [only] = pipeline.status_without_redis(RedisUnavailableError("Redis does not answer"))["to_do"]
    assert ("redis", 1) == (only["about"], life.asked)


def test_the_page_for_prometheus(pipeline, proxy):
    """Its gauges stay as they were, with their time; those of the present are missing, and none becomes 0."""
    page = Page(pipeline)
    before = figures(page)
    hang(pipeline, proxy)
    after = figures(page)

    assert (5, 5, 0) == (before["pending_documents"], before["last_known_pending_documents"], after["redis_up"])
    assert "pending_documents" not in after
    for name in ("pending_documents", "pending_bytes", "dead_letters", "timestamp_seconds"):
        assert before[f"last_known_{name}"] == after[f"last_known_{name}"]


def test_nobody_has_seen_it(pipeline, proxy):
    """Then nothing is told, rather than 0."""
    pipeline.last_known.keep_in(pipeline.settings.metrics_dir / "elsewhere")
    assert not pipeline.keyring.is_on()  # known before, or nobody would be let in
    hang(pipeline, proxy)
    pipeline.last_known._own = None
    assert not [name for name in figures(Page(pipeline)) if name.startswith("last_known")]
    assert create_app(pipeline).test_client().get("/admin/status").json["last_known"] is None
    with (console := Console(width=200)).capture() as printed:
        console.print(without_redis(None, (), RedisUnavailableError()))
    assert "Redis is away; nobody on this host has seen what is only there\n" == printed.get()


def test_the_line_that_redis_is_lost(pipeline, proxy, caplog):
    """It has what was only there, as far as the process knows; there is no line more for it."""
    pipeline.status()
    caplog.set_level(logging.WARNING)
    hang(pipeline, proxy)
    lost = [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "redis_lost"]
    assert 1 == len(lost)
    assert ONLY_THERE in lost[0]


def test_a_recorder_notes_it(pipeline):
    """At each of its steps."""
    pipeline.recorder().step()
    assert 5 == LastKnown(pipeline.settings.metrics_dir).latest().pending


def test_writers_note_it_where_nobody_else_does(pipeline):
    """A process that writes looks at Redis's load now and then, and notes what it has seen there."""

    def is_seen() -> bool:
        put(pipeline, 7)
        latest = LastKnown(pipeline.settings.metrics_dir).latest()
        return latest is not None and latest.pending == 7 and latest.pending_bytes > 0

    wait_until(is_seen, "it to be noted")


def test_a_write_does_not_fail_where_it_cannot_be_noted(settings, valkey_wire, mongo_client, monkeypatch):
    """The size of what waits is no reason to refuse a document."""

    def fails(_: object) -> int:
        raise RedisUnavailableError("Redis does not answer")

    fresh = Pipeline(settings, wire=valkey_wire, client=mongo_client)
    monkeypatch.setattr(fresh.store.unsettled, "pending_bytes", fails)
    assert fresh.last_known.is_due()
    put(fresh, 1)
    assert fresh.last_known.latest() is None


def test_no_request_notes_it_where_a_thread_watches(pipeline, monkeypatch):
    """As in a web process: a request is not to wait for two round trips more. Without the thread it does."""
    ask, asked = pipeline.store.unsettled.pending_bytes, set()
    monkeypatch.setattr(last_known, "DUE_S", 0)
    monkeypatch.setattr(load_sample, "SAMPLE_EVERY_S", 0)
    monkeypatch.setattr(
        pipeline.store.unsettled, "pending_bytes", lambda counts: asked.add(get_ident()) or ask(counts)
    )
    with Watchers({"admission": pipeline.watch_admission}):
        wait_until(lambda: asked, "the thread to note it")
        put(pipeline, 7)
        assert get_ident() not in asked
    put(pipeline, 7)
    assert get_ident() in asked
