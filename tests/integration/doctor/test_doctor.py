"""What the doctor says of the whole: good health, processes, and the exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment
from tests.integration.doctor.conftest import found
from tests.waiting import wait_until
from writebehind import Pipeline, remedies
from writebehind.change_stream.listener_state import ListenerState
from writebehind.cli import cli
from writebehind.conditions import RUNBOOK
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.history.points import Point
from writebehind.local.embedded import free_port
from writebehind.operations.doctor import Finding, Level, examine, mongodb, processes, redis
from writebehind.operations.doctor.findings import away
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.metrics import SWEEP
from writebehind.settings.names import QUEUES
from writebehind.settings.running import DATA_DIR, STATE_FILE


def test_good_health(patient):
    """An installation in good health has nothing to be done, once its processes run."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    patient.maintenance.sweep()
    patient.store._wire.call(
        "SET", keys.LISTENER, ListenerState(leader="here", at_ms=patient.store.now_ms()).dump()
    )
    patient.check()
    assert patient.recorder().step()
    patient.store.samples.note_observed()

    core = [*redis.check(patient), *mongodb.check(patient), *processes.check(patient)]

    assert [] == [one for one in core if one.level is not Level.OK]
    assert [""] == list({one.advice for one in core})
    assert {
        "redis version",
        "redis eviction",
        "redis persistence",
        "redis role",
        "redis fsync",
        "redis memory",
        "redis durability",
        "redis clock",
        "partitions",
    } <= {one.check for one in core}
    assert {"mongodb version", "mongodb topology", "mongodb write concern", "workers", "beat", "backlog"} <= {
        one.check for one in core
    }


def test_totals_that_other_hands_have_changed(patient):
    """What is acknowledged, and what has become of it, add up unless somebody has changed or taken out a count."""
    users, store = patient.collection("users"), patient.store
    for name in ("ada", "bob", "ada"):
        users.put(name, {"n": 1})
    assert Level.OK is (one := found(patient, "totals")).level, one
    counts = partition_keys(store.partition_of("users/s:ada")).counts
    first = int(store._wire.call("HGET", counts, "first"))
    store._wire.call("HINCRBY", counts, "first", 12_345)
    one = found(patient, "totals")
    assert (Level.WARNING, True) == (one.level, one.found.endswith("differ by 12345 writes")), one
    for spoil in (("HSET", counts, "first", 10**17), ("DEL", counts), ("SET", counts, "x")):
        store._wire.call(*spoil)
        one = found(patient, "totals")
        assert (Level.WARNING, True) == (one.level, f"differ by {first} write" in one.found), one


def test_servers_that_do_not_answer(patient, monkeypatch):
    """Servers that are away are findings, not errors."""

    def no_redis(*_: object) -> None:
        raise RedisUnavailableError

    def no_mongodb(*_: object, **__: object) -> None:
        raise MongoUnavailableError

    monkeypatch.setattr(patient.store._wire, "exchange", no_redis)
    monkeypatch.setattr(patient.sink, "command", no_mongodb)
    failures = {one.check: one.advice for one in examine(patient) if one.level is Level.FAILURE}
    assert ("start it, or set REDIS_URL", "start it, or set MONGODB_URL") == (
        failures["redis"],
        failures["mongodb"],
    )
    assert ["processes, totals, access"] == [one for one, do in failures.items() if do == "see to Redis first"]


def test_servers_that_run_here_and_do_not_answer(patient, monkeypatch, tmp_path):
    """A server that `up` has started here, and that lives, is said to be frozen, with the id of its process."""
    monkeypatch.chdir(tmp_path)
    settings = patient.settings
    state = {name: getattr(settings, name) for name in ("redis_url", "mongodb_url", "mongodb_database")}
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid, said in (
        (os.getpid(), f"started it: process {os.getpid()} runs here and is starting"),
        (ended.pid, "start it, or set MONGODB_URL"),
    ):
        write_state(state | {"pid": os.getpid(), "pids": {"mongodb": pid}})
        assert said in away(settings, "mongodb", reason="Connection refused")
        assert "start it, or set REDIS_URL" == away(settings, "redis")
    write_state(state | {"pid": os.getpid(), "pids": {"mongodb": os.getpid()}, "mongodb_url": "mongodb://other/"})
    assert "start it, or set MONGODB_URL" == away(settings, "mongodb")


def write_state(state: dict[str, object]) -> None:
    Path(DATA_DIR).mkdir(exist_ok=True)
    Path(DATA_DIR, STATE_FILE).write_text(json.dumps(state))


def test_processes(patient, monkeypatch):
    """Without workers nothing is persisted, which is a failure; without beat nothing lost is found."""
    expected = {"workers": Level.FAILURE, "queue flush": Level.FAILURE, "backlog": Level.OK}
    looked_at_today = ("listener", "exporter", "beat", "queue refresh", "queue maintenance")
    assert expected | dict.fromkeys(looked_at_today, Level.WARNING) == {
        one.check: one.level for one in processes.check(patient)
    }
    told = '{"seconds": 0.1, "outcome": {}, "error": ""}'
    patient.store._wire.call("HSET", keys.RUNS, SWEEP, f"{patient.store.now_ms() - 60_000} {told}")
    assert re.search(r"\b[67][0-9] s ago", found(patient, "beat").found)
    for level, status in (
        (Level.WARNING, {"dead_letters": 1}),
        (Level.FAILURE, {"breaker": "open", "breaker_reason": "it is down"}),
    ):
        healthy = {"pending": 0, "oldest_pending_seconds": 0, "dead_letters": 0, "breaker": "closed", "away": []}
        healthy |= {"overdue_seconds": 0, "to_do": [], "mongodb_refuses": None, "paused": []}
        assert level is processes.backlog(healthy | status).level


def test_an_exporter_that_is_gone_or_does_not_look(patient):
    """A warning each, as writes go on: one that never was, is silent, or records and does not look."""
    wire, now = patient.store._wire, patient.store.now_ms()

    def look(level: Level, said: str, **told: object) -> None:
        one = processes.exporter(patient.status() | told, observes=True)
        assert (level, True) == (one.level, re.search(said, one.found) is not None), one

    look(Level.WARNING, "none has ever run")
    assert patient.recorder().step()
    look(Level.WARNING, "not looked what readers see yet")
    patient.store.samples.note_observed()
    look(Level.OK, "recorded")
    seen = patient.status()["consistency"] | {"is_observed": False}
    look(Level.WARNING, "what readers see for", consistency=seen, mongodb_error="it does not answer")
    wire.call("ZADD", keys.OBSERVED, now - 95_000, "consistency")
    look(Level.WARNING, "what readers see for (9[5-9]|1..) s")
    look(Level.WARNING, "what readers see for (9[5-9]|1..) s", breaker="open")
    assert Level.OK is processes.exporter(patient.status(), observes=False).level
    wire.call("DEL", keys.HISTORY, keys.OBSERVED)
    wire.call("LPUSH", keys.HISTORY, Point(now / 1000 - 200).dump())
    look(Level.WARNING, "recorded nothing for 2")


def test_a_system_that_has_just_begun(patient):
    """Its first sweep is waited for: until then nothing is wrong with it."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    first = threading.Timer(0.5, patient.maintenance.sweep)
    first.start()
    try:
        assert Level.OK is found(patient, "beat").level
    finally:
        first.join()


def test_beat_is_down(patient, monkeypatch):
    """Where a worker would sweep and none is asked to, that is said after the time of one sweep."""
    monkeypatch.setattr(processes, "STARTING_S", 0.1)
    patient = Pipeline(
        patient.settings.model_copy(update={"sweep_interval": 0.1}),
        wire=patient.store._wire,
        client=patient._client,
    )
    patient.store.workers.record_proof("worker@here", QUEUES)
    one = found(patient, "beat")
    assert (Level.WARNING, "no sweep has run yet") == (one.level, one.found)
    told = {"swept_seconds_ago": None, "asked_seconds_ago": None, "pid": None, "is_stopped": False}
    told |= {"is_silent": True, "is_awaited": False}
    assert Level.WARNING is processes.beat(told, {}, 300).level
    assert "the last sweep was 3000 s ago" in processes.beat(told | {"swept_seconds_ago": 3_000}, {}, 300).found


def test_servers_that_are_away_are_told_in_short(patient, monkeypatch):
    """Why MongoDB or the listener does not serve is one short sentence, with what to do, wherever it is shown."""
    monkeypatch.setattr(
        "writebehind.change_stream.listener.LEASE_MS", 100
    )  # it is over before MongoDB has not answered
    url = "mongodb://somebody:pwSecr1@127.0.0.1:1,127.0.0.1:2/"
    away = patient.settings.model_copy(update={"mongodb_url": url, "mongodb_timeout_ms": 200})
    with Pipeline(away, wire=patient.store._wire) as pipeline:
        [one] = mongodb.check(pipeline)
        for _ in range(3):
            with pytest.raises(MongoUnavailableError):
                pipeline.collection("users").get("nobody")
        listener = pipeline.listener()
        listening = threading.Thread(target=listener.listen, daemon=True)
        listening.start()
        wait_until(lambda: (pipeline.status()["listener"] or {}).get("error"), "the listener to fail")
        listener.stop()
        listening.join()
        status = pipeline.status()
        backlog = processes.backlog(status)
    assert (Level.FAILURE, "open") == (one.level, status["breaker"])
    for text in (one.found, status["breaker_reason"], backlog.found, status["listener"]["error"]):
        assert re.search(r"MongoDB (does not answer|gives no sign of life): 127\.0\.0\.1:", text)
        assert "Connection refused" in text
        assert len(text) < 200
        assert not re.search("Topology|pwSecr1|configured|Errno", text)


def test_the_listener(patient):
    """Without one, changes of others show late: a warning, as the cache alone is concerned."""
    assert "none has ever run" in found(patient, "listener").found
    healthy = {"leader": "here", "lag_s": 0.2, "alive_seconds_ago": 1, "heard_seconds_ago": 1, "error": None}
    healthy |= {"pid": 7, "is_stopped": False, "is_silent": False}
    assert Level.OK is processes.listener(healthy).level


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"alive_seconds_ago": 60, "heard_seconds_ago": 61, "is_silent": True}, "does not run"),
        ({"heard_seconds_ago": 12}, "the listener runs and MongoDB does not answer it, for 12 s"),
        ({"heard_seconds_ago": None}, "the listener runs and MongoDB does not answer it"),
        (
            {"heard_seconds_ago": 12, "error": "MongoDB does not answer: db:1: refused"},
            "the listener runs and MongoDB does not answer it, for 12 s: db:1: refused",
        ),
        ({"error": "no replica set"}, "the listener runs and cannot listen: no replica set"),
    ],
)
def test_a_listener_that_hears_nothing(status, said):
    """One that does not run is told apart from one that MongoDB does not answer, which nobody need start."""
    healthy = {"leader": "here", "lag_s": 0.2, "alive_seconds_ago": 1, "heard_seconds_ago": 1, "error": None}
    healthy |= {"pid": 7, "is_stopped": False, "is_silent": False}
    finding = processes.listener(healthy | status)
    assert (Level.WARNING, said in finding.found) == (finding.level, True), finding
    assert ("start" in finding.advice) == (said == "does not run")


def test_the_exit_status_is_that_of_the_worst(patient, monkeypatch):
    """It ends with 2 for a failure, 1 for a warning, else 0, and says the worst first, cutting nothing."""
    for name, value in environment(patient.settings).items():
        monkeypatch.setenv(name, value)
    advice = f"a long{' advice' * 30}"
    for level in Level:
        findings = [Finding("a", Level.OK, "[fine]"), Finding("b", level, "found", advice)]
        monkeypatch.setattr("writebehind.cli.operations.examine", lambda _, findings=findings: iter(findings))
        shown = CliRunner().invoke(cli, ["doctor"])
        lines = CliRunner().invoke(cli, ["doctor", "--json"]).stdout.splitlines()
        assert int(level) == shown.exit_code
        assert "[fine]" in shown.stdout
        assert f"b: found\n           do: {advice}\n" in shown.stdout
        assert level is Level.OK or shown.stdout.index("b: found") < shown.stdout.index("[fine]")
        expected = {
            "check": "b",
            "level": level.name.lower(),
            "found": "found",
            "advice": advice,
            "fatal": False,
        }
        assert expected == json.loads(lines[1])


def test_the_broker(patient, monkeypatch):
    """A broker that is away is a failure."""
    from writebehind.celery import checks  # noqa: PLC0415 - the core's tests do without Celery elsewhere

    monkeypatch.setattr(checks, "PATIENCE_S", 0.2)
    assert [("broker", Level.OK)] == [(one.check, one.level) for one in checks.broker(patient)]

    away = patient.settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    [one] = checks.broker(SimpleNamespace(settings=away))
    assert ("broker", Level.FAILURE) == (one.check, one.level)


@pytest.mark.parametrize("worked", [True, False])
def test_an_overdue_backlog(patient, monkeypatch, worked):
    """Where nothing of what is overdue is persisted that is a failure, with what to do; also for programs."""
    patient.collection("users").put("ada", {"n": 1})
    monkeypatch.setattr(patient._status, "_pace", replace(patient._status._pace, overdue_s=0.05))
    if worked:
        patient.store.workers.record_proof("flush@test", ["flush"])
    wait_until(lambda: about(patient, "backlog"), "it to be overdue")
    finding = found(patient, "backlog")
    assert Level.FAILURE is finding.level
    assert "nothing is persisted: 1 document pending, of which the oldest is overdue for" in finding.found
    assert ("look at the logs of flush@test" if worked else "start a worker with -Q flush") in finding.advice
    assert f"{RUNBOOK}#writebehind{'pendingold' if worked else 'noworker'}" in finding.advice

    monkeypatch.setattr(remedies, "OVERDUE_S", 0.0)
    monkeypatch.setattr(patient._status, "_pace", replace(patient._status._pace, overdue_s=60.0))
    slow = found(patient, "backlog")  # something is persisted, late
    assert (Level.WARNING, True) == (slow.level, "one is overdue for" in slow.found)


@pytest.mark.parametrize("cap", ["pending", "memory"])
def test_a_cap_that_is_met(patient, cap):
    """That writes are refused now is a failure, with what to do."""
    patient.collection("slow").put("ada", {"n": 1})
    assert not [one for one in examine(patient) if one.check == "back-pressure"]
    caps = Caps(1, 1.0) if cap == "pending" else Caps(10_000, 0.0001)
    patient.store.caps.tell(caps)
    finding = found(patient, "back-pressure")
    assert Level.FAILURE is finding.level
    where = "in 1 of 4 partitions (0) " if cap == "pending" else ""
    assert finding.found.startswith(f"new documents {where}are refused now with 503, as a cap is met: ")
    assert (
        "WRITEBEHIND_MAX_PENDING_PER_PARTITION" if cap == "pending" else "CONFIG SET maxmemory"
    ) in finding.advice
    assert about(patient, "refused")["advice"] in finding.advice


def about(pipeline: Pipeline, what: str) -> dict[str, str] | None:
    """The remedy of a status about something."""
    return next((one for one in pipeline.status()["to_do"] if one["about"] == what), None)
