"""Workers are known by what they do: one that does nothing is named, with its queues, within 20 s."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from subprocess import Popen
from urllib.parse import urlsplit

import pytest
from celery import Celery

from tests.integration.doctor.test_start import running, variables
from tests.proxy import Proxy
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.celery import install
from writebehind.celery.names import PING
from writebehind.celery.pings import EVERY_S, MOST_S, Pings, queue_of
from writebehind.history.events import EventLog
from writebehind.local.embedded import EmbeddedRedis
from writebehind.operations.doctor import Level, processes
from writebehind.operations.idle import NotDrainedError, refuse_if_workers
from writebehind.process_identity import mark
from writebehind.redis import keys
from writebehind.redis.shared.metrics import SWEEP
from writebehind.redis.shared.workers import ENDED_FOR_S, SILENT_FOR_MS, WORKER_LIFE_MS

#: What is asked for: so soon after it has stopped working a worker is shown as one that does not, seconds.
SHOWN_WITHIN_S = 20
STUCK_APP = """
import os, time
from celery import Celery
from writebehind.celery import install

app = Celery("stuck")
install(app)


@app.task(name="stuck.block")
def block():
    time.sleep(600)


def tick():
    with open(os.environ["TICKS"], "a") as file:
        file.write(f"{time.time()} ")


@app.task(name="stuck.brief")
def brief():
    tick()
    time.sleep(0.5)
    tick()
"""


def command(name: str, *queues: str, app: str = "", pool: str = "threads", size: int = 1) -> list[str]:
    start = ["-m", "celery", "-A", app] if app else ["-m", "writebehind", "run"]
    options = ["-Q", ",".join(queues), "-n", f"{name}@test", "--pool", pool, "-c", str(size)]
    return [sys.executable, *start, "worker", *options, "--without-gossip", "--without-mingle"]


def silent(pipeline: Pipeline) -> dict[str, list[str]]:
    """The silent workers with their queues, as the status has them and the doctor warns of them."""
    with pipeline.store.metrics.record_run(SWEEP):  # else the doctor waits for it
        shown = {one["worker"]: list(one["queues"]) for one in pipeline.status()["silent_workers"]}
    warned = {one.check for one in processes.check(pipeline) if one.level is Level.WARNING}
    assert {f"worker {name}" for name in shown} == {one for one in warned if one.startswith("worker ")}
    return shown


def busy(pipeline: Pipeline) -> dict[str, list[str]]:
    """The busy workers with their queues, as the status has them and the doctor tells of them."""
    shown = {one["worker"]: list(one["queues"]) for one in pipeline.status()["busy_workers"]}
    told = {one.check for one in processes.check(pipeline) if one.level is Level.OK}
    assert {f"worker {name}" for name in shown} == {one for one in told if one.startswith("worker ")}
    return shown


def at_work(pipeline: Pipeline) -> set[str]:
    return set(pipeline.store.workers.alive())


@dataclass(frozen=True)
class Crew:
    """Workers, by name, and the way of one of them, `away`, to its broker."""

    workers: dict[str, Popen]
    broker: Proxy


@pytest.fixture
def crew(patient, tmp_path) -> Iterator[Crew]:
    """Six of them, all at work."""
    (tmp_path / "stuckapp.py").write_text(STUCK_APP)
    env = variables(patient.settings)
    own = env | {"PYTHONPATH": str(tmp_path)}
    port = patient.store._wire._servers.place("")._pool.connection_kwargs["port"]
    with Proxy(port) as broker, ExitStack() as stack:
        away = own | {"BROKER_URL": f"redis://127.0.0.1:{broker.port}/0"}
        starts = {
            "well": (command("well", "flush"), env),
            "frozen": (command("frozen", "refresh"), env),
            "away": (command("away", "flush", "away", app="stuckapp", size=2), away),
            "forked": (command("forked", "maintenance", "forked", app="stuckapp", pool="prefork"), own),
            "full": (command("full", "maintenance", "full", app="stuckapp"), own),
            "solo": (command("solo", "solo", app="stuckapp", pool="solo"), own),
        }
        workers = {
            name: stack.enter_context(running(*start, tmp_path / f"{name}.log")) for name, start in starts.items()
        }
        wait_until(lambda: at_work(patient) == {f"{name}@test" for name in workers}, "all workers", 60)
        wait_until(lambda: patient.status()["consumers"]["maintenance"], "their queues", 10)
        yield Crew(workers, broker)
        for name in ("away", "forked", "full", "solo"):  # they would wait for their tasks
            os.killpg(workers[name].pid, signal.SIGKILL)


def hold(pipeline: Pipeline, names: list[str]) -> None:
    """Give each of these a task that does not end."""
    client = Celery("client", broker=pipeline.settings.redis_url, set_as_current=False)
    for name in names:
        client.send_task("stuck.block", queue=name.removesuffix("@test"))
    wait_until(lambda: pipeline.store.workers.look().holding == names, "the tasks to begin", 10)


def see_them_missed(pipeline: Pipeline) -> None:
    """Wait until nobody counts on `frozen` and `away` any more, and those that are held are busy."""
    began = time.monotonic()
    well = {"well@test", "full@test", "solo@test", "forked@test"}
    wait_until(lambda: at_work(pipeline) == well, "the others to be missed", SHOWN_WITHIN_S)
    assert time.monotonic() - began > 5  # the proof of before is not forgotten at once
    assert all(15 <= one.seconds_ago < SHOWN_WITHIN_S + 5 for one in pipeline.store.workers.look().silent)
    assert {"frozen@test": ["refresh"], "away@test": ["flush"]} == silent(pipeline)
    lasting = {"full@test": ["maintenance"], "forked@test": ["maintenance"], "solo@test": []}
    wait_until(lambda: len(pipeline.store.workers.look().busy) == 3, "their proof to be old", SHOWN_WITHIN_S)
    assert lasting == busy(pipeline)


def test_workers_that_do_nothing_are_named(patient, crew):
    """One is frozen, one has lost its broker but not Redis, though it holds a task; an idle one goes on working.

    Those whose pool is full of long tasks are busy, whatever the pool, until they are frozen. All others work
    again as soon as they can.
    """
    assert {} == silent(patient)
    holding = ["away@test", "forked@test", "full@test", "solo@test"]
    hold(patient, holding)
    crew.broker.hang()
    crew.workers["frozen"].send_signal(signal.SIGSTOP)
    see_them_missed(patient)
    assert holding == patient.store.workers.look().holding
    with pytest.raises(
        NotDrainedError, match="away@test, forked@test, frozen@test, full@test, solo@test, well@test"
    ):
        refuse_if_workers(patient.store)
    status = patient.status()
    assert (["refresh"], ["well@test"]) == (status["unconsumed"], status["consumers"]["flush"])
    assert all(15 <= one["seconds"] < 60 for one in status["busy_workers"])

    crew.broker.flow()
    crew.workers["frozen"].send_signal(signal.SIGCONT)
    crew.workers["forked"].send_signal(signal.SIGSTOP)
    back = {"well@test", "full@test", "solo@test", "frozen@test", "away@test"}
    wait_until(lambda: at_work(patient) == back, "those that can to work again", MOST_S + 20)
    assert ["forked@test"] == [*silent(patient)]
    holding.remove("forked@test")
    wait_until(lambda: patient.store.workers.look().holding == holding, "what it holds to be old", SHOWN_WITHIN_S)


def test_a_worker_that_is_long_gone_is_not_told_of(patient):
    """It was killed a day ago, and nobody has taken its name since; one that was killed today is."""
    now = patient.store.now_ms()
    wire = patient.store._wire
    ages = {"old": SILENT_FOR_MS + 1_000, "killed": 60_000, "well": 1_000, "edge": WORKER_LIFE_MS + 1_000}
    for name, age in ages.items():
        wire.call("ZADD", keys.WORKERS, now - age, name)
    wire.call("ZADD", keys.CONSUMERS, now - 60_000, "killed refresh", now - 60_000, "killed flush")
    found = patient.store.workers.look().silent
    assert [("edge", ()), ("killed", ("flush", "refresh"))] == [(one.worker, one.queues) for one in found]
    assert 60 <= found[1].seconds_ago < 70
    patient.store.workers.gone("killed")
    assert ["edge"] == [one.worker for one in patient.store.workers.look().silent]


def test_a_stopped_worker_is_named_at_once(patient, monkeypatch, caplog):
    """Whoever looks on its machine sees it, long before its proof is old, with its process and what to do."""
    workers, process = patient.store.workers, Popen(["sleep", "600"])
    name, events = "flush@test", EventLog()
    try:
        with monkeypatch.context() as patched:
            patched.setattr("writebehind.redis.shared.workers.mark", lambda: mark(process.pid))
            workers.record_proof(name, ["flush"])
        events.look_at_workers(workers.look())
        assert ({}, [name]) == (silent(patient), patient.status()["consumers"]["flush"])
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not workers.alive(), "it to be stopped", 5)

        status = patient.status()
        (told,) = status["silent_workers"]
        assert (name, process.pid, True, True) == tuple(
            told[x] for x in ("worker", "pid", "is_here", "is_stopped")
        )
        assert told["seconds_ago"] < WORKER_LIFE_MS / 1000
        assert ([], 0) == (status["consumers"]["flush"], status["workers"])
        (found,) = (one for one in processes.check(patient) if one.check == f"worker {name}")
        assert f"is stopped: process {process.pid} on test" in found.found
        assert f"`kill -CONT {process.pid}` on test lets it go on" in found.advice
        assert found.advice in [one["advice"] for one in status["to_do"]]
        (queue,) = (one for one in processes.check(patient) if one.check == "queue flush")
        assert queue.advice.startswith(f"see to {name}, which consumed it and is silent; or start a worker")
        with pytest.raises(NotDrainedError, match=name):  # it may go on at any time
            refuse_if_workers(patient.store)
        events.look_at_workers(workers.look())
        assert f"`kill -CONT {process.pid}`" in caplog.text

        process.send_signal(signal.SIGCONT)
        wait_until(lambda: workers.alive() == [name], "it to go on", 5)
        assert {} == silent(patient)
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_was_killed_has_ended(patient, monkeypatch):
    """Whoever looks on its machine says so, and not that it is silent; once it is back all of it is forgotten."""
    workers, wire = patient.store.workers, patient.store._wire
    process = Popen(["sleep", "600"])
    try:
        with monkeypatch.context() as patched:
            patched.setattr("writebehind.redis.shared.workers.mark", lambda: mark(process.pid))
            workers.record_proof("killed@test", ["flush"])
        wire.call("ZADD", keys.WORKERS, patient.store.now_ms() - 60_000, "killed@test")
        assert {"killed@test": ["flush"]} == silent(patient)
        wire.call("ZADD", keys.WORKERS, patient.store.now_ms(), "killed@test")
        assert {} == silent(patient)
    finally:
        process.kill()
        process.wait()

    status = patient.status()  # at once, though its proof is not old
    assert (0, ["flush"]) == (status["workers"], [one for one in status["unconsumed"] if one == "flush"])
    assert {} == silent(patient)
    (ended,) = patient.status()["ended_workers"]
    assert ("killed@test", ("flush",)) == (ended["worker"], ended["queues"])
    (found,) = (one for one in processes.check(patient) if one.check == "worker killed@test")
    assert (Level.OK, True) == (found.level, found.found.startswith("it has ended without a word"))
    wire.call("ZADD", keys.WORKERS, patient.store.now_ms() - round(1000 * ENDED_FOR_S) - 1_000, "killed@test")
    assert ([], []) == (patient.status()["ended_workers"], patient.status()["silent_workers"])
    workers.record_proof("killed@test", ["flush"])
    assert (["killed@test"], []) == (workers.alive(), workers.look().ended)
    workers.gone("killed@test")
    assert [] == wire.call("ZRANGE", keys.PROCESSES, 0, -1)


class Sent:
    """An application that keeps what it is to publish, and a consumer that takes any queue."""

    def __init__(self) -> None:
        self.tasks: list[tuple] = []
        self.queues: list[str] = []
        self.task_consumer = self

    def send_task(self, name, queue, **_options) -> None:
        self.tasks.append((name, queue.name))

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
    assert pings.send_if_idle(sent, "w@h", None)
    assert [(PING, queue_of("w@h").name)] == sent.tasks
    assert [queue_of("w@h").name] == sent.queues
    for _ in range(20):
        clock(2)
        assert not pings.send_if_idle(sent, "w@h", 1.0)
    assert pings.send_if_idle(sent, "w@h", EVERY_S)
    assert 1 == len(sent.queues)


def test_pings_that_nobody_answers_become_seldom(clock):
    """So they do not pile up in the broker; once one is answered, they come as before."""
    sent = Sent()
    pings, seconds = Pings(sent), 0
    for second in range(0, 3_600, 2):
        clock(2)
        pings.send_if_idle(sent, "w@h", second + 15.0)
    assert 100 < len(sent.tasks) < 3_600 / MOST_S + 5
    clock(EVERY_S)
    seconds = len(sent.tasks)
    assert not pings.send_if_idle(sent, "w@h", 1.0)
    clock(EVERY_S)
    assert pings.send_if_idle(sent, "w@h", EVERY_S + 1)
    assert seconds + 1 == len(sent.tasks)


def test_a_call_in_place_makes_no_worker(patient):
    """A web process that calls a task by `apply`, or eagerly as tests do, is none, and writes nothing."""
    app = Celery("shop", set_as_current=False)
    install(app, patient.settings)

    @app.task(name="shop.called")
    def called() -> int:
        return 1

    assert 1 == called.apply().get(disable_sync_subtasks=False)
    app.conf.task_always_eager = True
    assert 1 == called.delay().get(disable_sync_subtasks=False)
    assert [] == patient.store.workers.alive() == patient.store.workers.look().holding


def test_tasks_do_not_wait_for_redis(patient, tmp_path):
    """Redis hangs and the broker does not: tasks of an application go on at their pace, in any pool."""
    (tmp_path / "stuckapp.py").write_text(STUCK_APP)
    with EmbeddedRedis(tmp_path) as other, ExitStack() as stack:
        redis = stack.enter_context(Proxy(urlsplit(patient.settings.redis_url).port))
        url = f"redis://127.0.0.1:{redis.port}/0"
        env = variables(patient.settings.model_copy(update={"redis_url": url})) | {"BROKER_URL": other.url}
        for pool in ("threads", "prefork"):
            name, env_of = f"apart-{pool}", env | {"PYTHONPATH": str(tmp_path), "TICKS": str(tmp_path / pool)}
            began = command(name, pool, app="stuckapp", pool=pool)
            stack.enter_context(running(began, env_of, tmp_path / f"{pool}.log"))
        wait_until(lambda: len(at_work(patient)) == 2, "the workers", 60)
        redis.hang()
        client = Celery("client", broker=other.url, set_as_current=False)
        for pool in ("threads", "prefork"):
            for _ in range(6):  # for longer than what a worker has told lately counts
                client.send_task("stuck.brief", queue=pool)
        for pool in ("threads", "prefork"):
            ticks = tmp_path / pool
            wait_until(lambda ticks=ticks: len(ticks.read_text().split()) == 12, "all tasks", 30)
            times = [float(one) for one in ticks.read_text().split()]
            pauses = [later - sooner for sooner, later in pairwise(times)][1::2]
            assert max(pauses) < 1.5, (pool, pauses)
