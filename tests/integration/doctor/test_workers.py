"""Workers are known by what they do: one that does nothing is named, with its queues, within 20 s."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack

import pytest
from celery import Celery

from tests.integration.doctor.test_start import running, variables
from tests.proxy import Proxy
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.celery.names import PING
from writebehind.celery.pings import EVERY_S, MOST_S, Pings, queue_of
from writebehind.operations.doctor import Level, processes
from writebehind.redis import keys
from writebehind.redis.shared.metrics import SILENT_FOR_MS, WORKER_LIFE_MS

#: What is asked for: so soon after it has stopped working a worker is shown as one that does not, seconds.
SHOWN_WITHIN_S = 20
STUCK_APP = """
import time
from celery import Celery
from writebehind.celery import install

app = Celery("stuck")
install(app)


@app.task(name="stuck.block")
def block():
    time.sleep(600)
"""


def command(name: str, *queues: str, app: str = "") -> list[str]:
    start = ["-m", "celery", "-A", app] if app else ["-m", "writebehind", "run"]
    options = ["-Q", ",".join(queues), "-n", f"{name}@test", "--pool", "threads", "-c", "1"]
    return [sys.executable, *start, "worker", *options, "--without-gossip", "--without-mingle"]


def silent(pipeline: Pipeline) -> dict[str, list[str]]:
    """The silent workers with their queues, as the status has them and the doctor warns of them."""
    shown = {one["worker"]: list(one["queues"]) for one in pipeline.status()["silent_workers"]}
    warned = {one.check for one in processes.check(pipeline) if one.level is Level.WARNING}
    assert {f"worker {name}" for name in shown} == {one for one in warned if one.startswith("worker ")}
    return shown


def at_work(pipeline: Pipeline) -> set[str]:
    return set(pipeline.store.metrics.workers())


def test_workers_that_do_nothing_are_named(patient, tmp_path):
    """One is frozen, one has lost its broker but not Redis, one's pool is stuck; an idle one goes on working.

    All of them work again as soon as they can.
    """
    (tmp_path / "stuckapp.py").write_text(STUCK_APP)
    env = variables(patient.settings)
    logs = {name: tmp_path / f"{name}.log" for name in ("well", "frozen", "away", "stuck")}
    with ExitStack() as stack:
        broker = stack.enter_context(Proxy(patient.store._wire._connections._pool.connection_kwargs["port"]))
        away = env | {"BROKER_URL": f"redis://127.0.0.1:{broker.port}/0"}
        stuck = env | {"PYTHONPATH": str(tmp_path)}
        stack.enter_context(running(command("well", "flush"), env, logs["well"]))
        frozen = stack.enter_context(running(command("frozen", "refresh"), env, logs["frozen"]))
        stack.enter_context(running(command("away", "flush"), away, logs["away"]))
        stack.enter_context(running(command("stuck", "maintenance", "mine", app="stuckapp"), stuck, logs["stuck"]))
        names = {f"{name}@test" for name in logs}
        wait_until(lambda: at_work(patient) == names, "all workers", 60)
        wait_until(lambda: patient.status()["consumers"]["maintenance"], "their queues", 10)
        assert {} == silent(patient)

        broker.hang()
        frozen.send_signal(signal.SIGSTOP)
        client = Celery("client", broker=patient.settings.redis_url, set_as_current=False)
        client.send_task("stuck.block", queue="mine")
        began = time.monotonic()
        wait_until(lambda: at_work(patient) == {"well@test"}, "the others to be missed", SHOWN_WITHIN_S)
        assert time.monotonic() - began > 5  # the proof of before is not forgotten at once
        expected = {"frozen@test": ["refresh"], "away@test": ["flush"], "stuck@test": ["maintenance"]}
        assert expected == silent(patient)
        status = patient.status()
        assert (["refresh", "maintenance"], ["well@test"]) == (status["unconsumed"], status["consumers"]["flush"])
        assert all(15 <= one["seconds_ago"] < SHOWN_WITHIN_S + 5 for one in status["silent_workers"])

        broker.flow()
        frozen.send_signal(signal.SIGCONT)
        back = {"well@test", "frozen@test", "away@test"}
        wait_until(lambda: at_work(patient) == back, "those that can to work again", MOST_S + 20)
        assert ["stuck@test"] == [*silent(patient)]


def test_a_worker_that_is_long_gone_is_not_told_of(patient):
    """It was killed a day ago, and nobody has taken its name since; one that was killed today is."""
    now = patient.store.now_ms()
    wire = patient.store._wire
    ages = {"old": SILENT_FOR_MS + 1_000, "killed": 60_000, "well": 1_000, "edge": WORKER_LIFE_MS + 1_000}
    for name, age in ages.items():
        wire.call("ZADD", keys.WORKERS, now - age, name)
    wire.call("ZADD", keys.CONSUMERS, now - 60_000, "killed refresh", now - 60_000, "killed flush")
    found = patient.store.metrics.silent_workers()
    assert [("edge", ()), ("killed", ("flush", "refresh"))] == [(one.worker, one.queues) for one in found]
    assert 60 <= found[1].seconds_ago < 70
    patient.store.metrics.worker_gone("killed")
    assert ["edge"] == [one.worker for one in patient.store.metrics.silent_workers()]


class Sent:
    """An application that keeps what it is to publish, and a consumer that takes any queue."""

    def __init__(self) -> None:
        self.tasks: list[tuple] = []
        self.queues: list[str] = []
        self.task_consumer = self

    def send_task(self, name, args, queue, **_options) -> None:
        self.tasks.append((name, *args, queue.name))

    def consuming_from(self, queue: str) -> bool:
        return queue in self.queues

    def add_queue(self, queue) -> None:
        self.queues.append(queue.name)

    def consume(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on as the test says."""
    now = [1_000.0]
    monkeypatch.setattr("writebehind.celery.pings.monotonic", lambda: now[0])

    def go_on(seconds: float) -> float:
        now[0] += seconds
        return now[0]

    return go_on


def test_an_idle_worker_pings_itself_and_a_busy_one_does_not(clock):
    """By a queue of its own, which it consumes from then on."""
    sent = Sent()
    pings = Pings(sent)
    assert pings.send_if_idle(sent, "w@h", ["flush"], None)
    assert [(PING, "w@h", ["flush"], queue_of("w@h").name)] == sent.tasks
    assert [queue_of("w@h").name] == sent.queues
    for _ in range(20):
        clock(2)
        assert not pings.send_if_idle(sent, "w@h", ["flush"], 1.0)
    assert pings.send_if_idle(sent, "w@h", ["flush"], EVERY_S)
    assert 1 == len(sent.queues)


def test_pings_that_nobody_answers_become_seldom(clock):
    """So they do not pile up in the broker; once one is answered, they come as before."""
    sent = Sent()
    pings, seconds = Pings(sent), 0
    for second in range(0, 3_600, 2):
        clock(2)
        pings.send_if_idle(sent, "w@h", [], second + 15.0)
    assert 100 < len(sent.tasks) < 3_600 / MOST_S + 5
    clock(EVERY_S)
    seconds = len(sent.tasks)
    assert not pings.send_if_idle(sent, "w@h", [], 1.0)
    clock(EVERY_S)
    assert pings.send_if_idle(sent, "w@h", [], EVERY_S + 1)
    assert seconds + 1 == len(sent.tasks)
