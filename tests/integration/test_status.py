"""What a status costs: every open console asks for one each second."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.celery.depths import QueueDepths
from writebehind.cli.status import _queues
from writebehind.errors import MongoBusyError
from writebehind.history.points import Point
from writebehind.monitoring.directory import directory_of
from writebehind.monitoring.page import Page
from writebehind.redis import keys
from writebehind.redis.keys import HISTORY, partition_keys
from writebehind.redis.shared import totals
from writebehind.status import KEPT_S


@pytest.fixture
def calls(monkeypatch):
    """How often each function was called that the test asks about."""
    counted = {}

    def count(owner, name):
        original, counted[name] = getattr(owner, name), 0

        def call(*arguments, **named):
            counted[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, call)
        return counted

    return count


def test_what_changes_slowly_is_worked_out_once_in_a_while(pipeline, calls, monkeypatch):
    """Intervals of what was observed, and the counts of all processes: again only after ten seconds."""
    now = [100.0]
    monkeypatch.setattr("writebehind.status.time", SimpleNamespace(monotonic=lambda: now[0]))
    counted = calls(pipeline.store.samples, "counts")
    calls(pipeline.tallies, "read")
    first = pipeline.status()
    pipeline.collection("slow").read("nobody")
    now[0] += KEPT_S - 0.1
    assert (None, None) == (first["hit_ratio"], pipeline.status()["hit_ratio"])
    assert {"counts": 1, "read": 1} == counted
    now[0] += 0.2
    assert 0.0 == pipeline.status()["hit_ratio"]
    assert {"counts": 2, "read": 2} == counted


def test_a_status_takes_few_round_trips(pipeline, calls):
    """A dozen and a half, whatever waits."""
    pipeline.collection("slow").put("ada", {"n": 1})
    pipeline.status()
    counted = calls(pipeline._wire, "exchange")
    pipeline.status(partitions=True)
    assert counted["exchange"] <= 19


@pytest.mark.parametrize(
    ("outage_s", "told"),
    [((18, 1), []), ((18, 16), []), ((40, 18), ["backlog"]), ((10, 1), ["backlog"]), (None, ["backlog"])],
    ids=["just over", "over", "over before it was due", "overdue before it", "none"],
)
def test_what_waits_since_redis_was_away_is_given_time(pipeline, valkey_wire, outage_s, told):
    """Nobody could persist it before Redis was back, as when all is started again: that is no fault."""
    pipeline.collection("slow").put("ada", {"n": 1})
    now_ms = pipeline.store.now_ms()
    pending = partition_keys(pipeline.store.partition_of("slow/s:ada")).pending
    valkey_wire.call("ZADD", pending, now_ms - 17_000, "slow/s:ada")
    if outage_s:
        began_s, ended_s = outage_s
        name = f"redis-away {now_ms - began_s * 1000}"
        valkey_wire.call("ZADD", keys.OBSERVED, now_ms - ended_s * 1000, name)
    assert told == [one["about"] for one in pipeline.status()["to_do"] if one["about"] == "backlog"]


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "answers"])
def test_a_broker_that_does_not_answer_is_named_beside_queues_without_workers(pipeline, settings, is_away):
    """Workers that have lost it consume nothing: to start others helps nobody."""
    changed = settings.model_copy(update={"broker_url": "amqp://127.0.0.1:1/"}) if is_away else settings
    depths = QueueDepths(changed)
    recorder = pipeline.recorder(depths=depths, close_depths=depths.close)

    def figures() -> dict[str, Any] | None:
        """A status, once it is recorded what the broker says."""
        recorder.step()
        found = pipeline.status()
        return found if is_away or found["broker"]["seconds_ago"] is not None else None

    try:
        found = wait_until(figures, "the broker to be asked")
    finally:
        recorder.close()
    told = next(one for one in found["to_do"] if one["condition"] == "no-worker")
    for one in (told["found"], _queues(found)[0]):
        assert is_away == ("the broker does not answer the exporter" in one)
    assert is_away == told["advice"].startswith("see whether the broker runs")


def test_a_status_that_gets_no_connection_says_so(pipeline, monkeypatch):
    """And repeats no words that are for clients, such as to send a request again."""

    def busy(**_: object) -> None:
        raise MongoBusyError

    monkeypatch.setattr(pipeline.sink, "ping", busy)
    said = "MongoDB does not answer: no connection to it came free within 0.5 s"
    assert said == pipeline.status()["mongodb_ping_error"]


def test_totals_of_the_page_are_added_up_once(pipeline, calls):
    """Of each partition there ever was they are read in a round trip of their own."""
    page = Page(pipeline)
    counted = calls(totals, "read")
    page.render("")
    assert 1 == counted["read"]


def test_what_other_hands_have_spoiled_leaves_the_page_right(pipeline, valkey_wire, caplog):
    """It is taken out, Redis is not away for it, and all other figures stand."""
    pipeline.collection("slow").put("ada", {"n": 1})
    for number in range(pipeline.settings.partitions):
        valkey_wire.call("SET", partition_keys(number).counts, "x")
    valkey_wire.call("SET", HISTORY, "x")
    text = Page(pipeline).render("")[0].decode()

    assert "\nwritebehind_redis_up 1.0\n" in text
    assert "\nwritebehind_pending_documents 1.0\n" in text
    assert "\nwritebehind_acknowledged_writes_total 0.0\n" in text
    assert "\nwritebehind_acknowledged_writes_total 1.0\n" not in text


def test_figures_of_points_that_nobody_has_recorded_are_passed_over():
    """Below 0, or beyond all that there is: the point tells nothing."""
    sound = Point(5.0, {"pending": 3, "persisted_per_second": 1.5}).dump()
    assert {"pending": 3, "persisted_per_second": 1.5} == Point.parse(sound).figures
    for wrong in (b"-3", b"1e18", b"1e300", b"true", b"[1]"):
        assert Point.parse(sound.replace(b",3,", b"," + wrong + b",")) is None


def test_reads_of_this_hosts_processes_are_shown(settings, valkey_wire, mongo_client, run):
    """By a command that counts nothing itself, where they do; else it says where to look."""

    def row() -> str:
        (line,) = [line for line in run("status").stdout.splitlines() if line.startswith("reads ")]
        return line.removeprefix("reads").strip()

    assert row().startswith("none counted here: where there are any, look where `up` runs")
    counting = settings.model_copy(update={"metrics_dir": directory_of(settings)})
    web = Pipeline(counting, wire=valkey_wire, client=mongo_client)
    try:
        users = web.collection("slow")
        users.put("ada", {"n": 1})
        users.read("ada")
        assert "100% of those of this host's processes were answered by Redis" == row()
        assert 1.0 == json.loads(run("status", "--json").stdout)["hit_ratio"]
    finally:
        web.tallies.close()
        shutil.rmtree(directory_of(settings), ignore_errors=True)
