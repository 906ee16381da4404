"""What a status says to do about what is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.waiting import wait_until
from writebehind.errors import NoReplicasError, RedisNotReadyError, RedisUnavailableError, ReplicaError
from writebehind.process_remedies import of_beat
from writebehind.redis.shared.attendance import Outage
from writebehind.remedies import Remedy, is_mongodb_away, of_redis, remedies
from writebehind.silence import is_listener_away

HEALTHY = {
    "paused": [],
    "mongodb_error": None,
    "mongodb_refuses": None,
    "redis_refuses": None,
    "redis_refuses_seconds": None,
    "heartbeats_refused": False,
    "breaker": "closed",
    "breaker_reason": None,
    "seconds_until_cap": None,
    "seconds_until_drained": None,
    "cap": None,
    "caps": {"max_pending_per_partition": 50_000, "max_memory_percent": 90.0},
    **dict.fromkeys(("away", "refusing", "unconsumed", "silent_workers", "awaited_workers", "ended_workers"), ()),
    "dead_letters": 0,
    "partitions": 64,
    "full_partitions": [7],
    "consumers": {"flush": ["w@h"]},
    "grows_per_second": None,
    "flushed_per_second": 40.0,
    "pending": 7,
    "overdue_seconds": 4.2,
    "partitions_at_work": 0,
    "beat": None,
    "exporter": None,
    "broker": None,
    "consistency": None,
    "listener": None,
    "periodic": {},
}


def told(*, is_stalled: bool = False, is_back: bool = False, file_fails: bool = False, **figures) -> list[Remedy]:
    known = {"is_stalled": is_stalled, "is_back": is_back, "could_evict": False, "file_fails": file_fails}
    return [*remedies(HEALTHY | figures, **known)]


@pytest.mark.parametrize(
    ("cap", "named", "other"),
    [
        ("memory", "maxmemory", "MAX_PENDING"),
        ("pending", "MAX_PENDING", "maxmemory"),
        (None, "MAX_PENDING", "maxm"),
    ],
)
def test_while_mongodb_is_away_the_cap_that_is_met_first_is_named(cap, named, other):
    """To let more documents wait helps nobody whose Redis has no room for them."""
    (found,) = told(mongodb_error="no pong", cap=cap, seconds_until_cap=cap and 6.1)
    assert named in found.advice
    assert other not in found.advice


def test_a_pause_is_ended_by_resuming():
    """It is the first thing to see to, where documents wait; a cap that is met meanwhile is met by it."""
    every = [{"collection": None, "since": 1.0, "seconds_left": None}]
    one, cap = told(paused=every, seconds_until_cap=0, cap="pending", breaker="open")[::2]
    assert ("paused", "refused") == (one.about, cap.about)
    assert all("`writebehind resume`" in each.advice for each in (one, cap))
    assert "flushing of all collections is paused" == one.found
    assert ["paused"] == [one.about for one in told(paused=every, pending=0)]
    slow = [every[0] | {"collection": "slow"}]
    assert [] == told(paused=slow, pending=0)
    some = told(paused=slow, seconds_until_cap=0, cap="pending")[1]
    assert "resume" not in some.advice


def test_a_redis_without_memory_is_drained_without_workers():
    """Their broker may be the same Redis, which takes no message; while MongoDB is away nothing drains."""
    (found,) = told(seconds_until_cap=0, cap="memory")
    assert found.advice.startswith("`writebehind drain`")
    for figures in ({"pending": 0}, {"breaker": "open"}, {"paused": [{"collection": None}]}):
        every = told(**({"seconds_until_cap": 0, "cap": "memory"} | figures))
        assert "drain`" not in next(one.advice for one in every if one.about == "refused")


@pytest.mark.parametrize("cap", ["pending", "memory"])
def test_caps_that_are_not_known_are_no_zeros(cap):
    """The server that holds them may be away while others refuse documents."""
    (found,) = told(caps=None, seconds_until_cap=0, cap=cap)
    assert " 0 " not in found.found


@pytest.mark.parametrize(
    ("given", "said", "advice"),
    [
        (
            {"cap": "pending", "grows_per_second": 360.0},
            "too much is pending then; more comes than",
            "MAX_PENDING",
        ),
        ({"cap": "pending", "paused": [{"collection": None}]}, "too much is pending then", "`writebehind resume`"),
        ({"cap": "memory"}, "Redis is short of memory then", "CONFIG SET maxmemory"),
    ],
)
def test_a_cap_that_is_met_soon(given, said, advice):
    """It is told before it is met, as its alert tells it; once, and not an hour ahead."""
    *_, found = told(seconds_until_cap=90.0, **given)
    assert ("refused-soon", True, True) == (found.condition, said in found.found, advice in found.advice), found
    assert "refused in 90.0 s at this rate" in found.found
    assert ["backlog"] == [one.about for one in told(seconds_until_cap=90.0, **given) if one.about != "paused"]
    assert "refused-soon" not in [one.condition for one in told(seconds_until_cap=601.0, **given)]
    assert ["mongodb"] == [one.about for one in told(seconds_until_cap=90.0, cap="pending", breaker="open")]


def test_what_is_overdue_though_nothing_stands_still():
    """For a minute it is for the day, for ten it is for the night; a pause is told by itself."""
    (one,) = told(overdue_seconds=40.0)
    assert ("overdue", True) == (one.condition, "one is overdue for 40 s" in one.found)
    assert "what holds MongoDB up" in one.advice
    (one,) = told(overdue_seconds=700.0, seconds_until_drained=12.4, grows_per_second=3.0)
    assert ("overdue-for-long", "wait, and look again then") == (one.condition, one.advice)
    assert [] == told(overdue_seconds=30.0)
    assert ["paused"] == [one.about for one in told(overdue_seconds=700.0, paused=[{"collection": None}])]


def test_a_listener_that_mongodb_does_not_answer():
    """Unless MongoDB answers nobody: that is told already."""
    unheard = {"is_silent": False, "alive_seconds_ago": 1.0, "heard_seconds_ago": 9.0, "error": None}
    (one,) = told(listener=unheard)
    assert ("listener-unheard", "warning", "listener") == (one.condition, one.severity, one.about)
    assert ["mongodb"] == [one.about for one in told(listener=unheard, breaker="open")]
    assert [] == told(listener=unheard | {"heard_seconds_ago": 1.0})
    (one,) = told(listener=unheard | {"heard_seconds_ago": 1.0, "error": "no change streams"})
    assert "cannot listen: no change streams" in one.found


@pytest.mark.parametrize(
    ("full", "where", "severity"),
    [
        ([7], "in 1 of 64 partitions (7) are refused", "warning"),
        ([*range(6)], "in 6 of 64 partitions are refused", "warning"),
        ([*range(7)], "in 7 of 64 partitions are refused", "critical"),
        ([*range(64)], "in all 64 partitions are refused", "critical"),
    ],
)
def test_a_cap_that_is_met_in_some_partitions(full, where, severity):
    """The others go on: one hot spot gets nobody up, many of them are no hot spots."""
    (one,) = told(seconds_until_cap=0, cap="pending", full_partitions=full)
    assert (True, severity) == (where in one.found, one.severity), one
    assert ("the others take documents" in one.found) is (len(full) < 64)


def test_who_has_ended_is_named_where_nobody_consumes_its_queue():
    """With what that means for what waits; the other queues are less urgent."""
    ended = [{"worker": "w@h", "queues": ["flush"], "seconds_ago": 2.0, "pid": 4711}]
    flush, refresh = told(unconsumed=["flush", "refresh"], ended_workers=ended)
    assert ("queue flush", "critical", "warning") == (flush.about, flush.severity, refresh.severity)
    assert "what is acknowledged waits in Redis; w@h (process 4711), which consumed it, has ended" in flush.found
    assert "unless `up` does" in flush.advice
    (stalled,) = told(is_stalled=True, unconsumed=["flush"], consumers={})
    assert ("backlog", "no-worker") == (stalled.about, stalled.condition)


def test_more_comes_than_goes():
    """By how much, unless MongoDB is away, or nothing goes at all: those come first."""
    (found,) = told(grows_per_second=360.0)
    assert "more comes than goes: 400 documents in a second, of which 40 are persisted" == found.found
    assert "#writebehinddrainslowerthanarrival" in found.runbook
    assert [] == told()
    for first in ({"breaker": "open"}, {"is_stalled": True}):
        (other,) = told(grows_per_second=360.0, **first)
        assert "comes" not in other.found


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({}, "look at the logs of w@h"),
        ({"is_back": True}, "MongoDB was away until just now, and w@h takes up what waits by itself"),
        ({"consumers": {}}, "start a worker"),
        ({"consumers": {}, "partitions_at_work": 2}, "somebody is at work, as a worker that starts"),
    ],
)
def test_nobody_is_sent_to_what_goes_on_by_itself(given, advice):
    """Workers back off from an outage, and one that starts is not known for a moment."""
    (found,) = told(is_stalled=True, **given)
    assert found.advice.startswith(advice)


def test_a_server_of_this_host_that_hangs(monkeypatch):
    """Its process is named, with what lets a frozen one go on where that is not to be seen."""
    monkeypatch.setattr("writebehind.remedies.age_s", lambda _: None)
    away = HEALTHY | {"mongodb_error": "timed out"}
    [one] = remedies(away, is_stalled=False, is_back=False, could_evict=False, mongodb_pid=4711)
    redis = of_redis(RedisUnavailableError(), 4711)
    assert "no other in its place" in redis.advice
    for advice in (one.advice, redis.advice):
        assert "process 4711 runs here" in advice
        assert "`kill -CONT 4711` lets a frozen one go on" in advice


def test_a_mongodb_that_answers_and_takes_nothing():
    """Nobody is sent to the workers; an embedded server is to be started anew, once its disk has room."""
    refusing = HEALTHY | {"mongodb_refuses": "users: internal server error"}
    known = {"is_back": False, "could_evict": False}
    (one,) = remedies(refusing, is_stalled=True, **known)
    (here,) = remedies(refusing, is_stalled=True, mongodb_pid=4711, **known)
    assert ("mongodb", True) == (
        one.about,
        one.found.endswith("takes nothing that is written to users: internal server error"),
    )
    assert "disk is full" in one.advice
    assert "`kill" not in one.advice
    assert "then `kill 4711`" in here.advice


@pytest.mark.parametrize(
    "is_told",
    [
        "MongoDB refuses: no",
        "MongoDB does not answer: 127.0.0.1: internal server error",
        "MongoDB gives no sign of life: MongoDB does not answer: 127.0.0.1: internal server error",
    ],
)
def test_a_mongodb_that_answers_with_errors_is_not_frozen(is_told):
    """Nobody is sent to let its process go on: it is to be started anew."""
    broken = HEALTHY | {"mongodb_error": is_told}
    (one,) = remedies(broken, is_stalled=False, is_back=False, could_evict=False, mongodb_pid=4711)
    assert one.found.startswith("MongoDB answers with an error: ")
    assert not re.search("does not answer|no sign of life", one.found)
    assert "then `kill 4711`" in one.advice
    assert "-CONT" not in one.advice


@pytest.mark.parametrize(
    ("asked_s", "advice"),
    [
        (2.0, "start the maintenance worker as in the Procfile, or let one go on that is stopped, as without"),
        (None, "start beat and the maintenance worker as in the Procfile, as without"),
    ],
)
def test_nobody_consumes_what_beat_asks_for(asked_s, advice):
    """No beat is to be started that asks."""
    beat = {"swept_seconds_ago": 29.0, "asked_seconds_ago": asked_s, "is_stopped": False, "pid": 7}
    assert of_beat(beat, {"maintenance": []}).advice.startswith(advice)


def test_a_redis_that_loads_its_data():
    """Nobody is sent to look for a process that is stopped, or to start one."""
    found = of_redis(RedisNotReadyError("Redis cannot serve now", inner="LOADING"), 4711)
    assert ("redis", "Redis cannot serve now") == (found.about, found.found)
    assert "kill" not in found.advice
    assert "it goes on by itself once it has loaded its data" in found.advice
    assert found.runbook.endswith("#writebehindredisdown")


def test_a_redis_whose_replicas_do_not_keep_up():
    """It waits for them, and for no data to be loaded."""
    found = of_redis(NoReplicasError(), None)
    assert found.advice.startswith("see that its replicas run and reach it")
    assert "load" not in found.advice


def test_a_redis_that_is_a_replica():
    """Nobody waits for it to load anything: another server is to be named."""
    found = of_redis(ReplicaError(), None)
    assert "name its primary in REDIS_URL" in found.advice
    assert "load" not in found.advice


def test_a_server_that_starts():
    """It is known by its age, and by a port that refuses: nobody is told to let it go on."""
    refused = RedisUnavailableError("Redis does not answer", inner="Connection refused")
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for advice in (of_redis(RedisUnavailableError(), process.pid), of_redis(refused, os.getpid())):
                assert "runs here and is starting" in advice.advice
                assert "kill" not in advice.advice
        finally:
            process.kill()


def test_a_process_that_is_stopped(monkeypatch):
    """It is said of it, where it can be seen; only then there is one to let go on."""
    monkeypatch.setattr("writebehind.remedies._STARTS_S", 0.0)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            advice = of_redis(RedisUnavailableError(), process.pid).advice
            assert ("is not stopped" in advice, "kill" in advice) == (True, False)
            process.send_signal(signal.SIGSTOP)
            wait_until(
                lambda: "is stopped" in of_redis(RedisUnavailableError(), process.pid).advice, "it to be seen"
            )
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("seen", "found", "advice"),
    [
        (
            {"is_stopped": True},
            "the listener h (process 7) is stopped",
            "`kill -CONT 7` on its host lets it go on",
        ),
        ({"alive_seconds_ago": 4.0}, "no sign of life for 4 s: frozen, busy", "a frozen one go on"),
        ({"alive_seconds_ago": 40.0}, "silent for 40 s, so it does not run", "start `writebehind listen`"),
        ({"alive_seconds_ago": 40.0, "pid": None}, "silent for 40 s", "look for h: `kill -CONT PID`"),
    ],
)
def test_a_listener_that_does_nothing(seen, found, advice):
    """Whoever only looks at what is to be done has to hear of it, too."""
    listener = {"leader": "h", "pid": 7, "is_stopped": False, "alive_seconds_ago": 0.4} | seen
    (remedy,) = told(listener=listener | {"is_silent": is_listener_away(listener)})
    assert found in remedy.found
    assert advice in remedy.advice
    assert remedy.runbook.endswith("#writebehindlistenersilent")


def test_a_listener_that_is_at_work_is_left_alone():
    """So is one that could note nothing as Redis was away until just now."""
    listener = {"leader": "h", "pid": 7, "is_stopped": False, "alive_seconds_ago": 0.4, "error": None}
    listener["heard_seconds_ago"] = 0.6
    assert [] == told(listener=listener | {"is_silent": is_listener_away(listener)})
    outage = Outage(began_s=24.0, ended_s=1.0)
    assert not is_listener_away(listener | {"alive_seconds_ago": 25.0}, outage)
    assert is_listener_away(listener | {"is_stopped": True}, outage)


def test_a_redis_that_cannot_write_its_file_comes_first():
    """It refuses all writes: a cap that is met, and workers that persist nothing, follow from it."""
    file, cap = told(file_fails=True, seconds_until_cap=0, cap="memory")
    assert ("redis", "refused") == (file.about, cap.about)
    assert "its disk" in file.advice


@pytest.mark.parametrize(
    ("error", "breaker", "is_away"),
    [
        (None, "closed", False),
        ("", "closed", False),
        ("it does not answer", "closed", True),
        (None, "open", True),
        (None, "half-open", True),
        (None, None, False),
    ],
)
def test_a_mongodb_that_is_away(error, breaker, is_away):
    """All views go by the same; a breaker that is not known, as Redis does not say it, says nothing of MongoDB."""
    assert is_away == is_mongodb_away(error, breaker)
