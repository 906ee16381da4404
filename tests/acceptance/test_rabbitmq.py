"""The whole system with RabbitMQ as Celery's broker, which is killed under load."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
from amqp import Connection
from amqp.exceptions import AMQPError

from tests.acceptance.conftest import CONFIG, ROOT, System, start
from tests.acceptance.topology import servers
from tests.rabbitmq import RabbitMQ, needs_rabbitmq
from tests.servers import freeze, resume
from tests.tiers import long
from tests.tls import TlsFront
from tests.waiting import slowness, wait_until
from writebehind import load_settings
from writebehind.celery.checks import broker as check_broker
from writebehind.celery.depths import QueueDepths
from writebehind.local.embedded import free_port
from writebehind.local.procfile import default_procfile
from writebehind.local.supervisor import bound_to_parent

pytestmark = [pytest.mark.acceptance, needs_rabbitmq]

log = logging.getLogger(__name__)

QUEUES = ("flush", "maintenance", "refresh")
PERIODIC = {"sweep", "reconcile", "decay", "warm"}
#: How late documents of `slow` are flushed, and how often a sweep comes, seconds.
SLOW_S, SWEEP_S = 3, load_settings().sweep_interval
#: Processes of the system that speak TLS with it.
BY_TLS = ("beat", "maintenance")


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory) -> Iterator[RabbitMQ]:
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="module")
def front(rabbitmq, authority) -> Iterator[TlsFront]:
    """Where it speaks TLS."""
    with TlsFront(authority.server_context(), rabbitmq.port) as front:
        yield front


@pytest.fixture(scope="module")
def system(rabbitmq, front, authority, tmp_path_factory) -> Iterator[System]:
    """The system, with a collection whose documents are flushed late; periodic tasks reach their worker by TLS."""
    directory = tmp_path_factory.mktemp("system")
    secure = f"BROKER_URL='{authority.rabbitmq_url(front.port)}' exec"
    procfile = directory / "Procfile"
    lines = default_procfile().read_text("utf-8").splitlines()
    procfile.write_text(
        "\n".join(one.replace("exec", secure, 1) if one.startswith(BY_TLS) else one for one in lines)
    )
    settings = {
        "BROKER_URL": rabbitmq.url,
        "WRITEBEHIND_COLLECTIONS__slow__flush_delay_ms": str(SLOW_S * 1000),
        "WRITEBEHIND_COLLECTIONS__late__flush_delay_ms": "600000",
        "WRITEBEHIND_COLLECTIONS__users__flush_delay_ms": "100",
        "WRITEBEHIND_RECONCILE_INTERVAL": "5",
        "WRITEBEHIND_WARM_INTERVAL": "5",
        "WRITEBEHIND_HOT_HALF_LIFE": "100",
    }
    without = frozenset({"flower", "exporter"})
    with (
        servers(directory / "servers") as given,
        start(directory, procfile=procfile, without=without, **given | settings) as stack,
        System(stack) as system,
    ):
        system.wait_for_workers()
        yield system


def command(system: System, *arguments: str) -> str:
    """What a command says that is run beside the system, and succeeds."""
    env = {**os.environ, **CONFIG, **system.servers, "MONGODB_DATABASE": system.stack.mongodb_database}
    words = [sys.executable, "-m", "writebehind", *arguments]
    done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, check=False, text=True, timeout=90)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def in_mongodb(system: System, one: str) -> int | None:
    """The version that it has of a document."""
    found = system.database.users.find_one({"_id": one})
    return found and found["_v"]


def delete_queues(rabbitmq: RabbitMQ) -> None:
    """Take each queue away, with what waits in it, and from under those that consume it."""
    with Connection(f"127.0.0.1:{rabbitmq.port}") as connection:
        for queue in QUEUES:
            connection.channel().queue_delete(queue)


def refusal(rabbitmq: RabbitMQ, **options: object) -> str:
    """What the server says to a declaration of a queue."""
    with Connection(f"127.0.0.1:{rabbitmq.port}") as connection:
        try:
            connection.channel().queue_declare(durable=True, auto_delete=False, **options)
        except AMQPError as error:
            return str(error)
    return ""


def test_a_write_is_persisted_by_a_hint(system):
    """MongoDB has a write within two seconds, before a sweep would have found it, each of ten times."""
    for n in range(10):
        version = system.http.put(f"/v1/users/ada{n}", json={"n": n}).raise_for_status().json()["version"]
        wait_until(lambda n=n, v=version: in_mongodb(system, f"ada{n}") == v, "the document in MongoDB", 2)


def test_queues_are_quorum_queues(system, rabbitmq):
    """Each of the three queues outlives the loss of a node; none is there for delays in whole seconds."""
    for queue in QUEUES:
        assert "current is 'quorum'" in refusal(rabbitmq, queue=queue, arguments={"x-queue-type": "classic"})
    assert "no queue 'celery_delayed_0'" in refusal(rabbitmq, queue="celery_delayed_0", passive=True)


def test_each_periodic_task_runs_by_tls(system, front):
    """Beat sends all of them, and the maintenance worker takes them, on connections with TLS."""
    wait_until(lambda: system.status()["periodic"].keys() >= PERIODIC, "each periodic task to have run", 60)
    for name in BY_TLS:
        process = psutil.Process(system.stack.pids()[name])
        assert front.port in {one.raddr.port for one in process.net_connections("tcp") if one.raddr}, name


def test_dead_letters_that_are_replayed_are_hinted_at(system):
    """By the API and by the command line: each is in MongoDB before a sweep would have found it."""
    events = system.database.create_collection("events", validator={"n": {"$gt": 1}})
    for n, path in enumerate(("/v1/events/by-api", "/v1/events/by-command")):
        assert 422 == system.http.put(path, json={"n": n}, params={"durability": "persisted"}).status_code
    system.database.command("collMod", "events", validator={})

    letter = "/admin/dead-letters/events/by-api:replay"
    assert {"replayed": 1, "left": 0} == system.http.post(letter).raise_for_status().json()
    wait_until(lambda: events.find_one({"_id": "by-api"}), "MongoDB", 3)
    assert "1 replayed" in command(system, "dead-letters", "replay", "--collection", "events")
    wait_until(lambda: events.find_one({"_id": "by-command"}), "MongoDB", 3)


def test_drain_leaves_nothing_pending(system):
    """Of documents that are not due for minutes: the workers, which hints reach, are not in its way."""
    written = system.put_all("late", 500, "late")
    assert {} == system.stored_versions("late", "late")
    told = json.loads(command(system, "drain", "--json").splitlines()[-1])
    assert 0 == told["pending"] == system.status()["pending"]
    assert written == system.stored_versions("late", "late")


def test_its_certificate_is_that_of_the_host(rabbitmq, front, authority):
    """The doctor finds it well with that; of another host, or of an authority that nobody named, it is refused."""

    def found(url: str) -> str:
        (one,) = check_broker(SimpleNamespace(settings=load_settings(broker_url=url)))
        return f"{one.level.name}: {one.found}"

    assert "OK: answers" == found(authority.rabbitmq_url(front.port))
    assert "unable to get local issuer certificate" in found(authority.rabbitmq_url(front.port).partition("?")[0])
    with TlsFront(authority.server_context("elsewhere.example"), rabbitmq.port) as other:
        assert "certificate is not valid for '127.0.0.1'" in found(authority.rabbitmq_url(other.port))


@long
def test_hints_that_wait_let_others_pass(system):
    """While a hint of each partition waits for its time, another write is persisted at once."""
    system.put_all("late", 500, "slow")
    version = system.http.put("/v1/users/soon", json={"n": 1}).raise_for_status().json()["version"]
    wait_until(lambda: in_mongodb(system, "soon") == version, "the document in MongoDB", 2)
    assert not system.stored("late", "slow")
    system.wait_until_drained()
    assert 500 == len(system.stored("late", "slow"))


def test_a_queue_that_is_deleted_costs_no_write_a_sweep(system, rabbitmq):
    """With the hints in it, and those that workers hold: each worker declares it anew, and sends others."""
    system.wait_for_workers()
    wait_until(lambda: persists_soon(system), "hints that are carried out")
    written = system.put_all("deleted", 200, "slow")
    began = time.monotonic()
    delete_queues(rabbitmq)
    wait_until(lambda: system.stored_versions("deleted", "slow") == written, "MongoDB", SLOW_S + SWEEP_S)
    log.info("all in MongoDB after %.1f s", time.monotonic() - began)
    wait_until(lambda: persists_soon(system), "hints that are carried out")


def test_queues_that_an_operator_purges_lose_nothing(system, rabbitmq):
    """With all that waited in them, also what workers held that are away: messages are hints, and sent again."""
    system.wait_for_workers()
    wait_until(lambda: "sweep" in system.status()["periodic"], "a sweep", 30)
    pids = [system.stack.pids()[name] for name in ("worker", "maintenance")]
    depths = QueueDepths(load_settings(broker_url=rabbitmq.url))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        written = system.put_all("purged", 200, "slow")
        rabbitmq.control("close_all_connections", "an operator's")  # what was sent to them waits again
        wait_until(
            lambda: all(depths().get(queue, 0) for queue in ("flush", "maintenance")), "messages that wait", 30
        )
        for queue in QUEUES:
            rabbitmq.control("purge_queue", queue)
        assert not depths()["flush"]
        assert {} == system.stored_versions("purged", "slow")
        frozen_s = system.status()["periodic"]["sweep"]["seconds_ago"]
    finally:
        depths.close()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    wait_until(lambda: system.stored_versions("purged", "slow") == written, "MongoDB", SLOW_S + 3 * SWEEP_S)
    log.info("all in MongoDB after %.1f s", time.monotonic() - began)
    wait_until(lambda: system.status()["periodic"]["sweep"]["seconds_ago"] < frozen_s, "a sweep", 2 * SWEEP_S)
    wait_until(lambda: persists_soon(system), "hints that are carried out", 60)


@long
def test_a_broker_that_has_lost_all_loses_nothing(system, rabbitmq):
    """It begins anew, without queues: everybody declares them, and workers send what was in them."""
    written = system.put_all("bare", 200, "slow")
    began = time.monotonic()
    rabbitmq.lose_all()
    wait_until(lambda: system.stored_versions("bare", "slow") == written, "MongoDB", SLOW_S + 2 * SWEEP_S)
    log.info("all in MongoDB after %.1f s", time.monotonic() - began)
    wait_until(lambda: persists_soon(system), "hints that are carried out", 60)


@long
def test_a_killed_broker_loses_nothing(system, rabbitmq):
    """All that is acknowledged while it is killed twice, and away, is in MongoDB; then hints are fast again."""
    written, stop = {}, threading.Event()

    def write(writer: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            written.update(system.put_all(f"kill{writer}-{turn}-", 5))
            stop.wait(0.02)  # what MongoDB has to be given afterwards does not count here

    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write, writer) for writer in range(2)]
        for _ in range(2):
            before = len(written)
            rabbitmq.kill()
            wait_until(lambda before=before: len(written) > before + 100, "writes without a broker")
            rabbitmq.start()
            before = len(written)
            wait_until(lambda before=before: len(written) > before + 100, "writes with a broker")
        stop.set()
        for one in writers:
            one.result()
    system.wait_until_drained(60)

    assert written == system.stored_versions("kill")
    system.wait_for_workers()
    wait_until(lambda: persists_soon(system), "hints that are carried out", 60)


def persists_soon(system: System) -> bool:
    """Whether a write is in MongoDB within a second, by its hint: a sweep every 5 s is seldom as fast."""
    version = system.http.put("/v1/users/again", json={"n": 1}).raise_for_status().json()["version"]
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if in_mongodb(system, "again") == version:
            return True
        time.sleep(0.05)
    return False


@long
def test_a_frozen_broker_holds_no_write_up(system, rabbitmq):
    """Each write is acknowledged within a second, and in MongoDB once it goes on; then hints are fast again."""
    freeze(rabbitmq)
    try:
        written = {}
        for n in range(20):
            began = time.monotonic()
            written |= system.put_all(f"frozen{n}-", 10)
            assert time.monotonic() - began < slowness()
    finally:
        resume(rabbitmq)
    system.wait_until_drained(60)
    assert written == system.stored_versions("frozen")
    wait_until(lambda: persists_soon(system), "hints that are carried out", 60)


def test_a_node_is_run_by_hand():
    """It says where it is, and ends with Ctrl-C."""
    command = bound_to_parent([sys.executable, "-m", "tests.rabbitmq"])
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        url = node.stdout.readline().removeprefix("export BROKER_URL=").strip()
        (found,) = check_broker(SimpleNamespace(settings=load_settings(broker_url=url)))
        node.send_signal(signal.SIGINT)
        assert ("answers", 0) == (found.found, node.wait(60))


def test_messages_that_wait_are_counted(rabbitmq, system):
    """In each queue; workers have taken what there is."""
    depths = QueueDepths(load_settings(broker_url=rabbitmq.url))
    wait_until(lambda: depths() == dict.fromkeys(QUEUES, 0), "empty queues")
    depths.close()


def test_the_doctor_asks_it(system, rabbitmq, tmp_path):
    """The broker answers; queues of another type, a wrong password and a server that is not there are failures."""

    def found(**settings: str) -> str:
        pipeline = SimpleNamespace(settings=load_settings(**settings))
        (one,) = check_broker(pipeline)
        return f"{one.level.name}: {one.found}: {one.advice}"

    assert "OK" in found(broker_url=rabbitmq.url)
    other = found(broker_url=rabbitmq.url, broker_queue_type="classic")
    assert "quorum" in other
    assert "WRITEBEHIND_BROKER_QUEUE_TYPE" in other
    refused = found(broker_url=rabbitmq.url.replace("guest:guest", "guest:wrong"))
    assert "refuses its user, password" in refused
    assert "wrong" not in refused
    assert "start it" in found(broker_url=f"amqp://127.0.0.1:{free_port()}//")
