"""What is right is never called wrong: under load, while all of it changes, and servers go away."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.conftest import flush_all
from tests.integration.consistency.conftest import counted, found, observing, step_until
from tests.integration.test_step_down import Primary
from tests.listening import running, wait_to_listen
from tests.proxy import Proxy
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.errors import RequestError, UnavailableError
from writebehind.flushing.flusher import FlushInterruptedError

NAMES = [f"u{number}" for number in range(60)]


def write(pipeline: Pipeline, dice: random.Random) -> None:
    users, name = pipeline.collection(dice.choice(["users", "users", "slow"])), dice.choice(NAMES)
    match dice.randrange(5):
        case 0:
            users.delete(name)
        case 1:
            users.increment(name, {"n": 1})
        case 2:
            users.get(name)
        case _:
            users.put(name, {"n": dice.randrange(1_000)})


def flush(pipeline: Pipeline, dice: random.Random) -> None:
    pipeline.flusher.flush(dice.randrange(pipeline.settings.partitions))


@contextmanager
def load(pipeline: Pipeline, flushed: Pipeline | None = None) -> Iterator[None]:
    """Clients that put, change, delete and read the same few documents; flushers, perhaps of another process."""
    over = threading.Event()

    def repeat(act, of: Pipeline) -> None:
        dice = random.Random()
        while not over.wait(0.003):
            try:
                act(of, dice)
            except (RequestError, UnavailableError, FlushInterruptedError):
                over.wait(0.05)

    acts = [*[(write, pipeline)] * 3, *[(flush, flushed or pipeline)] * 2]
    threads = [threading.Thread(target=repeat, args=act) for act in acts]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in threads:
            one.join(30)
            assert not one.is_alive()


def test_writes_deletions_and_flushes_are_no_faults(pipeline, other):
    """While documents change, are flushed, coalesced and deleted many times a second, all looks are right."""
    with running(other.listener()), observing(other.observer()):
        wait_to_listen(pipeline)
        with load(pipeline):
            wait_until(lambda: counted(pipeline)[0] > 2_000, "many looks", 60)
        flush_all(pipeline)
    looks, wrong = counted(pipeline)
    assert (0, {}) == (wrong, found(pipeline)), f"of {looks}"


@pytest.mark.parametrize(
    "which",
    [pytest.param("redis", marks=pytest.mark.one_server("a proxy stands before one port of Redis")), "mongodb"],
)
def test_outages_are_no_faults(pipeline, other, settings, valkey, mongo, which):
    """A server that is cut off and left hanging again and again keeps the observer from looking, and no more."""
    with Proxy((valkey if which == "redis" else mongo).port) as way:
        urls = {
            "redis": {"redis_url": f"redis://127.0.0.1:{way.port}/0"},
            "mongodb": {"mongodb_url": f"mongodb://127.0.0.1:{way.port}/?directConnection=true"},
        }
        short = {"redis_timeout_ms": 300, "mongodb_timeout_ms": 500, "confirm_timeout_ms": 200}
        changed = settings.model_copy(update=urls[which] | short)
        with (
            Pipeline(changed) as reached,
            running(other.listener()),
            observing(reached.observer()),
            load(pipeline),
        ):
            for fault in (way.cut, way.hang, way.hang):
                before = counted(pipeline)[0]
                wait_until(lambda before=before: counted(pipeline)[0] > before + 100, "looks", 60)
                fault()
                threading.Event().wait(0.5)
                way.flow()
    assert (0, {}) == (counted(pipeline)[1], found(pipeline))


def test_step_downs_are_no_faults(pipeline, other, settings, mongo):
    """A primary that steps down while it is written to, before or after it has the writes, makes nothing wrong."""
    with Primary(mongo.port) as primary:
        url = f"mongodb://127.0.0.1:{primary.port}/?directConnection=true&serverMonitoringMode=poll"
        with (
            Pipeline(settings.model_copy(update={"mongodb_url": url})) as flushed,
            running(other.listener()),
            observing(other.observer()),
            load(pipeline, flushed),
        ):
            for where in ("after", "write concern"):
                primary.steps_down("NotWritablePrimary", {}, where=where, times=2)
                wait_until(lambda: not primary.left, "it to step down", 60)
                before = counted(pipeline)[0]
                wait_until(lambda before=before: counted(pipeline)[0] > before + 100, "looks", 60)
    assert (0, {}) == (counted(pipeline)[1], found(pipeline))


def test_changes_of_others_that_the_listener_brings_are_no_faults(pipeline, other, stored, users):
    """What others change while a listener runs is right within the first window."""
    for name in NAMES:
        users.put(name, {"n": 0})
    flush_all(pipeline)
    with running(other.listener()), observing(other.observer()):
        wait_to_listen(pipeline)
        for number in range(150):
            name = random.choice(NAMES)
            users.get(name)
            stored.update_one({"_id": name}, {"$set": {"n": number}})
            if not number % 10:
                stored.delete_one({"_id": name})
                stored.insert_one({"_id": name, "n": number})
            threading.Event().wait(0.01)
        wait_until(lambda: users.mget(NAMES) and counted(pipeline)[0] > 500, "looks", 60)
    assert (0, {}) == (counted(pipeline)[1], found(pipeline))


def test_nothing_counts_as_right_while_mongodb_cannot_be_asked(pipeline, settings, mongo):
    """Also of what was right before: nobody hears whether it has changed since."""
    for name in NAMES:
        pipeline.collection("users").put(name, {"n": 1})
    flush_all(pipeline)
    with Proxy(mongo.port) as way:
        url = {"mongodb_url": f"mongodb://127.0.0.1:{way.port}/?directConnection=true", "mongodb_timeout_ms": 500}
        with Pipeline(settings.model_copy(update=url)) as reached:
            observer = reached.observer()
            step_until(observer, lambda: observer.walk.count > 3 and observer.hears, "it to know them")
            way.hang()
            step_until(observer, lambda: observer.failure and not observer.hears, "it to hear nothing")
            before = dict(observer.tally.total)
            ends = observer.walk.count
            for _ in range(20):
                observer.step()
            assert before == observer.tally.total
            assert ends == observer.walk.count
            way.flow()
            observer.close()
