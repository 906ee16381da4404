"""The look-out before MongoDB: it notices within 3 s that nobody is there, and soon that somebody is again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from unittest.mock import Mock

import pytest

from tests.waiting import wait_until
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    MongoBusyError,
    MongoRefusesError,
    MongoUnavailableError,
    PipelineClosedError,
    UnavailableError,
)
from writebehind.local.embedded import EmbeddedMongo
from writebehind.mongodb import lookout as lookout_module
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.client import mongo_client
from writebehind.mongodb.lookout import Lookout
from writebehind.mongodb.sink import Sink
from writebehind.redis.shared.breaker import SharedBreaker
from writebehind.tallies.tallies import Tallies

#: How soon the breaker is to be open after MongoDB has stopped, and closed after it is back, seconds.
SOON_S = 3.0
#: A wait for MongoDB may be as long as is the default.
TIMEOUT_MS = 5_000


@pytest.fixture
def own_mongo(tmp_path) -> Iterator[EmbeddedMongo]:
    """A server that nobody but the test stops and starts."""
    with EmbeddedMongo(tmp_path) as server:
        yield server


@dataclass
class Asking:
    """A process that asks MongoDB again and again, one thing at a time."""

    breaker: MongoBreaker
    answered: int = 0

    def state(self) -> str:
        return self.breaker.state().state


@pytest.fixture
def asking(own_mongo, valkey_wire) -> Iterator[Asking]:
    breaker = MongoBreaker(SharedBreaker(valkey_wire), probe_ms=TIMEOUT_MS + 1_000)
    client = mongo_client(own_mongo.url, TIMEOUT_MS, Tallies(None, ()))
    sink = Sink(client, "lookout", timeout_ms=TIMEOUT_MS, breaker=breaker)
    one, ended = Asking(breaker), threading.Event()

    def ask() -> None:
        while not ended.wait(0.2):
            with suppress(UnavailableError):
                sink.find(DocumentId.of("users", "ada"))
                one.answered += 1

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: one.answered, "MongoDB to answer")
    try:
        yield one
    finally:
        ended.set()
        thread.join()
        sink.close()


@contextmanager
def stopped(server: EmbeddedMongo, how: str) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What stops a server in one of these ways, and what brings it back."""
    pid = server.pid
    stop = {"killed": server.kill, "ended": server.stop, "frozen": lambda: os.kill(pid, signal.SIGSTOP)}[how]
    back = (lambda: os.kill(pid, signal.SIGCONT)) if how == "frozen" else (lambda: server.start() and None)
    with ExitStack() as stack:
        if how == "frozen":
            stack.callback(os.kill, pid, signal.SIGCONT)
        yield stop, back


@pytest.mark.parametrize("how", ["killed", "ended", "frozen"])
def test_a_stopped_mongodb_opens_it_soon(own_mongo, asking, how, monkeypatch):
    """However MongoDB stops, the breaker is open within 3 s, and closed soon after it serves again."""
    # On a machine that holds the look-out up, failures would open it, and later.
    monkeypatch.setattr(lookout_module, "HELD_UP_S", 60.0)
    with stopped(own_mongo, how) as (stop, back):
        stop()
        wait_until(lambda: asking.state() == "open", "the breaker to open", SOON_S)
        assert "no sign of life" in asking.breaker.state().reason
        back()
        wait_until(lambda: asking.state() == "closed", "the breaker to close", SOON_S)


@dataclass
class FakeLife:
    """A MongoDB as the look-out sees it, which answers a ping as it is told."""

    reason: str = ""
    round_trip: float = 0.0
    pings: list[float] = field(default_factory=list)
    answer: Callable[[float], None] = lambda _: None

    def ping(self, *, timeout_s: float) -> None:
        self.pings.append(timeout_s)
        self.answer(timeout_s)

    def unreachable(self) -> str:
        return self.reason

    def round_trip_s(self) -> float:
        return self.round_trip


class Clock:
    """A clock that goes on only when its thread sleeps, or asks for it.

    Others have the true one: the look-outs of tests before this one are still looking for a while.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self._thread = threading.get_ident()

    def monotonic(self) -> float:
        return self.now if threading.get_ident() == self._thread else time.monotonic()

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() == self._thread:
            self.now += seconds
        else:
            time.sleep(seconds)


@dataclass
class Watched:
    """A look-out without a thread: each look is one call, after the time that it asks for."""

    life: FakeLife
    clock: Clock
    lookout: Lookout
    gone: list[str]

    def look_for(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += self.lookout.look() or lookout_module.LOOK_S


@pytest.fixture
def watched(monkeypatch) -> Watched:
    clock, life, gone = Clock(), FakeLife(), []
    monkeypatch.setattr(lookout_module, "time", clock)
    monkeypatch.setattr(lookout_module.Lookout, "_start", lambda _: None)
    lookout = Lookout(life, gone=gone.append, find_out=lambda: None)
    lookout._looked = clock.now
    return Watched(life, clock, lookout, gone)


def silence(clock: Clock) -> Callable[[float], None]:
    """No sign of life within the time that is given to it."""

    def wait(timeout_s: float) -> None:
        clock.now += timeout_s
        raise MongoUnavailableError("timed out", outage=True)

    return wait


def test_silence_is_told(watched):
    """Who waits for half a second has MongoDB asked for a sign of life; that there is none is told."""
    watched.life.answer = silence(watched.clock)
    with watched.lookout.waits():
        watched.look_for(0.4)
        assert [] == watched.life.pings
        watched.look_for(0.4)
    assert ["timed out"] == watched.gone


def test_a_slow_operation_is_no_outage(watched):
    """An operation that takes seconds opens nothing while MongoDB answers a ping, however late in its time."""
    watched.life.answer = lambda timeout_s: watched.clock.sleep(timeout_s * 0.9)
    with watched.lookout.waits():
        watched.look_for(20)
    assert len(watched.life.pings) > 5
    assert [] == watched.gone


def test_while_answers_come_nobody_is_asked(watched):
    """Where others are answered, the one that waits is slow, and MongoDB is not asked for more."""
    with watched.lookout.waits():
        for _ in range(50):
            with watched.lookout.waits():
                pass
            watched.look_for(0.2)
    assert [] == watched.life.pings


def test_a_distant_mongodb_has_the_time_that_it_takes(watched):
    """Where a sign of life takes a second as a rule, one that comes after three is in time."""
    watched.life.round_trip = 1.0
    watched.life.answer = lambda _: watched.clock.sleep(3.0)
    with watched.lookout.waits():
        watched.look_for(10)
    assert [] == watched.gone


def test_a_broken_connection_is_no_silence(watched):
    """A ping that fails at once is sent again: a primary that steps down, or restarts, closes its connections."""

    def answer(_: float) -> None:
        watched.clock.sleep(0.1)
        if watched.clock.now < 1_001.3:
            raise MongoUnavailableError("connection closed", outage=True)

    watched.life.answer = answer
    with watched.lookout.waits():
        watched.look_for(3)
    assert len(watched.life.pings) > 2
    assert [] == watched.gone


def test_an_answer_to_somebody_is_a_sign_of_life(watched):
    """Where somebody is answered while a ping is not, MongoDB is there."""

    def answer(timeout_s: float) -> None:
        with watched.lookout.waits():
            watched.clock.sleep(0.1)
        watched.clock.sleep(timeout_s)
        raise MongoUnavailableError("timed out", outage=True)

    watched.life.answer = answer
    with watched.lookout.waits():
        watched.look_for(5)
    assert [] == watched.gone


@pytest.mark.parametrize("error", [MongoRefusesError("no"), MongoBusyError(), PipelineClosedError()])
def test_what_is_no_silence(watched, error):
    """A ping that is refused was answered; one that was not sent says nothing."""

    def answer(_: float) -> None:
        raise error

    watched.life.answer = answer
    with watched.lookout.waits():
        watched.look_for(5)
    assert [] == watched.gone


def test_servers_that_refuse_are_told_sooner(watched):
    """That no server is reachable counts when it lasts, and MongoDB is not asked then."""
    watched.life.reason = "Connection refused"
    with watched.lookout.waits():
        watched.look_for(0.5)
        assert [] == watched.gone
        watched.life.reason = ""
        with watched.lookout.waits():
            pass
        watched.look_for(0.2)
        watched.life.reason = "Connection refused"
        watched.look_for(0.5)
        assert [] == watched.gone
        watched.look_for(0.4)
    assert ["Connection refused"] == watched.gone
    assert [] == watched.life.pings


@pytest.mark.parametrize("reason", ["", "Connection refused"])
def test_a_process_that_was_held_up_proves_nothing(watched, reason):
    """Where this process itself has stood still, all that it has missed came in time."""
    watched.life.reason = reason
    watched.life.answer = silence(watched.clock)
    with watched.lookout.waits():
        for _ in range(20):
            watched.look_for(0.2)
            watched.clock.sleep(5)
    assert [] == watched.gone
    assert [] == watched.life.pings


def test_a_ping_over_which_the_process_stood_still(watched):
    """A sign of life that could not come in time, as nobody was there to see it, proves nothing either."""

    def answer(timeout_s: float) -> None:
        watched.clock.sleep(timeout_s + 5)
        raise MongoUnavailableError("timed out", outage=True)

    watched.life.answer = answer
    with watched.lookout.waits():
        watched.look_for(3)
    assert watched.life.pings
    assert [] == watched.gone


def test_the_thread_lives_while_it_is_needed(monkeypatch):
    """It begins with the first who waits, ends when nobody has for a while, and begins anew, in a child too."""
    monkeypatch.setattr(lookout_module, "LOOK_S", 0.005)
    monkeypatch.setattr(lookout_module, "LINGERS_S", 0.02)
    looks = Counter()
    lookout = Lookout(FakeLife(), gone=lambda _: None, find_out=lambda: None)
    monkeypatch.setattr(lookout, "look", lambda: looks.update("1") or Lookout.look(lookout))
    for _ in range(3):
        with lookout.waits():
            assert lookout._runs
            before = looks.total()
            wait_until(lambda before=before: looks.total() > before, "the thread to look")
        wait_until(lambda: not lookout._runs, "its end")
    with lookout.waits():
        lookout.begin_anew()
        assert not lookout._waiting
    assert not lookout._waiting


def test_a_fault_does_not_end_the_look_out(monkeypatch, caplog):
    """It is logged once while it lasts, and who waits next is looked after."""
    monkeypatch.setattr(lookout_module, "LOOK_S", 0.005)
    monkeypatch.setattr(lookout_module, "FAILED_S", 0.005)
    pauses = Mock(side_effect=[ZeroDivisionError, ZeroDivisionError, 0.0, None])
    lookout = Lookout(FakeLife(), gone=lambda _: None, find_out=pauses)
    lookout.await_recovery()
    wait_until(lambda: pauses.call_count >= 4, "the thread to go on")
    assert ["fault"] == [one.event for one in caplog.records if hasattr(one, "event")]


def test_recovery_is_awaited_without_anybody_who_waits(watched):
    """Once MongoDB is gone, it is found out again and again whether it is back, until it is."""
    pauses = [0.5, 1.0, None]
    watched.lookout._find_out = lambda: pauses.pop(0)
    watched.lookout.await_recovery()
    assert [0.5, 1.0] == [watched.lookout.look(), watched.lookout.look()]
    assert watched.lookout.look() is None
    assert watched.lookout.look() is None
    assert [] == pauses
