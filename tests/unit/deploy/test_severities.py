"""One table says how bad each condition is: each view shows that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.prometheus import ROOT
from tests.unit.test_remedies import HEALTHY
from writebehind.conditions import CONDITIONS, Remedy
from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor.findings import of
from writebehind.remedies import of_lost_data, of_lost_keys, of_redis, remedies

AWAY = {"pid": 7, "host": "h", "is_stopped": True, "is_silent": True, "is_awaited": False}
FULL = {"seconds_until_cap": 0, "cap": "pending"}
SILENT = {"worker": "w@h", "queues": [], "pid": 7, "seconds_ago": 40.0, "is_stopped": False}
LATE = {"warm": {"is_late": True, "seconds_ago": 900.0, "every_seconds": 30.0}}
SWEPT = AWAY | {"swept_seconds_ago": 1.0, "is_silent": False}
UNHEARD = {"is_silent": False, "alive_seconds_ago": 1.0, "heard_seconds_ago": 9.0, "error": None}
#: What a status has where each condition is met, and how else `remedies` is called then.
MET: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "redis-server": ({"away": [{"server": "b", "partitions": [1]}]}, {}),
    "redis-file": ({}, {"file_fails": True}),
    "redis-refuses": ({"redis_refuses": "NOREPLICAS", "redis_refuses_seconds": 3.0}, {}),
    "mongodb": ({"mongodb_error": "no pong"}, {}),
    "mongodb-refuses": ({"mongodb_refuses": "users: no"}, {"is_stalled": True}),
    "refused": (FULL | {"full_partitions": [*range(64)]}, {}),
    "refused-in-part": (FULL, {}),
    "refused-soon": ({"seconds_until_cap": 599.0, "cap": "pending"}, {}),
    "memory": (FULL | {"cap": "memory"}, {}),
    "stalled": ({}, {"is_stalled": True}),
    "resumes": ({}, {"is_stalled": True, "is_back": True}),
    "overdue": ({"overdue_seconds": 31.0}, {}),
    "overdue-for-long": ({"overdue_seconds": 601.0}, {}),
    "no-worker": ({"unconsumed": ["flush"]}, {}),
    "outrun": ({"grows_per_second": 360.0}, {}),
    "paused": ({"paused": [{"collection": None}]}, {}),
    "queue": ({"unconsumed": ["refresh"]}, {}),
    "worker": ({"silent_workers": [SILENT]}, {}),
    "beat": ({"beat": AWAY | {"swept_seconds_ago": 90.0, "asked_seconds_ago": None}}, {}),
    "task": ({"beat": SWEPT, "periodic": LATE}, {}),
    "listener": ({"listener": AWAY | {"alive_seconds_ago": 90.0, "leader": "l"}}, {}),
    "listener-unheard": ({"listener": UNHEARD}, {}),
    "exporter": ({"exporter": AWAY | {"recorded_seconds_ago": 90.0}}, {}),
    "inconsistent": ({"consistency": {"windows": {"60": {"ratio": 0.99999, "looks": 9, "wrong": 1}}}}, {}),
    "vanished": ({"consistency": {"vanished": 21}}, {}),
    "dead-letters": ({"dead_letters": 2}, {}),
    "copies": ({}, {"left_over": "server a has copies of 1 partition that moved to other servers"}),
}
#: Those of the system that runs in a directory, which no server tells.
HERE = {"api", "web", "up", "data-directory"}

#: Alerts of a chapter that are about more than its conditions, which no status has.
BESIDES = {
    "WritebehindRedisNotDurable": {"warning"},  # it writes no append-only file at all: the doctor says so
    "WritebehindRedisMemory": {"warning"},  # before new documents are refused
    "WritebehindExporterMissing": {"critical"},  # there is none that Prometheus reaches
}


def met() -> Iterator[Remedy]:
    """The remedy for each condition, as a status has it."""
    yield of_redis(RedisUnavailableError(), None)
    yield of_lost_data(["12 documents"])
    yield of_lost_keys()
    usual = {"is_stalled": False, "is_back": False, "could_evict": False}
    for figures, more in MET.values():
        yield from remedies(HEALTHY | figures, **(usual | more))


def test_a_status_and_the_doctor_say_how_bad_each_is():
    """And each can be met."""
    assert ["redis", "lost-data", "lost-keys", *MET] == [one.condition for one in met()]
    assert {*CONDITIONS} == {"redis", "lost-data", "lost-keys", *MET, *HERE}
    for one in met():
        severity = CONDITIONS[one.condition].severity
        assert (severity.name.lower(), severity) == (one.severity, of(one).level), one


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_alert_is_as_bad_as_its_condition(alerts, name):
    """Where one is about it; its chapter of the runbook is there in any case."""
    known = CONDITIONS[name]
    alike = [one for one in CONDITIONS.values() if one.is_alert and one.chapter == known.chapter]
    severities = {one.severity.name.lower() for one in alike} | BESIDES.get(known.chapter, set())
    told = {one["labels"]["severity"] for one in alerts if one["alert"] == known.chapter}
    assert f"## {known.chapter}\n" in (ROOT / "docs/runbook.md").read_text("utf-8")
    assert not known.is_alert or told == severities
