"""Keys of the broker that other hands have put something else into: workers take it out, and go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from kombu.transport.redis import Channel

from tests.integration.conftest import environment
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.celery import broker_keys
from writebehind.celery.configuration import create_app
from writebehind.celery.names import FLUSH_QUEUE, QUEUES
from writebehind.celery.publisher import publish
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.redis.pending import Hint
from writebehind.settings.installation import Settings

#: Whether this kombu notes when bindings of queues end.
BINDINGS_END = hasattr(Channel, "keyprefix_binding_permanent")
#: Each key with the type that it has.
KEYS = {
    **{
        f"{queue}{priority}": "list"
        for queue in QUEUES
        for priority in ("", "\x06\x163", "\x06\x166", "\x06\x169")
    },
    **{f"_kombu.binding.{one}": "set" for one in (*QUEUES, "celery.pidbox")},
    # Of kombu 5.6 and newer.
    **({f"_kombu.binding_permanent.{queue}": "set" for queue in QUEUES} if BINDINGS_END else {}),
    "unacked": "hash",
    "unacked_index": "zset",
    "unacked_mutex": "string",
}
PUT = {
    "string": ("SET", "{}", "x"),
    "set": ("SADD", "{}", "x"),
    "hash": ("HSET", "{}", "x", "y"),
    "zset": ("ZADD", "{}", "1", "x"),
    "list": ("LPUSH", "{}", "x"),
    "stream": ("XADD", "{}", "*", "a", "b"),
}


class Broken:
    """A broker whose keys are put out of order under a worker."""

    def __init__(self, wire: Any, log: Path) -> None:
        self._wire, self.log = wire, log

    def put(self, key: str, kind: str) -> None:
        self._wire.call("DEL", key)
        self._wire.call(*(one.format(key) for one in PUT[kind]))

    def wrong(self) -> list[str]:
        types = self._wire.calls([("TYPE", key) for key in KEYS])
        there = zip(KEYS.items(), types, strict=True)
        return [key for (key, kind), found in there if found.decode() not in {"none", kind}]


@pytest.fixture
def broken(broker_wire, tmp_path) -> Broken:
    return Broken(broker_wire, tmp_path / "log")


@contextmanager
def worker_of(settings: Settings, log: Path, pool: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "writebehind", "run", "worker", "-Q", ",".join(QUEUES)]
    options = ["--pool", pool, "--concurrency", "2", "--loglevel", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            bound_to_parent([*command, *options]),
            env=os.environ | environment(settings),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end([Group(process)])


@pytest.fixture(params=[pytest.param("threads", marks=long), "prefork"])
def worker(request, settings, broken) -> Iterator[subprocess.Popen[bytes]]:
    """One that has started on keys of which none has its type."""
    for (key, kind), other in zip(KEYS.items(), cycle(PUT), strict=False):
        broken.put(key, other if other != kind else "stream")
    with worker_of(settings, broken.log, request.param) as process:
        yield process


def test_no_key_of_the_broker_stops_a_worker(pipeline, settings, broker_wire, stored, worker, broken):
    """Whatever stands in its place: it is taken out and told of, no worker ends, and writes reach MongoDB."""
    publishing = create_app(settings)

    def until(condition: Callable[[], Any], what: str, timeout: float) -> None:
        wait_until(lambda: worker.poll() is not None or condition(), what, timeout)
        assert worker.poll() is None, broken.log.read_text()[-6000:]

    def flushed(name: str) -> None:
        written = pipeline.collection("users").put(name, {})
        until(lambda: not broken.wrong(), "the keys to be of their types", 30)
        publish(publishing, Hint(pipeline.store.partition_of(f"users/s:{name}"), "", 0))
        until(lambda: stored.find_one({"_id": name, "_v": written.version}), f"the document {name}", 10)

    flushed("from-the-start")
    for kind in PUT:
        for key, own in KEYS.items():
            if own != kind:
                broken.put(key, kind)
        flushed(f"all-{kind}")
    for key in ("unacked", "unacked_index"):
        broken.put(key, "string")  # the next message meets it
        publish(publishing, Hint(0, "", 0))
        flushed(f"only-{key}")
    assert worker.poll() is None
    told = broken.log.read_text()
    assert f"into '{FLUSH_QUEUE}' of the broker: it is taken out" in told
    assert "Unrecoverable" not in told
    wait_until(lambda: not broker_wire.call("HLEN", "unacked"), "nothing to come again", 10)


def test_what_cannot_come_again_keeps_nothing_from_it(pipeline, settings, broker_wire, stored, broken):
    """A lock without an end, and what is no message, keep back no message of a worker that ended."""
    written = pipeline.collection("users").put("ada", {})
    publish(create_app(settings), Hint(pipeline.store.partition_of("users/s:ada"), "", 0))
    message = json.loads(broker_wire.call("RPOP", FLUSH_QUEUE))
    garbage = [
        b"",
        b"x",
        b"\xff",
        b"null",
        b"5",
        b"[]",
        b"[1, 2]",
        b"{}",
        b"[1, 2, 3]",
        b'["a", null, "b"]',
        b"[" * 9999,
    ]
    unacked = {"its": json.dumps([message, "", FLUSH_QUEUE]), **{f"zz{at}": one for at, one in enumerate(garbage)}}
    broker_wire.call("HSET", "unacked", *(one for item in unacked.items() for one in item))
    broker_wire.call("ZADD", "unacked_index", *(one for tag in unacked for one in (1 if tag == "its" else 2, tag)))
    broker_wire.call("SET", "unacked_mutex", "x")

    with worker_of(settings, broken.log, "threads") as process:
        wait_until(lambda: stored.find_one({"_id": "ada", "_v": written.version}), "the document", 20)
        wait_until(lambda: not broker_wire.call("EXISTS", "unacked", "unacked_index"), "nothing to come again", 10)
        assert process.poll() is None


def test_what_is_put_there_while_others_are_taken_out_is_taken_out_too(settings, broker_wire, broken, monkeypatch):
    """A look at the types knows nothing of what comes after it, and what meets that would end the worker."""
    app = create_app(settings)
    publish(app, Hint(0, "", 0))
    meanwhile = iter(("unacked_index", "unacked"))
    take_out_lock = broker_keys._take_out_lock

    def put_and_take_out_lock(*arguments: Any) -> None:
        if key := next(meanwhile, ""):
            broken.put(key, "string")
        take_out_lock(*arguments)

    monkeypatch.setattr(broker_keys, "_take_out_lock", put_and_take_out_lock)
    broken.put("unacked", "string")
    with app.connection_for_read() as connection:
        broker_keys.guard(connection.default_channel)
        assert connection.default_channel.basic_get(FLUSH_QUEUE)
        assert 1 == broker_wire.call("HLEN", "unacked")
    assert "" == next(meanwhile, "")


@pytest.mark.parametrize("kind", [kind for kind in PUT if kind != "list"])
def test_a_hint_is_published_in_place_of_what_has_another_type(settings, broker_wire, broken, kind):
    """Whoever publishes takes it out as well: a hint that is lost would wait for the sweep, for more than 10 s."""
    publishing = create_app(settings)
    publish(publishing, Hint(0, "", 0))
    broken.put(FLUSH_QUEUE, kind)

    publish(publishing, Hint(1, "", 0))

    assert 1 == broker_wire.call("LLEN", FLUSH_QUEUE)
