"""The circuit breaker before MongoDB, which all processes share."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from types import SimpleNamespace

import pytest
from pymongo.errors import InvalidName, InvalidOperation, OperationFailure, WaitQueueTimeoutError
from pymongo.synchronous.collection import Collection as SyncCollection

from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.entry import ABSENT
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    MongoBusyError,
    MongoUnavailableError,
    PipelineClosedError,
    RedisUnavailableError,
)
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb.breaker import FAILURES, BreakerState, MongoBreaker
from writebehind.mongodb.lookout import Lookout
from writebehind.mongodb.sink import Sink
from writebehind.redis.keys import BREAKER
from writebehind.redis.shared.breaker import SharedBreaker

DOWN = MongoUnavailableError("it is down", outage=True)


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_MS", 100)
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 300)
    monkeypatch.setattr(breaker_module, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def long_intervals(monkeypatch):
    """Intervals that are over when the test says so, however slow the machine is."""
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_MS", 60_000)
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 240_000)


class Process:
    """A process that uses MongoDB behind the breaker, and whether it was let through."""

    def __init__(self, wire, probe_ms: int = 60_000) -> None:
        self.breaker = MongoBreaker(SharedBreaker(wire), probe_ms=probe_ms)
        self.asked = 0

    def use(self, error: MongoUnavailableError | None = None) -> bool:
        """Whether it succeeded."""
        try:
            with self.breaker.guard():
                self.asked += 1
                if error:
                    raise error
        except MongoUnavailableError:
            return False
        return True

    def fail(self, times: int = FAILURES) -> None:
        for _ in range(times):
            self.use(MongoUnavailableError("it is down", outage=True))

    def fail_as_probe(self) -> float | None:
        """Fail as soon as it is let through; for how long MongoDB is left alone then, seconds."""
        asked, error = self.asked, MongoUnavailableError("it is down", outage=True)
        wait_until(lambda: self.use(error) or self.asked > asked, "the right to find out")
        return error.retry_after_s

    def let_interval_end(self) -> None:
        """Do what time does: nobody waits any longer before MongoDB is asked."""
        self.breaker._shared._wire.call("HSET", BREAKER, "until", 0)
        self.breaker._open_until = 0.0


@pytest.fixture
def one(wire) -> Process:
    return Process(wire)


@pytest.fixture
def other(wire) -> Process:
    return Process(wire)


@pytest.mark.usefixtures("long_intervals")
def test_failures_open_it_for_all(one, other):
    """After a few failures in one process, none is let through, and all know why."""
    one.fail()

    assert not one.use()
    assert not other.use()
    assert (FAILURES, 0) == (one.asked, other.asked)
    state = other.breaker.state()
    assert ("open", "it is down") == (state.state, state.reason)
    assert abs(time.time() - state.since) < 60
    with pytest.raises(
        MongoUnavailableError, match=r"asked again in \d+\.\d s, as it has failed lately: it is down"
    ) as raised:
        other.breaker._enter()
    assert 0 < raised.value.retry_after_s <= 60


@pytest.mark.usefixtures("long_intervals")
def test_it_does_not_close_by_itself(one, wire):
    """While failures are counted they are forgotten after a while; once it is open, only a success closes it."""
    one.fail(FAILURES - 1)
    assert wire.call("PTTL", BREAKER) > 0

    one.fail(1)

    assert -1 == wire.call("PTTL", BREAKER)


@pytest.mark.usefixtures("long_intervals")
def test_probes_are_never_further_apart_than_the_longest_interval(one):
    """However long MongoDB is away."""
    one.fail()
    waits = []
    for _ in range(4):
        one.let_interval_end()
        waits.append(one.fail_as_probe())

    assert [120.0, 240.0, 240.0, 240.0] == waits


def test_a_few_failures_do_not_open_it(one, other):
    """One failure less is no outage, and a success in between begins the count anew."""
    for _ in range(3):
        one.fail(FAILURES - 1)
        assert one.use()
    assert other.use()
    assert BreakerState() == other.breaker.state()


def test_failures_that_are_old_do_not_count(one, monkeypatch):
    """Failures open it only when they come within a window."""
    monkeypatch.setattr(breaker_module, "WINDOW_MS", 50)
    one.fail(FAILURES - 1)
    wait_until(lambda: not one.breaker._shared._wire.call("EXISTS", BREAKER), "the window to be over")
    one.fail(1)

    assert "closed" == one.breaker.state().state


def test_what_is_no_outage_does_not_count(one, other):
    """An operation that met another says nothing about MongoDB."""
    for _ in range(3 * FAILURES):
        assert not one.use(MongoUnavailableError("write conflict"))
    assert other.use()


@pytest.mark.parametrize("error", [InvalidName("empty"), OperationFailure("no", 73), OperationFailure("no", 13)])
def test_one_collection_opens_it_for_nobody(wire, mongo_client, database_name, monkeypatch, error):
    """That a name is impossible, or one collection is not to be read, is no outage: reads of others go on."""
    breaker = MongoBreaker(SharedBreaker(wire), probe_ms=1_000)
    sink = Sink(mongo_client, database_name, timeout_ms=5_000, breaker=breaker)
    ids = DocumentId.of("secret", "y"), DocumentId.of("users", "y")
    original = SyncCollection.find

    def find(self, *args, **kwargs):
        if self.name == "secret":
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SyncCollection, "find", find)
    for _ in range(2 * FAILURES):
        with pytest.raises(MongoUnavailableError, match="MongoDB refuses"):
            sink.find(ids[0])
        assert ABSENT == sink.find(ids[1])
    for _ in range(2 * FAILURES):
        with pytest.raises(MongoUnavailableError, match="MongoDB refuses"):
            sink.find(DocumentId.of("logs.", "y"))
    assert BreakerState() == breaker.state()


def test_one_finds_out(one, other):
    """After the interval one is let through and no other until it has said how it went; then all are."""
    one.fail()
    wait_until(lambda: one.breaker.state().retry_after_s == 0, "the interval to be over")

    with other.breaker.guard():
        assert "half-open" == one.breaker.state().state
        assert not one.use()
    wait_until(one.use, "the other's success to be known")
    assert BreakerState() == one.breaker.state()


def test_an_answer_that_helps_nobody_closes_it_too(one, other):
    """A probe that is answered has found out that MongoDB serves, even if not this operation."""
    one.fail()
    wait_until(lambda: one.breaker.state().retry_after_s == 0, "the interval to be over")

    assert not other.use(MongoUnavailableError("write conflict"))
    assert BreakerState() == other.breaker.state()


def test_failed_probes_come_less_often(one):
    """Each probe that fails doubles the time until the next, up to a limit."""
    opened = MongoUnavailableError("it is down", outage=True)
    one.fail(FAILURES - 1)
    one.use(opened)

    assert [0.1, 0.2, 0.3, 0.3] == [opened.retry_after_s, *(one.fail_as_probe() for _ in range(3))]
    assert FAILURES + 3 == one.asked


def test_a_failure_of_before_says_nothing_new(one, other):
    """What was begun before it opened, and fails after, does not keep it open longer."""

    def begin_and_fail() -> None:
        with other.breaker.guard():
            one.fail()
            begun["until"] = one.breaker._shared._wire.call("HGET", BREAKER, "until")
            raise DOWN

    begun: dict[str, bytes] = {}
    with pytest.raises(MongoUnavailableError):
        begin_and_fail()
    assert begun["until"] == one.breaker._shared._wire.call("HGET", BREAKER, "until")


def test_a_probe_that_dies_is_followed_by_another(wire):
    """Whoever may find out and never says how it went is replaced."""
    one, other = Process(wire, probe_ms=60_000), Process(wire, probe_ms=60_000)
    one.fail()
    wait_until(one.breaker._enter, "the right to find out")

    assert not other.use()
    assert 0 < one.breaker.state().retry_after_s <= 60
    other.let_interval_end()
    assert other.use()


@pytest.mark.usefixtures("long_intervals")
def test_without_redis_each_process_finds_out_for_itself(one, monkeypatch):
    """When Redis does not answer either, a failure keeps this process off MongoDB for an interval."""

    def down(*_: object) -> None:
        raise RedisUnavailableError

    monkeypatch.setattr(one.breaker._shared._wire, "exchange", down)
    assert one.use()
    one.fail(1)
    assert not one.use()
    assert 2 == one.asked
    one.breaker._open_until = 0.0
    assert one.use()


@pytest.mark.usefixtures("long_intervals")
def test_each_process_logs_each_state_once(one, other, caplog):
    """Who sees the breaker open, half-open or closed logs it, once for an outage, however many probes fail."""
    caplog.set_level("WARNING", breaker_module.__name__)

    events: list[str] = []

    def told() -> list[str]:
        lines = [record.getMessage().removeprefix("the breaker before MongoDB is ") for record in caplog.records]
        lines = [line.removesuffix(breaker_module._ADVICE["open"]) for line in lines]
        events.extend(record.event for record in caplog.records)
        caplog.clear()
        return lines

    one.fail(FAILURES - 1)
    assert [] == told()
    one.fail(1)
    assert ["open: it is down"] == told()
    assert not one.use()
    assert [] == told()
    assert not other.use()
    assert ["open: it is down"] == told()
    for _ in range(2):
        one.let_interval_end()
        one.fail_as_probe()
    assert ["half-open: one caller finds out whether it serves again"] == told()
    one.let_interval_end()
    assert one.use()
    wait_until(other.use, "the other to see it")
    assert 2 == len([line for line in told() if line.startswith("closed, after ")])
    assert one.use()
    assert other.use()
    assert [] == told()
    assert ["breaker_opened"] * 2 + ["breaker_half_opened"] + ["breaker_closed"] * 2 == events


@pytest.mark.usefixtures("long_intervals")
@pytest.mark.parametrize("closes", ["itself", "another one"])
def test_time_in_which_nothing_was_asked_is_no_outage(one, other, caplog, monkeypatch, closes):
    """A process that has asked nothing since it saw the breaker open does not know when MongoDB came back."""
    caplog.set_level("WARNING", breaker_module.__name__)
    now = [1_000.0]
    monkeypatch.setattr(breaker_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one.fail()
    now[0] += 7.5
    assert not one.use()
    now[0] += 330.0
    one.let_interval_end()
    if closes == "another one":
        assert other.use()
        now[0] += 5.0
    caplog.clear()
    assert one.use()

    last = caplog.messages[-1]
    idle = 335.0 if closes == "another one" else 330.0
    wanted = f"closed: it was open for at least 7.5 s; then this process did not look for {idle} s"
    assert f"the breaker before MongoDB is {wanted}" == last


def test_what_never_opened_is_not_told_closed(one, caplog):
    """A failure or two, and a success after them, are no change of the breaker."""
    caplog.set_level("WARNING", breaker_module.__name__)
    one.fail(FAILURES - 1)
    assert one.use()
    assert [] == caplog.records


class Life:
    """A MongoDB that gives a sign of life or none."""

    def __init__(self) -> None:
        self.error: MongoUnavailableError | None = None
        self.pings = 0

    def ping(self, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.pings += 1
        if self.error:
            raise self.error

    def unreachable(self) -> str:
        return ""

    def round_trip_s(self) -> float:
        return 0.0


@pytest.fixture
def life(one, other, monkeypatch) -> Life:
    """The MongoDB of both processes, whose look-outs have no threads."""
    monkeypatch.setattr(Lookout, "_start", lambda _: None)
    life = Life()
    one.breaker.look_at(life)
    other.breaker.look_at(life)
    return life


@pytest.mark.usefixtures("long_intervals")
def test_silence_alone_opens_it(one, other, life):
    """That MongoDB gives no sign of life opens it for all, and only signs of life are asked for from then on."""
    one.breaker._gone("timed out")
    assert ("open", "MongoDB gives no sign of life: timed out") == (
        one.breaker.state().state,
        one.breaker.state().reason,
    )
    one.let_interval_end()
    for process in (one, other):
        assert not process.use()
        assert not process.use()
    assert (0, 0, 0) == (one.asked, other.asked, life.pings)


@pytest.mark.usefixtures("long_intervals")
def test_a_sign_of_life_closes_it(one, other, life):
    """After the interval one process asks for a sign. The interval does not grow, and a sign closes it for all."""
    one.breaker._gone("timed out")
    life.error = DOWN
    for _ in range(3):
        one.let_interval_end()
        assert 60.0 == one.breaker._find_out()
        assert "open" == one.breaker.state().state
    assert other.breaker._find_out() is not None
    assert 3 == life.pings

    life.error = None
    one.let_interval_end()
    assert one.breaker._find_out() is None
    assert other.breaker._find_out() is None
    assert 4 == life.pings
    assert BreakerState() == other.breaker.state()
    assert one.use()
    assert wait_until(other.use, "the other to see it")


@pytest.mark.usefixtures("long_intervals")
def test_a_sign_of_life_does_not_close_what_operations_have_opened(one, life):
    """Where MongoDB answers and takes no writes, only an operation finds out."""
    one.fail()
    one.let_interval_end()
    assert one.breaker._find_out() is None
    assert 0 == life.pings
    assert "open" == one.breaker.state().state
    assert one.use()
    assert "closed" == one.breaker.state().state


@pytest.mark.usefixtures("long_intervals")
def test_silence_after_failures(one, other, life):
    """Where operations have opened it, and MongoDB falls silent then, no caller waits for it in vain any more."""
    one.fail()
    other.breaker._gone("timed out")
    one.let_interval_end()
    assert not one.use()
    assert FAILURES == one.asked
    assert other.breaker._find_out() is None
    assert 1 == life.pings
    assert "closed" == one.breaker.state().state


@pytest.mark.usefixtures("life")
def test_nobody_waits_long_for_what_comes_soon(one, other, monkeypatch):
    """However long a sign of life may take, callers are told to come again in an interval."""
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 240_000)
    one.breaker._gone("timed out")
    one.breaker._shared._wire.call("HSET", BREAKER, "until", int(time.time() * 1000) + 50_000)
    with pytest.raises(MongoUnavailableError) as raised:
        other.breaker._enter()
    assert raised.value.retry_after_s <= 0.1


@pytest.mark.parametrize("error", [MongoBusyError(), PipelineClosedError()])
def test_a_sign_that_could_not_be_asked_for(one, life, error):
    """A process that is closed, or has no connection free, does not close it."""
    one.breaker._gone("timed out")
    one.let_interval_end()
    life.error = error
    one.breaker._find_out()
    assert 1 == life.pings
    assert "open" == one.breaker.state().state


@pytest.mark.parametrize("state", ["open", "half-open"])
def test_a_clock_that_is_set_back_keeps_it_open_no_longer(one, other, wire, state):
    """Where Redis's clock steps back by minutes, MongoDB is asked at once, and not when it has caught up."""
    one.fail()
    later_ms = 600_000 + int(wire.call("HGET", BREAKER, "until"))
    wire.call("HSET", BREAKER, "until", later_ms, "state", state)

    assert other.breaker.state().retry_after_s <= 60
    assert other.breaker._failed("begun before it opened", probing=False) <= 0.1
    assert wait_until(other.use, "the probe", timeout=5)
    assert other.asked == 1


def test_the_wait_for_a_probe_is_no_step_of_the_clock(wire):
    """While one caller finds out, the others wait for as long as it may take, and not only for the interval."""
    first, second = Process(wire, probe_ms=60_000), Process(wire, probe_ms=60_000)
    first.fail()
    wait_until(lambda: first.breaker._open_until <= time.monotonic(), "the interval")
    assert first.breaker._enter()
    assert not second.use()


@pytest.mark.parametrize("odd", [None, "", "nan", "-inf", "1e300", b"\xff"])
def test_what_other_hands_have_made_of_it(wire, odd):
    """Fields that are missing or odd raise nothing, and keep nobody out for longer than the longest interval."""
    one, other = Process(wire, probe_ms=50), Process(wire, probe_ms=50)

    def tamper() -> None:
        for field in ("until", "interval", "why", "since", "failures"):
            wire.call("HDEL", BREAKER, field)
            if odd is not None:
                wire.call("HSET", BREAKER, field, odd)

    one.fail(1)
    tamper()
    one.fail(FAILURES)
    tamper()
    other.use(DOWN)
    state = other.breaker.state()
    assert 0 <= state.retry_after_s <= breaker_module.LONGEST_INTERVAL_MS / 1000
    wait_until(one.breaker._enter, "the right to find out")
    tamper()
    one.breaker._failed("still down", probing=True)
    tamper()
    wait_until(other.use, "the breaker to be closed", timeout=5)
    assert BreakerState() == one.breaker.state()


def test_a_pipeline_that_is_closed_while_it_reads(settings, valkey_wire):
    """Its threads hear that it is closed, and no other process that MongoDB is away."""
    pipeline = Pipeline(settings)
    users = pipeline.collection("users")
    failures: list[Exception] = []

    def read() -> None:
        for n in count():
            try:
                users.get(f"{threading.get_ident()}-{n}")
            except MongoUnavailableError as error:
                failures.append(error)
                if len(failures) > FAILURES:
                    return

    with ThreadPoolExecutor(4) as threads:
        reading = [threads.submit(read) for _ in range(4)]
        wait_until(lambda: valkey_wire.call("DBSIZE") > 20, "documents to be read")
        pipeline.close()
        for one in reading:
            one.result(20)

    assert {PipelineClosedError} == set(map(type, failures))
    assert 0 == valkey_wire.call("EXISTS", BREAKER)
    assert [] == valkey_wire.call("KEYS", "wb:*load:*")


@pytest.mark.parametrize("error", [WaitQueueTimeoutError("all are in use"), InvalidOperation("after close")])
def test_what_this_process_has_not_asked(sink, one, error):
    """It says nothing of MongoDB: neither does it open the breaker, nor does it close one that is open."""
    sink._ask = one.breaker.guard

    def fail() -> None:
        for _ in range(FAILURES + 1):
            with suppress(MongoUnavailableError), sink._guard(), sink._deadline():
                raise error

    fail()
    assert "closed" == one.breaker.state().state
    one.fail()
    one.let_interval_end()
    fail()
    assert "half-open" == one.breaker.state().state
