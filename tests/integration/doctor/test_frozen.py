"""A server or process that is frozen is named itself, and nobody is told to start a second one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import pytest

from tests.proxy import Proxy
from tests.servers import freeze, resume
from tests.tiers import long
from tests.waiting import wait_until
from writebehind import Pipeline, connect
from writebehind.change_stream.listener_state import ListenerState
from writebehind.flushing.deletion_audit import AUDIT
from writebehind.history.points import Point
from writebehind.local.embedded import EmbeddedRedis
from writebehind.operations.doctor import Finding, Level, examine, processes
from writebehind.process_identity import mark
from writebehind.reconcile.reconciler import RECONCILE
from writebehind.redis import keys
from writebehind.redis.shared.attendance import BEAT, EXPORTER
from writebehind.redis.shared.metrics import SWEEP
from writebehind.settings.names import QUEUES
from writebehind.warming.hot_keys import DECAY
from writebehind.warming.warmer import WARM

#: Answers of a server that runs come sooner than that, ms.
TIMEOUT_MS = 500

HEALTHY = {"leader": "here", "lag_s": 0.2, "error": None, "pid": 4711, "is_stopped": False, "is_silent": False}


@pytest.fixture
def frozen(server: EmbeddedRedis, settings) -> Iterator[Pipeline]:
    """A pipeline whose Redis, which is its broker too, is frozen."""
    changes = {"redis_url": server.url, "broker_url": "", "redis_timeout_ms": TIMEOUT_MS}
    with connect(settings.model_copy(update=changes)) as pipeline:
        freeze(server)
        try:
            yield pipeline
        finally:
            resume(server)


def failures(pipeline: Pipeline) -> dict[str, Finding]:
    return {one.check: one for one in examine(pipeline) if one.level is Level.FAILURE}


@pytest.mark.parametrize("named", ["", "redis://{address}/1"])
def test_a_frozen_redis_that_is_the_broker_too(frozen, server, named):
    """It is one server, which is to be looked at: nothing says to start it, as it runs."""
    broker_url = named.format(address=f"127.0.0.1:{server.port}")
    frozen.settings = frozen.settings.model_copy(update={"broker_url": broker_url})
    found = failures(frozen)
    assert "the same server as Redis" in found["broker"].found
    for one in ("redis", "broker"):
        assert "start it" not in found[one].advice, found[one]
        assert "start no other on its data" in found[one].advice, found[one]


def test_a_frozen_broker_of_its_own(patient, server, tmp_path):
    """It is not to be started either."""
    with EmbeddedRedis(tmp_path) as other:
        patient.settings = patient.settings.model_copy(update={"broker_url": other.url})
        freeze(other)
        try:
            found = failures(patient)["broker"]
        finally:
            resume(other)
    assert ("same server" in found.found, "start no other" in found.advice) == (False, True), found
    assert "BROKER_URL" in found.advice


def test_a_mongodb_that_hangs(patient, mongo):
    """As with Redis: that nothing refuses a connection is no sign that it has ended."""
    with Proxy(mongo.port) as way:
        way.hang()
        url = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
        with connect(patient.settings.model_copy(update={"mongodb_url": url})) as pipeline:
            found = failures(pipeline)["mongodb"]
    assert "start no other" in found.advice, found
    assert "MONGODB_URL" in found.advice


@pytest.mark.parametrize("heard_s", [None, 6.0])
def test_a_frozen_listener(heard_s):
    """It is told apart from one that waits for MongoDB, which notes each second that it lives."""
    frozen = HEALTHY | {"alive_seconds_ago": 5.5, "heard_seconds_ago": heard_s, "is_silent": True}
    one = processes.listener(frozen)
    assert Level.WARNING is one.level
    assert one.found.startswith("the listener here (process 4711) has shown no sign of life for 6 s"), one
    assert "`kill -CONT 4711`" in one.advice
    assert "MongoDB" not in one.found + one.advice

    waits = processes.listener(HEALTHY | {"alive_seconds_ago": 1.0, "heard_seconds_ago": 6.0})
    assert "MongoDB does not answer it" in waits.found


def test_a_stopped_listener():
    """It is seen at once by who looks on its machine, with its process."""
    process = Popen(["sleep", "600"])
    try:
        now = 1_000_000
        noted = ListenerState(leader="here", at_ms=now, alive_ms=now, heard_ms=now, process=mark(process.pid))
        assert Level.OK is processes.listener(noted.as_dict(now)).level
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: noted.as_dict(now)["is_stopped"], "it to be stopped", 5)
        one = processes.listener(noted.as_dict(now))
    finally:
        process.kill()
        process.wait()
    assert one.found.startswith(f"the listener here (process {process.pid}) is stopped")
    assert f"`kill -CONT {process.pid}`" in one.advice


@contextmanager
def at_work(pipeline: Pipeline, role: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Popen]:
    """A process that is at work in a role."""
    process = Popen(["sleep", "600"])
    try:
        with monkeypatch.context() as patched:
            patched.setattr("writebehind.redis.shared.attendance.mark", lambda: mark(process.pid))
            pipeline.store.attendance.note(role)
        yield process
    finally:
        process.kill()
        process.wait()


def stop(process: Popen, role: str, pipeline: Pipeline) -> None:
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: pipeline.status()[role]["is_stopped"], "it to be stopped", 5)


def to_do(pipeline: Pipeline) -> dict[str, str]:
    """What is to be done, but for queues that nobody consumes."""
    steps = pipeline.status()["to_do"]
    return {one["about"]: one["advice"] for one in steps if one["condition"] not in {"no-worker", "queue"}}


def test_a_stopped_beat(patient, monkeypatch, caplog):
    """The status, the doctor and the log name its process, and nobody is told to start a second one."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    patient.maintenance.sweep()
    recorder = patient.recorder()
    recorder.step()
    with at_work(patient, BEAT, monkeypatch) as process:
        assert ({}, Level.OK) == (to_do(patient), found_of(patient, "beat").level)
        stop(process, BEAT, patient)
        one = found_of(patient, "beat")
        assert (Level.WARNING, True) == (
            one.level,
            f"process {process.pid} on {socket.gethostname()} is stopped" in one.found,
        )
        assert one.advice.startswith(f"`kill -CONT {process.pid}` lets it go on")
        assert {"beat": one.advice} == to_do(patient)
        recorder._crew_seen = float("-inf")
        recorder.step()
        recorder.step()
        assert ["beat_silent"] == events(caplog)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: not to_do(patient), "it to go on", 5)
        recorder._crew_seen = float("-inf")
        recorder.step()
        assert ["beat_silent", "beat_back"] == events(caplog)


def test_a_system_that_is_started_again_waits_for_its_first_sweep(patient, monkeypatch, caplog):
    """Its exporter blames nobody for sweeps that are missing since before it began."""
    clock = [1_000.0]
    monkeypatch.setattr("writebehind.history.recorder.monotonic", lambda: clock[0])
    ran(patient, SWEEP, 24)
    recorder = patient.recorder()
    for watched_s, told in ((0, []), (15, []), (25, ["beat_silent"])):
        clock[0] = 1_000.0 + watched_s
        assert recorder.step()
        assert told == events(caplog)


def test_a_beat_that_may_be_frozen_elsewhere(patient, monkeypatch):
    """It counts as away after four intervals; its process is named, and starting it is for one that has ended."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    told = b'{"seconds": 0.1, "outcome": {}, "error": ""}'
    monkeypatch.setattr(processes, "MOST_PATIENCE_S", 0)
    with at_work(patient, BEAT, monkeypatch) as process:
        wire, now = patient.store._wire, patient.store.now_ms()
        for one in wire.call("ZRANGE", keys.OBSERVED, 0, -1):
            wire.call("ZADD", keys.OBSERVED, now - 25_000, one)
        for ago_s, is_away in ((16, False), (24, True)):
            patient.store._wire.call(
                "HSET", keys.RUNS, SWEEP, b"%d %b" % (patient.store.now_ms() - 1000 * ago_s, told)
            )
            assert is_away is ("beat" in to_do(patient)) is (found_of(patient, "beat").level is Level.WARNING)
        advice = to_do(patient)["beat"]
    assert to_do(patient)["beat"].startswith("start beat as in the Procfile")  # it has ended
    assert f"`kill -CONT {process.pid}` lets a frozen one go on; one that has ended is to be started" in advice
    patient.store.workers.gone("worker@here")
    assert to_do(patient)["beat"].startswith("start beat and the maintenance worker")


def test_a_stopped_exporter(patient, monkeypatch, caplog):
    """Its process is named; the log has it of the worker that sweeps."""
    patient.recorder().step()
    with at_work(patient, EXPORTER, monkeypatch) as process:
        assert {} == to_do(patient)
        stop(process, EXPORTER, patient)
        one = found_of(patient, "exporter")
        assert (Level.WARNING, True) == (
            one.level,
            f"process {process.pid} on {socket.gethostname()} is stopped" in one.found,
        )
        assert {"exporter": one.advice} == to_do(patient)
        assert one.advice.startswith(f"`kill -CONT {process.pid}` lets it go on")
        for _ in range(2):
            patient.maintenance.sweep()
        assert ["exporter_silent"] == events(caplog)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: not to_do(patient), "it to go on", 5)
        patient.maintenance.sweep()
        assert ["exporter_silent", "exporter_back"] == events(caplog)


def test_nobody_is_sent_to_a_process_that_has_ended(patient, monkeypatch):
    """Its id may be another one's by now."""
    with at_work(patient, EXPORTER, monkeypatch) as process:
        assert process.pid == patient.store.attendance.look(patient.store.now_ms()).by_role[EXPORTER].pid
        process.kill()
        process.wait(10)
        assert patient.store.attendance.look(patient.store.now_ms()).by_role[EXPORTER].pid is None


def ran(pipeline: Pipeline, task: str, ago_s: float) -> None:
    """Have a periodic task ended so long ago."""
    told = b'{"seconds": 0.1, "outcome": {}, "error": ""}'
    pipeline.store._wire.call("HSET", keys.RUNS, task, b"%d %b" % (pipeline.store.now_ms() - 1000 * ago_s, told))


def record(pipeline: Pipeline, ago_s: float) -> None:
    """Have the exporter recorded the history so long ago."""
    point = Point(pipeline.store.now_ms() / 1000 - ago_s)
    pipeline.store._wire.call("LPUSH", keys.HISTORY, point.dump())


def test_sweeps_that_beat_asks_for_and_no_worker_carries_out(patient, monkeypatch):
    """Nobody is sent to beat, which is at work: the worker is named that does not do what it asks for."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    monkeypatch.setattr(processes, "MOST_PATIENCE_S", 0)
    ran(patient, SWEEP, 24)
    patient.store.attendance.note(BEAT)
    one = found_of(patient, "beat")
    assert (Level.WARNING, True) == (one.level, one.found.endswith("s ago, and no worker carries it out")), one
    assert one.advice.startswith("look at the log of worker@here, and whether messages wait in the queue")
    assert {"beat": one.advice} == to_do(patient)


@pytest.mark.parametrize(
    ("task", "late_s"),
    [(RECONCILE, 100), *(pytest.param(*one, marks=long) for one in ((WARM, 150), (DECAY, 150), (AUDIT, 100)))],
)
def test_a_periodic_task_that_does_not_run_while_sweeps_do(patient, task, late_s):
    """Each place says so, of what one decides: the status, its table, and the doctor."""
    patient.store.workers.record_proof("worker@here", QUEUES)
    patient.maintenance.sweep()
    ran(patient, task, 40)
    assert {} == to_do(patient)
    assert [] == [*tasks_of(patient)]
    ran(patient, task, late_s)
    [one] = tasks_of(patient)
    assert (Level.WARNING, f"task {task}", {one.check: one.advice}) == (one.level, one.check, to_do(patient))
    assert "worker@here" in one.advice
    assert patient.status()["periodic"][task]["is_late"]
    ran(patient, SWEEP, 100)  # then all are missing, for one reason
    assert ["beat"] == [*to_do(patient)]
    assert [] == [*tasks_of(patient)]


def test_an_audit_that_waits_for_the_end_of_a_pause_is_not_late(patient):
    """It runs with each sweep, and says that it has nothing to do."""
    patient.maintenance.sweep()
    ran(patient, AUDIT, 100)
    patient.store.pauses.begin("", for_ms=None)
    patient.maintenance.audit_deletions()
    run = patient.status()["periodic"][AUDIT]
    assert ({"paused": True}, False) == (run["outcome"], run["is_late"])


def tasks_of(pipeline: Pipeline) -> list[Finding]:
    return [one for one in processes.check(pipeline) if one.check.startswith("task ")]


def outage(pipeline: Pipeline, began_s: float, ended_s: float) -> None:
    """Have Redis been away: nobody has noted anything from so long ago until so long ago, seconds."""
    wire, now = pipeline.store._wire, pipeline.store.now_ms()
    wire.call("ZADD", keys.OBSERVED, now - 1000 * ended_s, f"redis-away {now - round(1000 * began_s)}")


SINGLE = ("beat", "exporter", "listener")


def listened(pipeline: Pipeline, ago_s: float) -> None:
    """Have the listener noted so long ago that it lives."""
    at_ms = pipeline.store.now_ms() - round(1000 * ago_s)
    noted = ListenerState(leader="here", at_ms=at_ms, alive_ms=at_ms, heard_ms=at_ms)
    pipeline.store._wire.call("SET", keys.LISTENER, noted.dump())


def who_is_missing(pipeline: Pipeline) -> set[str]:
    """Who is to be seen to, of which the status, what is to be done, and the doctor say the same."""
    status = pipeline.status()
    flags = {one for one in SINGLE if status[one] and status[one]["is_silent"]}
    flags |= {f"task {name}" for name, run in status["periodic"].items() if run["is_late"] and name != SWEEP}
    told = {one["about"] for one in status["to_do"]}
    found = {one.check for one in processes.check(pipeline) if one.level is not Level.OK}
    assert told <= flags, (told, flags)
    assert told == {one for one in found if one in SINGLE or one.startswith("task ")}, (told, found)
    return told


def test_who_was_silent_in_an_outage_of_redis_is_given_time_after_it(patient, monkeypatch):
    """Nobody could do anything meanwhile, however long it was."""
    monkeypatch.setattr(processes, "MOST_PATIENCE_S", 0)
    patient.store.workers.record_proof("worker@here", QUEUES)
    patient.store._wire.call("ZADD", keys.OBSERVED, patient.store.now_ms() - 302_000, "consistency")
    record(patient, ago_s=302)
    listened(patient, ago_s=302)
    for task in (SWEEP, RECONCILE, WARM):
        ran(patient, task, 304)
    assert {*SINGLE} == who_is_missing(patient)
    outage(patient, began_s=301, ended_s=1)
    assert set() == who_is_missing(patient)
    patient.maintenance.sweep()
    assert set() == who_is_missing(patient)
    monkeypatch.setattr("writebehind.silence.RETURNS_S", -1.0)
    assert {"exporter", "listener", f"task {RECONCILE}", f"task {WARM}"} == who_is_missing(patient)


@pytest.mark.parametrize(("seen_s", "is_silent"), [(2, True), (7, False), (12, True)])
def test_a_listener_is_given_time_where_nobody_has_seen_redis_either(patient, seen_s, is_silent):
    """It is told once others have; and nothing excuses for long that all are gone."""
    listened(patient, ago_s=seen_s + 0.5 if not is_silent else 8)
    patient.store._wire.call("ZADD", keys.OBSERVED, patient.store.now_ms() - 1000 * seen_s, "redis-seen")
    assert is_silent is patient.status()["listener"]["is_silent"]


def test_who_is_waited_for_after_an_outage_of_redis(patient, monkeypatch):
    """Its worker is no fault, and of beat nobody says that its sweeps run: nothing has been seen of it yet."""
    monkeypatch.setattr(processes, "MOST_PATIENCE_S", 0)
    wire, now = patient.store._wire, patient.store.now_ms()
    patient.store.workers.record_proof("w@here", QUEUES)
    wire.call("ZADD", keys.WORKERS, now - 304_000, "w@here")
    wire.call("ZADD", keys.CONSUMERS, *(part for queue in QUEUES for part in (now - 304_000, f"w@here {queue}")))
    ran(patient, SWEEP, 304)
    ran(patient, RECONCILE, 3_000)
    before = patient.status()
    assert ([*QUEUES], "critical") == (before["unconsumed"], before["to_do"][0]["severity"])
    outage(patient, began_s=301, ended_s=1)
    status = patient.status()
    assert ([], [], ["w@here"]) == (
        status["unconsumed"],
        status["silent_workers"],
        [one["worker"] for one in status["awaited_workers"]],
    )
    assert [] == status["to_do"]
    told = {one.check: one for one in processes.check(patient)}
    for check in ("worker w@here", "beat", *(f"queue {queue}" for queue in QUEUES)):
        assert Level.OK is told[check].level, told[check]
        assert "wait" in told[check].found, told[check]


def test_an_exporter_that_pauses_is_not_silent(patient):
    """Where recording takes much of a core it records seldom, and notes meanwhile that it is at work."""
    record(patient, ago_s=200)
    assert "exporter" in to_do(patient)
    patient.store.attendance.note(EXPORTER)
    exporter = patient.status()["exporter"]
    assert (False, True) == (exporter["is_silent"], exporter["recorded_seconds_ago"] >= 200)
    assert "exporter" not in to_do(patient)


@pytest.mark.parametrize(
    ("began_s", "ended_s"),
    [(41, 1), (650, 610), (-3560, -3600)],
    ids=["who was silent before it", "who fell silent after it", "one that lies ahead, as a clock was set back"],
)
def test_an_outage_of_redis_excuses_only_what_began_in_it(patient, monkeypatch, began_s, ended_s):
    """Else one that is seen again and again would hide for ever who is gone."""
    monkeypatch.setattr(processes, "MOST_PATIENCE_S", 0)
    monkeypatch.setattr("writebehind.silence.RETURNS_S", 3600)
    patient.store.workers.record_proof("worker@here", QUEUES)
    record(patient, ago_s=600)
    listened(patient, ago_s=600)
    ran(patient, SWEEP, 600)
    outage(patient, began_s, ended_s)
    assert {*SINGLE} == who_is_missing(patient)


def test_the_first_sweep_after_an_outage_of_redis_blames_nobody(patient, monkeypatch, caplog):
    """It may come before the exporter records again. That one is back once it has recorded, not once excused."""
    record(patient, ago_s=40)
    wire, now = patient.store._wire, patient.store.now_ms()
    patient.store.attendance.note(BEAT)
    wire.call("ZADD", keys.OBSERVED, now - 39_000, "redis-seen")
    patient.store.attendance._saw_s = float("-inf")
    patient.maintenance.sweep()
    assert ([], False) == (events(caplog), patient.status()["exporter"]["is_silent"])
    with monkeypatch.context() as patched:
        patched.setattr("writebehind.silence.RETURNS_S", -1.0)
        patient.maintenance.sweep()
    patient.maintenance.sweep()
    assert ["exporter_silent"] == events(caplog)
    record(patient, ago_s=0)
    patient.maintenance.sweep()
    assert ["exporter_silent", "exporter_back"] == events(caplog)


def found_of(pipeline: Pipeline, check: str) -> Finding:
    return next(one for one in processes.check(pipeline) if one.check == check)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.event for one in caplog.records if hasattr(one, "event")]


def test_a_frozen_listener_is_a_line_of_the_log(patient, caplog):
    """As a worker sees that sweeps; one that is just started anew is none."""
    for ago_s in (5, 20, 20, 0):
        listened(patient, ago_s)
        patient.maintenance.sweep()

    assert ["listener_silent", "listener_back"] == [one for one in events(caplog) if one.startswith("listener")]
