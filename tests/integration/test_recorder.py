"""The recorder of the history: what it records is what happened, and one process records."""

from __future__ import annotations

import threading
from itertools import count
from math import inf
from threading import current_thread
from unittest.mock import Mock

import pytest
from kombu.exceptions import ChannelError
from kombu.transport.memory import Channel

from tests.integration.conftest import full
from tests.proxy import Proxy
from tests.waiting import wait_until
from writebehind import connect
from writebehind.celery.depths import QueueDepths
from writebehind.celery.publisher import FlushPublisher
from writebehind.errors import RedisUnavailableError
from writebehind.history.points import COARSE_S, COLUMNS, MOST_COARSE, MOST_FINE, Point
from writebehind.history.recorder import CREW_EVERY_S, EXCUSED_FOR_S, LEASE_MS, server_figures
from writebehind.history.series import series
from writebehind.operations.drain import drain
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Hint
from writebehind.redis.shared.attendance import EXPORTER
from writebehind.silence import EXPORTER_SILENT_S


@pytest.fixture
def at(pipeline, monkeypatch):
    """The clock of Redis in the hands of the test: it goes on by a second with each look, or by so many."""
    clock = {"now": 1_790_000_000_000}
    monkeypatch.setattr(pipeline.store, "now_ms", lambda: clock["now"])

    def go_on(seconds: float) -> None:
        clock["now"] += round(seconds * 1000)

    return go_on


@pytest.fixture
def steady(monkeypatch):
    """The recorder's own clock: each look is a second after the last one."""
    ticks = count(1.0)
    monkeypatch.setattr("writebehind.history.recorder.monotonic", lambda: next(ticks))


def test_rates_are_what_happened_between_two_points(pipeline, at, steady):
    """Of the first it is not known, and of the second it is exact."""
    recorder = pipeline.recorder()
    assert recorder.step()
    for n in range(30):
        pipeline.collection("slow").put(f"{n % 10}", {"n": n})
    at(1)
    assert recorder.step()
    drain(pipeline, timeout_s=10)
    at(1)
    assert recorder.step()
    recorder.close()

    found = series(pipeline.store)
    assert [None, 30.0, 0.0] == found["acknowledged_per_second"]
    assert [None, 0.0, 10.0] == found["persisted_per_second"]
    assert [None, 0.0, 10.0] == found["operations_per_second"]
    assert [0, 10, 0] == found["pending"]
    assert ["closed"] * 3 == found["breaker"]
    assert found["pending_bytes"][1] > 10 * 49
    assert all(one > 0 for one in found["used_memory"])
    assert [1_790_000_000.0, 1_790_000_001.0, 1_790_000_002.0] == found["time"]


@pytest.mark.one_server("a proxy stands before one port")
def test_an_outage_of_redis_is_in_the_point_after_it(settings, valkey, valkey_wire):
    """It has for how long Redis did not answer, so that no chart joins it to the one before; the next has none."""
    with Proxy(valkey.port) as proxy:
        changes = {
            "redis_url": f"redis://127.0.0.1:{proxy.port}/0",
            "redis_timeout_ms": 1_000,  # a busy machine is no second outage
            "confirm_timeout_ms": 500,
        }
        with connect(settings.model_copy(update=changes)) as pipeline:
            recorder, stop = pipeline.recorder(), threading.Event()
            recording = threading.Thread(target=recorder.run, args=(stop,))
            recording.start()
            try:
                points = [wait_until(lambda: series(pipeline.store)["time"], "a point")[-1]]
                proxy.hang()
                wait_until(lambda: recorder._away_since is not None, "the recorder to see it")
                proxy.flow()
                wait_until(lambda: recorder._away_since is None, "the recorder to go on")
                wait_until(lambda: series(pipeline.store)["redis_away_seconds"][-1] is None, "another point")
                told = series(pipeline.store)
            finally:
                stop.set()
                recording.join()
    away = [one for one in zip(told["time"], told["redis_away_seconds"], strict=True) if one[1] is not None]
    assert 1 == len(away), told
    assert away[0][0] > points[0]
    assert 0 < away[0][1] <= away[0][0] - points[0] + 1


def test_a_costly_look_is_paid_in_full_and_makes_nobody_miss_the_recorder(pipeline, monkeypatch, caplog):
    """It pauses for what it has used, says so, tells meanwhile that it is at work, and lets nobody else record."""
    recorder, stop, waits, ticks = pipeline.recorder(), Mock(), [], {"monotonic": 0.0, "thread_time": 0.0}
    for clock in ("monotonic", "thread_time"):
        monkeypatch.setattr(f"writebehind.history.recorder.{clock}", lambda clock=clock: ticks[clock])

    def wait(seconds: float) -> bool:
        if waits[1:]:
            assert not pipeline.recorder()._lease.take()
            assert EXPORTER in pipeline.store.attendance.look(pipeline.store.now_ms()).by_role
        waits.append(seconds)
        ticks["monotonic"] += seconds
        return False

    def step() -> None:
        ticks["thread_time"] += 0.2

    stop.wait.side_effect, stop.is_set.side_effect = wait, [False, True]
    monkeypatch.setattr(recorder, "step", step)
    recorder.run(stop)
    assert 20 == pytest.approx(sum(waits))
    assert max(waits) < min(LEASE_MS / 2_000, EXPORTER_SILENT_S / 2)
    (told,) = [one.getMessage() for one in caplog.records]
    assert told.startswith("the history has no points for 20 s: the last look took 0.2 s of CPU")


def events(caplog) -> list[tuple[str, object]]:
    told = [
        (one.event, getattr(one, "worker", "") or one.count) for one in caplog.records if hasattr(one, "event")
    ]
    caplog.clear()
    return told


def test_what_no_process_sees_of_itself_is_logged(pipeline, steady, caplog, monkeypatch):
    """A worker that falls silent and comes back, once each; and dead letters that anybody replays or discards."""
    recorder, workers, wire = pipeline.recorder(), pipeline.store.workers, pipeline.store._wire
    now = pipeline.store.now_ms()

    def look() -> list[tuple[str, object]]:
        recorder._crew_seen = float("-inf")
        recorder.step()
        return events(caplog)

    workers.record_proof("w@a", ["flush"])
    workers.record_proof("long@a", ["flush"])
    wire.call("ZADD", keys.WORKERS, now - 600_000, "long@a")
    assert [] == look()  # another recorder has said so of the one
    wire.call("ZADD", keys.WORKERS, now - 16_000, "w@a")
    assert [("worker_silent", "w@a")] == look()
    assert [] == look()
    workers.record_proof("w@a", ["flush"])
    workers.gone("long@a")
    assert [("worker_back", "w@a")] == look()

    wire.call("ZADD", keys.WORKERS, now - 16_000, "w@a")
    with monkeypatch.context() as patched:
        patched.setattr("writebehind.redis.shared.workers.has_ended", bool)
        assert [("worker_ended", "w@a")] == look()
        assert [] == look()
        wire.call("ZADD", keys.WORKERS, now - 601_000, "w@a")
        assert [] == look()
    assert [] == workers.look().silent  # it is forgotten, also where its process cannot be seen

    wire.call("HSET", partition_keys(0).counts, "replayed", 3, "discarded", 1)
    assert [("letters_replayed", 3), ("letters_discarded", 1)] == look()
    assert [] == look()
    recorder.close()


def test_latencies_and_the_hit_ratio_are_those_in_between(pipeline, at, steady):
    """A host that begins anew counts from there."""
    looks = iter(
        [
            {"hit": {0.001: 100, inf: 0}, "miss": {0.001: 0, inf: 50}},
            {"hit": {0.001: 190, inf: 0}, "miss": {0.001: 10, inf: 50}},
            {"hit": {0.001: 4, inf: 0}, "miss": {0.001: 0, inf: 4}},
        ]
    )
    recorder = pipeline.recorder(figures_of_this_host=lambda: next(looks))
    for _ in range(3):
        recorder.step()
        at(1)
    recorder.close()
    found = series(pipeline.store)
    assert [None, 0.9, 0.5] == found["hit_ratio"]
    assert [None, 100.0, 8.0] == found["reads_per_second"]
    assert [None, 0.0005, 0.0005] == found["latency"]["hit"]["p50"]
    assert [None, 0.00099, 0.001] == found["latency"]["miss"]["p99"]
    assert [None] * 3 == found["latency"]["revalidated"]["p50"]


def test_one_process_records_and_another_takes_over(pipeline, at):
    """Who is closed makes room at once, and records nothing while the other one does."""
    first, second = pipeline.recorder(), pipeline.recorder()
    assert (True, False) == (first.step(), second.step())
    at(1)
    first.close()
    assert second.step()
    assert not first.step()
    second.close()
    assert 2 == len(series(pipeline.store)["time"])


def test_longer_times_have_points_of_their_own(pipeline, at):
    """One for each 15 s, also where the recorder has changed within them."""
    recorder = pipeline.recorder()
    at(COARSE_S - 1_790_000_000 % COARSE_S)
    for second in range(2 * COARSE_S + 1):
        if second == 5:
            recorder.close()
            recorder = pipeline.recorder()
            pipeline.collection("slow").put("a", {})
        recorder.step()
        at(1)
    recorder.close()
    fine, coarse = pipeline.store.history.all()
    assert (2 * COARSE_S + 1, 2) == (len(fine), len(coarse))
    last, first = map(Point.parse, coarse)
    assert COARSE_S == last.at - first.at
    assert (1, 1) == (first.figures["pending"], last.figures["pending"])
    assert first.number("acknowledged_per_second") is not None


def test_the_history_of_an_hour_is_small(pipeline, at):
    """Each list is full, with every figure known: this many bytes are in Redis, and no more."""
    lease = pipeline.store.lease("wb:history_lease:{history}", 60_000)
    assert lease.take()
    figures = dict.fromkeys(COLUMNS, 123456.789) | {"breaker": "half-open"}
    for second in range(MOST_COARSE + 10):
        point = Point(1_790_000_000.123 + second, figures).dump()
        pipeline.store.history.add(lease, point, point, most=MOST_FINE, most_coarse=MOST_COARSE)
    fine, coarse = pipeline.store.history.all()
    assert (MOST_FINE, MOST_COARSE) == (len(fine), len(coarse))
    sizes = [
        pipeline.store._wire.call("MEMORY", "USAGE", key, "SAMPLES", 0)
        for key in ("wb:history:{history}", "wb:history_coarse:{history}")
    ]
    assert sum(sizes) < 140_000, sizes


def test_the_clock_of_redis_may_step(pipeline, at, steady):
    """Rates are by a steady clock, and points of a time that is to come are not shown."""
    recorder = pipeline.recorder()
    for step_s in (1, 3_600, -7_200, 1):
        recorder.step()
        pipeline.collection("slow").put("a", {})
        at(step_s)
    recorder.step()
    recorder.close()
    found = series(pipeline.store)
    assert [1_789_996_401.0, 1_789_996_402.0] == found["time"]
    assert [1.0, 1.0] == found["acknowledged_per_second"]


@pytest.mark.one_server("a proxy stands before one port")
def test_it_goes_on_when_redis_is_back(pipeline, settings, valkey, caplog):
    """And records nothing meanwhile; the process stands it, and does not say again that Redis is lost."""
    with Proxy(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with connect(settings.model_copy(update={"redis_url": url, "redis_timeout_ms": 300})) as cut_off:
            stop = threading.Event()
            thread = threading.Thread(target=cut_off.recorder().run, args=(stop,))
            thread.start()
            try:
                wait_until(lambda: series(pipeline.store)["time"], "a point")
                proxy.hang()
                wait_until(lambda: pipeline.store.lease("wb:history_lease:{history}", 9).take(), "a gap", 20)
                wait_until(lambda: "Redis does not answer" in caplog.text, "the loss to be told", 20)
                proxy.flow()
                last = max(series(pipeline.store)["time"])
                wait_until(lambda: max(series(pipeline.store)["time"]) > last, "another point", 20)
            finally:
                stop.set()
                thread.join(10)
    assert not thread.is_alive()
    assert "the history is not recorded" not in caplog.text


def test_a_full_redis_has_a_history(pipeline):
    """It is recorded, and takes no more room than before."""
    recorder = pipeline.recorder()
    recorder.step()
    with full(pipeline.store._wire):
        assert recorder.step()
    recorder.close()


def test_figures_of_mongodb(pipeline, sink):
    """Its operations and connections, as far as the server tells; what it does not tell is not known."""
    figures = server_figures(sink)
    assert figures.keys() <= {"operations", "connections"}
    recorder = pipeline.recorder()
    recorder.step()
    wait_until(recorder._mongodb.latest, "an answer of MongoDB")
    recorder.step()
    recorder.close()
    assert figures.get("connections", None) is None or series(pipeline.store)["mongodb_connections"][-1] > 0


def test_messages_that_wait_are_counted(settings, broker_wire):
    """In each queue of the broker; none in one that nobody has used."""
    depths = QueueDepths(settings)
    assert {"flush": 0, "refresh": 0, "maintenance": 0} == depths()
    publisher = FlushPublisher(settings)
    for n in range(3):
        publisher(Hint(n, "", 0))
    publisher.close()
    assert {"flush": 3, "refresh": 0, "maintenance": 0} == depths()
    depths.close()
    assert 3 == depths()["flush"]
    depths.close()


def test_a_queue_that_nobody_has_declared_hides_no_other(settings, monkeypatch):
    """RabbitMQ closes the channel on which it was asked for: the next one is asked for on another."""
    depths = QueueDepths(settings.model_copy(update={"broker_url": "memory://"}))
    declare = Channel.queue_declare

    def refused(channel, *arguments, **named):
        assert not channel.closed
        try:
            return declare(channel, *arguments, **named)
        except ChannelError:
            channel.close()
            raise

    monkeypatch.setattr(Channel, "queue_declare", refused)
    assert {} == depths()
    with depths._app.connection_for_write() as connection, connection.channel() as channel:
        declare(channel, "maintenance")
        assert {"maintenance": 0} == depths()
    depths.close()


def test_nobody_is_asked_while_another_process_records(pipeline, monkeypatch):
    """Neither MongoDB nor the broker, whose connection is closed by who has asked; again when it records again."""
    monkeypatch.setattr("writebehind.history.slow_figures.EVERY_S", 0.01)
    monkeypatch.setattr("writebehind.history.slow_figures.FRESH_S", 0.3)
    asked, ended = [], []
    recorder = pipeline.recorder(
        depths=lambda: asked.append(current_thread()) or {"flush": len(asked)},
        close_depths=lambda: ended.append(current_thread()),
    )
    assert recorder.step()
    wait_until(lambda: asked, "a question")
    recorder._lease.release()
    other = pipeline.recorder()
    assert other.step()
    assert not recorder.step()
    wait_until(lambda: ended, "the end of the questions")
    assert {asked[0]} == {*ended}
    count = len(asked)
    other.close()
    assert count == len(asked)
    assert recorder.step()
    wait_until(lambda: len(asked) > count, "another question")
    recorder.close()
    wait_until(lambda: len(ended) == 2, "the end")


def test_no_worker_is_silent_after_an_outage_of_redis(pipeline, steady, caplog, monkeypatch):
    """None could say that it works; one that does not afterwards is told of."""
    recorder, stop = pipeline.recorder(), threading.Event()
    pipeline.store.workers.record_proof("w@a", ["flush"])
    recorder.step()
    pipeline.store._wire.call("ZADD", keys.WORKERS, pipeline.store.now_ms() - 16_000, "w@a")

    def lost() -> bool:
        stop.set()
        raise RedisUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "step", lost)
        patch.setattr(recorder, "close", lambda: None)
        recorder.run(stop)
    caplog.clear()
    recorder.step()
    assert [] == events(caplog)
    recorder._crew_seen -= EXCUSED_FOR_S + CREW_EVERY_S
    recorder.step()
    assert [("worker_silent", "w@a")] == events(caplog)
    recorder.close()
