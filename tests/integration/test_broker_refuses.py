"""A broker on Redis that answers, and refuses writes: workers stay, say so once, and go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.test_broker_keys import worker_of
from tests.waiting import wait_until
from writebehind.celery import broker_keys
from writebehind.celery.configuration import create_app
from writebehind.celery.names import FLUSH_QUEUE
from writebehind.celery.publisher import publish
from writebehind.redis.pending import Hint
from writebehind.redis.wire import Wire

#: Settings of Redis with which it refuses: those that it refuses all writes with, and those for want of memory.
REFUSES = {"min-replicas-to-write": ("9", "0"), "maxmemory": ("1", "0")}


def switch(wire: Wire, name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Have Redis refuse, and take everything again."""
    on, off = REFUSES[name]
    return lambda: wire.call("CONFIG", "SET", name, on), lambda: wire.call("CONFIG", "SET", name, off)


@pytest.fixture
def taken_again(broker_wire):
    yield
    for name, (_, off) in REFUSES.items():
        broker_wire.call("CONFIG", "SET", name, off)


@pytest.mark.usefixtures("taken_again")
def test_a_worker_outlives_a_broker_that_refuses(pipeline, settings, broker_wire, stored, tmp_path):
    """Be it when it starts or while it works, and for want of disk or of memory: a line each, and no trace."""
    log = tmp_path / "log"
    publishing = create_app(settings)

    def flushed(name: str) -> None:
        written = pipeline.collection("users").put(name, {})
        publish(publishing, Hint(pipeline.store.partition_of(f"users/s:{name}"), "", 0))
        wait_until(lambda: stored.find_one({"_id": name, "_v": written.version}), f"the document {name}", 30)

    def told(event: str) -> int:
        assert worker.poll() is None, log.read_text()[-2000:]
        return log.read_text().count(f"event={event}")

    refuse, take = switch(broker_wire, "maxmemory")
    refuse()
    with worker_of(settings, log, "threads") as worker:
        wait_until(lambda: told("broker_refuses"), "it to say why it does not start", 30)
        take()
        flushed("started")
        refuse, take = switch(broker_wire, "min-replicas-to-write")
        refuse()
        wait_until(lambda: 2 == told("broker_refuses"), "a line", 30)
        take()
        flushed("later")
        wait_until(lambda: 2 == told("broker_serves"), "it to be over", 30)
    assert "Traceback" not in log.read_text()
    assert "Redis does not answer" not in log.read_text()


@pytest.fixture
def permitted_again(broker_wire):
    yield
    broker_wire.call("CONFIG", "SET", "requirepass", "")
    broker_wire.call("ACL", "SETUSER", "default", "+@all")


@pytest.mark.usefixtures("permitted_again")
def test_a_worker_outlives_a_broker_that_does_not_let_it(pipeline, settings, broker_wire, stored, tmp_path):
    """Be it one command that its user may not send, or a password that it does not know: it waits."""
    log = tmp_path / "log"
    lost = "event=outage_began" if settings.broker_url else "event=redis_lost"  # a broker of its own, or Redis

    def flushed(name: str) -> None:
        written = pipeline.collection("users").put(name, {})
        publish(create_app(settings), Hint(pipeline.store.partition_of(f"users/s:{name}"), "", 0))
        wait_until(lambda: stored.find_one({"_id": name, "_v": written.version}), f"the document {name}", 30)

    def told(said: str) -> bool:
        assert worker.poll() is None, log.read_text()[-2000:]
        return said in log.read_text()

    with worker_of(settings, log, "threads") as worker:
        flushed("before")
        broker_wire.call("ACL", "SETUSER", "default", "-brpop")
        wait_until(lambda: told("brpop"), "it to say what it may not do", 30)
        broker_wire.call("ACL", "SETUSER", "default", "+brpop")
        flushed("permitted")
        broker_wire.call("CONFIG", "SET", "requirepass", "changed")
        broker_wire.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wait_until(lambda: told(lost), "it to say that it is not let in", 30)
        broker_wire.call("CONFIG", "SET", "requirepass", "")
        flushed("let-in")
    assert not {one for one in ("Traceback", "NoneType") if one in log.read_text()}, log.read_text()[-6000:]


@pytest.mark.usefixtures("taken_again")
def test_a_task_whose_end_is_refused_takes_no_place(settings, broker_wire):
    """A worker has few places: its message comes again, and others are consumed meanwhile."""
    app = create_app(settings)
    publish(app, Hint(0, "", 0))
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.basic_qos(0, 1, False)
        broker_keys.guard(channel)
        message = channel.basic_get(FLUSH_QUEUE)
        assert not channel.qos.can_consume()
        refuse, take = switch(broker_wire, "min-replicas-to-write")
        refuse()
        message.ack()
        take()
        assert channel.qos.can_consume()
        assert broker_wire.call("HLEN", "unacked")
