"""Celery's broker, reached by the URLs that the pipeline itself takes."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from celery import Celery
from flower.utils.broker import Broker
from kombu.exceptions import OperationalError

from tests.forking import in_child
from tests.integration.conftest import put, wait_for_tasks
from tests.proxy import Proxy
from tests.tls import TlsFront
from tests.waiting import slowness, wait_until
from writebehind import Pipeline, load_settings
from writebehind.alive import AliveFile
from writebehind.celery.configuration import create_app
from writebehind.celery.lost_hints import LostHints
from writebehind.celery.names import FLUSH, FLUSH_QUEUE
from writebehind.celery.publisher import FlushPublisher, publish
from writebehind.celery.runtime import Runtime
from writebehind.celery.tasks import register
from writebehind.celery.work import Work
from writebehind.errors import RedisUnavailableError
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.local.embedded import valkey_binary
from writebehind.local.supervisor import bound_to_parent
from writebehind.outage_log import OutageLog
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Hint
from writebehind.redis.wire import Wire

TIMEOUT_MS = 2_000
#: A consumer's blocking pop takes longer; no test waits for one.
BROKER_TIMEOUT_S = 0.3


def app_of(url: str, **more: str) -> Celery:
    return impatient(create_app(load_settings(redis_url=url, redis_timeout_ms=TIMEOUT_MS, **more)))


def impatient(app: Celery) -> Celery:
    """The same, which waits for its broker no longer than a test likes to."""
    assert TIMEOUT_MS / 1000 < app.conf.broker_transport_options["socket_timeout"] < 10
    app.conf.broker_transport_options["socket_timeout"] = BROKER_TIMEOUT_S
    return app


def answers(app: Celery) -> bool:
    """Whether the broker answers on a connection of its own."""
    with app.connection_for_write() as connection:
        return connection.default_channel.client.ping()


def fails_in_time(call: Callable[[], None]) -> None:
    began = time.monotonic()
    with pytest.raises(OperationalError):
        call()
    assert time.monotonic() - began < 10 * BROKER_TIMEOUT_S * slowness()


@pytest.fixture
def secure(one_valkey, authority) -> Iterator[int]:
    """The port of Redis with TLS."""
    with TlsFront(authority.server_context(), one_valkey.port) as front:
        yield front.port


@pytest.mark.parametrize("checks", ["", "&ssl_cert_reqs=required", "&client_name=x"])
def test_a_broker_with_tls(authority, secure, checks):
    """The broker is the Redis of the settings, and Flower looks at the same: with its certificate checked."""
    with app_of(authority.redis_url(secure) + checks) as app:
        assert answers(app)
        flower = Broker(app.conf.broker_url, broker_use_ssl=app.conf.broker_use_ssl)
        kwargs = flower.redis.connection_pool.connection_kwargs
        assert (str(authority.file), "required") == (kwargs["ssl_ca_certs"], kwargs["ssl_cert_reqs"])


@pytest.mark.parametrize(
    ("option", "good"), [("", False), ("?ssl_cert_reqs=none", True), ("?ssl_cert_reqs=required", False)]
)
def test_a_certificate_of_nobody_we_know(secure, option, good):
    """It is refused, unless the URL says that none is checked."""
    with app_of(f"rediss://127.0.0.1:{secure}/0{option}") as app:
        if good:
            assert answers(app)
        else:
            with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
                answers(app)


def test_a_broker_on_a_unix_socket(tmp_path):
    """The pipeline's database on a socket in the file system is the broker's too."""
    path = tmp_path / "redis"
    options = ("--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", "")
    with subprocess.Popen(bound_to_parent([str(valkey_binary()), *options]), stdout=subprocess.DEVNULL) as server:
        try:
            wire = Wire(connection_pool(f"unix://{path}?db=3", TIMEOUT_MS))
            wait_until(lambda: wire.call("PING"), "the server")
            with app_of(f"unix://{path}?db=3") as app:
                publish(app, Hint(0, "ticket", 0))
                assert 1 == wire.call("LLEN", "flush")
            wire.close()
        finally:
            server.terminate()


def test_a_broker_that_hangs(one_valkey, way_to):
    """Publishing fails in time, with TLS and without, on an open connection and a new one; then it works."""
    with way_to("redis", one_valkey.port) as way, app_of(way.url) as app:
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection)
            publish(app, Hint(0, "ticket", 0), producer=producer)
            way.proxy.hang()
            fails_in_time(lambda: publish(app, Hint(0, "ticket", 0), producer=producer))
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection)
            fails_in_time(lambda: publish(app, Hint(0, "ticket", 0), producer=producer))
        way.proxy.flow()
        with app.connection_for_write() as connection:
            publish(app, Hint(0, "ticket", 0), producer=app.amqp.Producer(connection))


@pytest.mark.parametrize("asked", ["hint", "hand over"])
def test_a_task_does_not_fail_with_its_broker(pipeline, settings, asked):
    """A flush hint that the broker does not take is left to the sweep, and the others are tried all the same."""
    nowhere = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    app = create_app(nowhere)
    runtime = Runtime(app, nowhere, publishing=app)
    runtime.pipeline = Pipeline(nowhere, hints=runtime.hint, wire=pipeline.store._wire, client=pipeline._client)
    if asked == "hint":
        runtime.hint(Hint(0, "ticket", 0))
        return
    put(pipeline, 50)
    runtime._hand_over()
    places = map(partition_keys, range(settings.partitions))
    assert settings.partitions == pipeline.store._wire.call("EXISTS", *(of.scheduled for of in places))


def test_a_flush_that_neither_mongodb_nor_the_broker_takes_is_left_to_the_sweep(settings, caplog):
    """One line says so, as for an outage of one of them."""

    def flush(*_: object, **__: object) -> None:
        raise FlushInterruptedError("it is down", Hint(0, "again", 0))

    app = create_app(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    outages = OutageLog(logging.getLogger("runtime"))
    flusher = SimpleNamespace(flush=flush)
    pipeline = SimpleNamespace(flusher=flusher)
    lost = LostHints()
    runtime = {"note_broker": lambda line, _: outages.note("broker", line), "lost_hints": lost}
    register(app, SimpleNamespace(pipeline=pipeline, **runtime))
    task = app.tasks[FLUSH]
    task.push_request(id="a", retries=0, called_directly=False, is_eager=False, args=(0,), kwargs={})

    assert {"partition": 0, "interrupted": "it is down"} == task.run(0)
    assert "partition 0 is left to the sweep: " in caplog.text
    assert "Traceback" not in caplog.text
    replaced: list[int] = []
    lost.replace(range(settings.partitions), replaced.extend)
    assert [0] == replaced


@pytest.mark.parametrize(
    "how", ["a task failed", "a child's task failed", "a look failed", "it has another connection"]
)
def test_a_worker_replaces_the_hints_that_it_has_lost(pipeline, settings, depths, monkeypatch, how):
    """At its next look, by new tickets, while the former ones stand; at the one after where the broker is away."""
    app = create_app(settings)
    runtime = Runtime(app, settings, publishing=app)
    runtime.pipeline = Pipeline(settings, hints=runtime.hint, wire=pipeline.store._wire, client=pipeline._client)
    register(app, runtime)
    consumes = SimpleNamespace(consuming_from=lambda name: name == FLUSH_QUEUE)
    runtime._consumer = SimpleNamespace(task_consumer=consumes)
    runtime._check_again()
    put(pipeline, 1)
    number = pipeline.store.partition_of("slow/s:u0")
    key, wire = partition_keys(number).scheduled, pipeline.store._wire
    before = wire.call("GET", key)
    runtime._check_again()
    assert before == wire.call("GET", key)
    wait_for_tasks(depths, 0)

    def fail(*_: object, **__: object) -> None:
        raise RedisUnavailableError("it is down")

    with monkeypatch.context() as broken:
        broken.setattr(runtime.pipeline.flusher, "flush", fail)
        broken.setattr(runtime.pipeline, "check", fail)
        if how == "it has another connection":
            runtime._consumer.task_consumer = SimpleNamespace(consuming_from=consumes.consuming_from)
        else:
            ask = runtime._check_again if how == "a look failed" else partial(app.tasks[FLUSH].run, number, "")
            if how == "a child's task failed":
                ask = partial(in_child, ask)
            with pytest.raises((RedisUnavailableError, pytest.fail.Exception), match="it is down"):
                ask()
    with monkeypatch.context() as broken:
        broken.setattr("writebehind.celery.runtime.publish", Mock(side_effect=OperationalError("it is away")))
        runtime._check_again()
    wait_for_tasks(depths, 0)
    runtime._check_again()

    wait_for_tasks(depths, 1)
    assert before != wire.call("GET", key)
    runtime._check_again()
    wait_for_tasks(depths, 1)


def test_heartbeats_that_redis_does_not_take_are_no_lines_of_their_own(settings, caplog):
    """A worker in an outage of Redis says once that Redis is lost."""
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    app = create_app(nowhere)
    runtime = Runtime(app, nowhere, publishing=app)
    work = Work(
        None, runtime.pipeline.store.workers, runtime._check_again, runtime._note_heartbeat, AliveFile(None)
    )
    for _ in range(20):
        work.once()
    assert ["redis_lost"] == [one.event for one in caplog.records]


def test_a_closed_connection_proves_nothing(settings, caplog):
    """It is no fault of the worker, and no line: its consumer says why it connects anew."""
    app = create_app(settings)
    runtime = Runtime(app, settings, publishing=app)
    excuses: list[bool] = []
    runtime._work = SimpleNamespace(
        is_full=lambda: False, excuse=lambda: excuses.append(True), proven_ago=lambda: None
    )
    with app.connection_for_write() as connection:
        channel = connection.channel()
        runtime._consumer = SimpleNamespace(task_consumer=app.amqp.TaskConsumer(channel, queues=[]))
        channel.close()
        runtime._prove("worker")
    assert ([True], []) == (excuses, caplog.records)


@pytest.mark.parametrize("is_redis", [True, False])
def test_a_broker_that_is_redis_is_lost_with_it(settings, caplog, is_redis):
    """Whoever misses it first says that Redis is lost; another broker is told by itself."""
    broker = "" if is_redis else "redis://127.0.0.1:1/1"
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "broker_url": broker})
    app = create_app(nowhere)
    runtime = Runtime(app, nowhere, publishing=app)
    for _ in range(3):
        runtime._mend_broker()
        runtime.hint(Hint(0, "", 0))
    assert ["redis_lost" if is_redis else "outage_began"] == [one.event for one in caplog.records]


@dataclass
class Publishing:
    """A publisher of hints, the way to its broker, and the broker itself."""

    hints: FlushPublisher
    outages: OutageLog
    proxy: Proxy
    wire: Wire

    def partitions(self) -> set[int]:
        """The partitions whose hints the broker has."""
        bodies = [json.loads(one)["body"] for one in self.wire.call("LRANGE", "flush", 0, -1)]
        return {json.loads(base64.b64decode(one))[0][0] for one in bodies}


@pytest.fixture
def publishing(one_valkey, way_to) -> Iterator[Publishing]:
    wire = Wire(connection_pool(one_valkey.url, 5_000))
    wire.call("FLUSHALL")
    with way_to("redis", one_valkey.port) as way:
        hints = FlushPublisher(load_settings(redis_url=way.url, redis_timeout_ms=TIMEOUT_MS))
        impatient(hints._app)
        hints._outages = outages = OutageLog(logging.getLogger("hints"), quiet_s=0.2)
        try:
            yield Publishing(hints, outages, way.proxy, wire)
        finally:
            hints.close()
    wire.close()


def test_a_hint_waits_for_a_broker_that_is_away(publishing):
    """Its ticket keeps others from asking: it goes out when the broker is back, though nobody asks again."""
    publishing.proxy.hang()
    for partition in (0, 0, 1):
        publishing.hints(Hint(partition, f"ticket {partition}", 0))
    wait_until(lambda: publishing.outages._outages, "the outage")
    publishing.proxy.flow()
    wait_until(lambda: {0, 1} == publishing.partitions(), "both hints", 5)


@pytest.mark.parametrize("how", ["hangs", "is cut off"])
def test_hints_are_given_while_a_broker_is_away(publishing, how, caplog):
    """Hints are taken at once, with TLS and without, and go out again when the broker answers."""
    hints, proxy, wire = publishing.hints, publishing.proxy, publishing.wire
    hints(Hint(0, "ticket", 0))
    wait_until(lambda: wire.call("LLEN", "flush") == 1, "the first hint")
    for _ in range(2):
        wait_until(lambda: not publishing.outages._outages, "the last outage to be over")
        proxy.hang()
        if how == "is cut off":
            proxy.cut()
        caplog.clear()
        began = time.monotonic()
        for _ in range(100):
            hints(Hint(0, "ticket", 0))
        assert time.monotonic() - began < slowness()
        wait_until(lambda: "not sent" in caplog.text, "it to be said")
        proxy.flow()
        sent = wire.call("LLEN", "flush")

        def arrives(sent: int = sent) -> bool:
            hints(Hint(0, "ticket", 0))
            return wire.call("LLEN", "flush") > sent + 1

        wait_until(arrives, "hints to go out again", 30)
    assert "Traceback" not in caplog.text
