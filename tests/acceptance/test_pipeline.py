"""HTTP in, MongoDB out: the whole system, what it does with many clients, and when its processes die."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import httpx
import psutil
import pytest

from tests.acceptance.conftest import LIMITS, System, in_threads
from tests.acceptance.variants import own_server
from tests.tiers import long
from tests.waiting import slowness, wait_until
from writebehind.celery import names
from writebehind.celery.configuration import create_app
from writebehind.celery.pings import queue_of
from writebehind.operations.doctor import Level, api
from writebehind.redis.keys import partition_keys
from writebehind.settings.installation import load_settings

log = logging.getLogger(__name__)

#: Who answers when workers are asked.
WORKERS = 2

pytestmark = pytest.mark.acceptance


def celery(system: System):
    return create_app(system.settings)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def leases(system: System) -> int:
    """How many partitions a flusher is at work in."""
    partitions = range(system.status()["partitions"])
    with system.redis() as wire:
        return wire.call("EXISTS", *(partition_keys(partition).lease for partition in partitions))


def test_a_write_is_read_at_once_and_persisted_soon(system):
    """What was acknowledged is the next answer, and within two seconds MongoDB has it with its version."""
    document = {"name": "Ada", **system.fill}
    answer = system.http.put("/v1/users/ada", json=document)

    assert answer.status_code in {200, 201}
    assert {"_id": "ada", **document} == system.http.get("/v1/users/ada").json()
    expected = {"_id": "ada", **document, "_v": answer.json()["version"]}
    wait_until(lambda: system.database.users.find_one({"_id": "ada"}) == expected, "the document in MongoDB", 2)


def test_a_pause_keeps_writes_in_redis(system):
    """All workers know it within two seconds; what is acknowledged meanwhile is in MongoDB once it is resumed."""
    system.wait_until_drained()
    paused = system.http.post("/admin/pause").json()["paused"]
    try:
        assert [None] == [one["collection"] for one in paused]
        began = time.monotonic()
        patience_s = 2 * slowness()
        wait_until(lambda: time.monotonic() - began > patience_s, "the workers to know it", 60)
        for n in range(20):
            system.http.put(f"/v1/users/paused{n}", json={"n": n, **system.fill}).raise_for_status()
        wait_until(lambda: system.status()["oldest_pending_seconds"] > 1, "the flush tasks")
        status = system.status()
        assert (20, {}) == (status["pending"], system.stored("paused"))
        assert status["not_safe_because"].startswith("paused: flushing of all collections is paused")
    finally:
        assert system.http.post("/admin/resume").json()["resumed"]
    wait_until(lambda: len(system.stored("paused")) == 20, "the documents in MongoDB", 30)
    wait_until(lambda: system.status()["safe"], "the end of it")


def test_every_queue_is_consumed(system):
    """Every queue that is named has a worker, and every task is routed to one of these; a worker has its own."""
    queues = {value for name, value in vars(names).items() if name.endswith("_QUEUE")}
    with celery(system) as app:
        answers = wait_until(
            app.control.inspect(timeout=5, limit=WORKERS).active_queues, "the workers' queues", 30
        )
        routed = {route["queue"] for route in app.conf.task_routes.values()}
        registered = wait_until(app.control.inspect(timeout=5, limit=WORKERS).registered, "the workers' tasks", 30)

    of_each = {worker: {queue["name"] for queue in some} for worker, some in answers.items()}
    assert [] == [worker for worker, some in of_each.items() if queue_of(worker).name not in some]
    consumed = set().union(*of_each.values()) - {queue_of(worker).name for worker in of_each}
    assert {"flush", "refresh", "maintenance"} == queues == consumed == routed
    for tasks in registered.values():
        assert {names.FLUSH, names.SWEEP} <= {task.split()[0] for task in tasks}


def test_many_writes_are_coalesced(system):
    """20,000 writes over 2,000 ids end as the last version of each, with less than half as many operations."""
    system.wait_until_drained()
    status = system.status()
    before, overtaken = status["totals"].get("operations", 0), status["listener"]["overtaken"]
    numbers = list(range(20_000))
    random.Random(7).shuffle(numbers)
    last: dict[str, tuple[int, int]] = {}
    lock = threading.Lock()

    def send(some: list[int]) -> None:
        items = [
            {"op": "put", "id": f"many{number % 2000}", "doc": {"n": number, **system.fill}} for number in some
        ]
        results = system.http.post("/v1/users:bulk", json=items).json()["results"]
        with lock:
            for number, one in zip(some, results, strict=True):
                last[one["id"]] = max(last.get(one["id"], (0, 0)), (one["version"], number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, [numbers[at : at + 1000] for at in range(0, 20_000, 1000)]))
    system.wait_until_drained(60)

    stored, status = system.stored("many"), system.status()
    assert len(last) == 2000
    assert {one: n for one, (_, n) in last.items()} == {one: n for one, (_, n) in stored.items()}
    # The change stream may be so late that a pending write is written once more, under the next version.
    later = [stored[one][0] - version for one, (version, _) in last.items() if stored[one][0] != version]
    assert min(later, default=1) > 0
    wait_until(
        lambda: len(later) <= system.status()["listener"]["overtaken"] - overtaken, "the listener to tell of it"
    )
    operations = status["totals"]["operations"] - before
    log.info("20,000 writes took %d MongoDB operations", operations)
    assert 2000 <= operations < 10_000


def test_no_increment_is_lost_or_counted_twice(system):
    """50 callers that add 1 forty times each end at exactly 2,000."""
    system.http.put("/v1/pages/home", json={"views": 0, **system.fill}).raise_for_status()

    def caller(_: int) -> None:
        # A client of its own: one that threads share may close a connection on which another is answered.
        with httpx.Client(base_url=system.stack.url, timeout=30, trust_env=False, limits=LIMITS) as http:
            for _ in range(40):
                answer = http.post("/v1/pages/home:increment", json={"views": 1})
                assert answer.is_success, answer.text

    in_threads(50, caller)

    assert 2000 == system.http.get("/v1/pages/home").json()["views"]
    system.wait_until_drained()
    assert 2000 == system.database.pages.find_one({"_id": "home"})["views"]


def test_duplicate_and_overtaken_flush_tasks(system):
    """Flush tasks that come several times or too late, while documents are put and deleted, change no outcome."""
    last: dict[str, tuple[int, int | None]] = {}
    lock = threading.Lock()
    app = celery(system)
    partitions = range(system.status()["partitions"])

    def write(seed: int) -> None:
        dice = random.Random(seed)
        for turn in range(15):
            items = [
                {"op": "put", "id": f"twice{n}", "doc": {"n": turn, **system.fill}}
                if dice.random() < 0.8
                else {"op": "delete", "id": f"twice{n}"}
                for n in dice.sample(range(300), 100)
            ]
            results = system.http.post("/v1/users:bulk", json=items).json()["results"]
            with lock:
                for item, one in zip(items, results, strict=True):
                    number = item.get("doc", {}).get("n")
                    last[one["id"]] = max(last.get(one["id"], (0, None)), (one["version"], number))

    def disturb(_: int) -> None:
        with app.connection_for_write() as connection:
            for partition in partitions:
                for ticket in ("", "1:1"):  # nobody's, and that of a task which was overtaken long ago
                    app.send_task(names.FLUSH, (partition, ticket), queue=names.FLUSH_QUEUE, connection=connection)

    with app, ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, seed) for seed in range(3)]
        for time in range(5):
            disturb(time)
        for writer in writers:
            writer.result()
        disturb(5)
    system.wait_until_drained()

    assert {one: what for one, what in last.items() if what[1] is not None} == system.stored("twice")


def test_a_worker_killed_in_the_middle_of_its_writes(system):
    """2,000 documents are in MongoDB within 30 s of the death of the worker that was writing them."""
    system.wait_until_drained()
    victim = system.stack.pids()["worker"]
    with stopped(system.mongodb_pid):
        written = system.put_all("kill-worker-", 2000)
        wait_until(lambda: leases(system) >= 4, "each of the worker's threads to write")
        os.kill(victim, signal.SIGKILL)
    assert 2000 == system.status()["pending"]

    system.wait_until_drained(30)

    assert written == system.stored_versions("kill-worker-")
    wait_until(lambda: system.stack.pids()["worker"] != victim, "another worker", 30)


@pytest.mark.parametrize("name", ["maintenance", *(pytest.param(one, marks=long) for one in ("beat", "flower"))])
def test_a_killed_process_is_not_missed(system, name):
    """2,000 documents are in MongoDB within 30 s, whichever other process dies, and another takes its place."""
    written = system.put_all(f"kill-{name}-", 2000)
    victim = system.stack.pids()[name]

    os.kill(victim, signal.SIGKILL)

    system.wait_until_drained(30)
    assert written == system.stored_versions(f"kill-{name}-")
    wait_until(lambda: system.stack.pids()[name] != victim, f"another {name}", 30)


def test_flower_forgets_nothing_when_it_is_started_anew(system):
    """A task that ran before is shown after, and the file that has it is its owner's alone."""
    about = json.loads((system.stack.data_dir / "up.json").read_text())
    listed = {
        "draw": 1,
        "start": 0,
        "length": 1,
        "search[value]": "",
        "order[0][column]": 0,
        "order[0][dir]": "asc",
    }
    listed["columns[0][data]"] = "received"
    with httpx.Client(base_url=about["flower"], timeout=30, trust_env=False) as flower:

        def answer(path: str, **parameters: object) -> httpx.Response | None:
            with suppress(httpx.TransportError):
                return told if (told := flower.get(path, params=parameters)).is_success else None

        system.http.put("/v1/users/flower", json={}).raise_for_status()
        tasks = wait_until(
            lambda: (one := answer("/tasks/datatable", **listed)) and one.json()["data"], "a task", 60
        )
        os.kill(victim := system.stack.pids()["flower"], signal.SIGTERM)
        wait_until(lambda: system.stack.pids().get("flower", victim) != victim, "another Flower", 60)
        wait_until(lambda: answer("/healthcheck"), "Flower to answer", 60)

        assert answer(f"/task/{tasks[0]['uuid']}")
    kept = [one for one in (system.stack.data_dir / "flower").iterdir() if one.name.startswith("state")]
    assert kept
    assert {0o600} == {one.stat().st_mode & 0o777 for one in kept}


def test_a_killed_web_server_loses_nothing(system):
    """What was acknowledged before the web server died is persisted within 30 s, and another one answers soon."""
    written = system.put_all("kill-web-", 2000)
    victim = system.stack.pids()["web"]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: system.stack.pids()["web"] != victim, "another web server", 30)
    system.wait_until_ready()
    system.wait_until_drained(30)
    assert written == system.stored_versions("kill-web-")


def test_a_killed_web_process_is_replaced(system):
    """When one of the web server's processes dies, the API goes on answering, and another takes its place."""
    system.wait_until_ready()
    server = psutil.Process(system.stack.pids()["web"])
    workers = wait_until(
        lambda: (found := server.children(recursive=True)) and len(found) >= 2 and found, "workers"
    )
    written = system.put_all("kill-child-", 500)

    os.kill(workers[-1].pid, signal.SIGKILL)

    wait_until(
        lambda: (
            len([one for one in server.children(recursive=True) if one.pid != workers[-1].pid]) >= len(workers)
        ),
        "another process in its place",
    )
    system.wait_until_ready()
    system.wait_until_drained(30)
    assert written == system.stored_versions("kill-child-")


@pytest.mark.parametrize("name", ["redis", "mongodb"])
def test_an_embedded_server_is_started_again(system, name):
    """A killed server comes back with everything that was flushed, and what comes after is persisted as before."""
    before = system.put_all(f"before-{name}-", 300)
    system.wait_until_drained()
    victim = system.stack.pids()[name]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: system.stack.pids()[name] != victim, f"another {name}", 30)
    system.wait_until_ready()
    after = wait_until(lambda: system.put_all(f"after-{name}-", 300), "a bulk write to be taken", 30)
    system.wait_until_drained(30)
    assert before == system.stored_versions(f"before-{name}-")
    assert after == system.stored_versions(f"after-{name}-")


@own_server
def test_a_frozen_web_process_is_named(system, monkeypatch):
    """By the doctor beside the system, and in the log of `up`: clients hear nothing, and no server is away."""
    monkeypatch.setattr(api, "DATA_DIR", str(system.stack.data_dir))
    settings = load_settings(redis_url=system.stack.redis_url, web_workers=2)
    pipeline = SimpleNamespace(settings=settings)
    (one,) = api.check(pipeline)
    assert Level.OK is one.level, one
    web = system.stack.pids()["web"]
    child = psutil.Process(web).children()[0]
    log = system.stack.data_dir / "log" / "system.log"
    with stopped(web):
        (one,) = api.check(pipeline)
        assert (Level.WARNING, True) == (one.level, f"process {web} of it is stopped" in one.found), one
    with stopped(system.stack.pid):
        (one, answers) = api.check(pipeline)
        assert (Level.WARNING, Level.OK) == (one.level, answers.level), one
        assert f"`kill -CONT {system.stack.pid}`" in one.advice
    with stopped(child.pid):
        (one,) = api.check(pipeline)
        assert (Level.FAILURE, True) == (one.level, f"process {child.pid} is stopped" in one.found), one
        assert f"`kill -CONT {child.pid}`" in one.advice
        wait_until(
            lambda: f"process {child.pid} is stopped, `kill -CONT {child.pid}`" in log.read_text(),
            "a line of it",
            30,
        )
    wait_until(lambda: "the API answers again" in log.read_text(), "a line that it is over", 30)
    beat, exporter = (system.stack.pids()[name] for name in ("beat", "exporter"))
    with stopped(beat), stopped(exporter):  # of which each tells that the other is silent
        for name, pid in (("beat", beat), ("exporter", exporter)):
            line = f"process {pid} of {name} is stopped: `kill -CONT {pid}`"
            wait_until(lambda line=line: line in log.read_text(), "a line of it", 30)
    elsewhere = SimpleNamespace(settings=settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    assert [] == [*api.check(elsewhere)]


def test_stop_and_start(system):
    """SIGTERM ends the stack with 0 and leaves no process; what was pending is persisted after the next start."""
    stack = system.stack
    written = system.put_all("stop-", 200, "slow")
    processes = [psutil.Process(pid) for pid in (stack.pid, *stack.pids().values())]
    processes += [child for process in processes for child in process.children(recursive=True)]
    assert system.status()["pending"] >= 200

    system.close()  # while MongoDB is there to be told
    assert 0 == stack.stop()

    assert [] == [process for process in processes if process.is_running()]
    stack.start()
    system.connect()
    system.wait_until_drained(30)
    assert written == system.stored_versions("stop-", "slow")
