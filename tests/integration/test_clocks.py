"""Machines whose clocks differ, or are set: what is to be done is done in its normal time."""

from __future__ import annotations

import os
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from celery.beat import Scheduler
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from kombu.asynchronous import set_event_loop

from tests.waiting import wait_until
from writebehind.celery import delays
from writebehind.celery.configuration import create_app, schedule
from writebehind.celery.delays import every, steady_now
from writebehind.celery.names import FLUSH_QUEUE, SWEEP
from writebehind.celery.publisher import FlushPublisher, publish
from writebehind.celery.tasks import register
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.redis.cache import Refresh
from writebehind.redis.pending import Hint

STEPS = [timedelta(minutes=10), timedelta(minutes=-10)]


@pytest.fixture
def app(settings, empty_broker):
    return create_app(settings)


def messages(app, queue: str) -> list:
    """What waits in a queue of the broker."""
    with app.connection_for_read() as connection, connection.channel() as channel:
        found = []
        while message := channel.basic_get(queue, no_ack=True):
            found.append(message)
        return found


@pytest.fixture
def logging_as_it_is():
    """A worker in this process leaves the logging of the other tests alone, and its words in the environment."""

    def leave(**_):
        """Having a receiver is enough."""

    setup_logging.connect(leave)
    with patch.dict(os.environ):
        yield
    setup_logging.disconnect(leave)


@pytest.fixture
def own_loop():
    """A worker in this process has its own event loop, as in a process of its own.

    Older kombu leaves that of a worker that has ended to the next one, whose timer nobody looks at.
    """
    set_event_loop(None)
    yield
    set_event_loop(None)


@pytest.fixture(params=STEPS, ids=["ahead", "behind"])
def another_clock(request, app, monkeypatch):
    """The clock of the machine that sends differs by minutes."""
    monkeypatch.setattr(app, "now", lambda: datetime.now(UTC) + request.param)


def test_a_flush_waits_for_its_delay_whatever_the_clocks_say(app, another_clock, own_loop, logging_as_it_is):
    """A task is run its delay after a worker has got it, by that worker's clock; also when it is tried again."""
    ran: dict[str, tuple[float, int]] = {}

    class Pipeline:
        """Its flusher notes when it was asked, and lets the first flush be tried again later."""

        def flush(self, partition, *, ticket, attempt, **_):
            ran[ticket] = time.monotonic() - began, attempt
            if ticket == "now":
                raise FlushInterruptedError("it is down", Hint(0, "again", 600))
            return FlushSummary(partition)

        flusher = property(lambda self: self)

    register(app, SimpleNamespace(pipeline=Pipeline()))
    began = time.monotonic()
    publish(app, Hint(0, "now", 0))
    publish(app, Hint(0, "later", 600))
    with start_worker(app, pool="solo", perform_ping_check=False, queues=[FLUSH_QUEUE], shutdown_timeout=20):
        wait_until(lambda: ran.keys() == {"now", "later", "again"}, "all tasks")

    assert ran["later"][0] >= 0.6
    assert ran["again"][0] - ran["now"][0] >= 0.6
    assert {"now": 0, "later": 0, "again": 1} == {ticket: attempt for ticket, (_, attempt) in ran.items()}


def test_a_refresh_is_dropped_only_when_its_right_is_over(app, another_clock, pipeline, monkeypatch):
    """A message has no time by the sender's clock; the token in Redis says whether it is too late."""
    hints = FlushPublisher(pipeline.settings)
    monkeypatch.setattr(hints, "_app", app)
    hints(Refresh("users/s:a", "token", "seen"))
    hints.close()
    [message] = messages(app, "refresh")
    assert (None, None) == (message.headers["eta"], message.headers["expires"])

    refreshed = []
    monkeypatch.setattr(pipeline.revalidation, "refresh", refreshed.append)
    register(app, SimpleNamespace(pipeline=pipeline))
    task = app.tasks["writebehind.refresh"]
    task("users/s:a", "token", "seen")
    assert [] == refreshed
    keys = pipeline.store.cache.key("users/s:a").replace(":entry:", ":load:")
    pipeline.store._wire.call("SET", keys, "token")
    task("users/s:a", "token", "seen")
    assert ["users/s:a"] == [one.member for one in refreshed]


@pytest.mark.parametrize("step", STEPS, ids=["forward", "back"])
def test_beat_goes_on_when_the_clock_is_set(app, settings, step, monkeypatch):
    """A periodic task is due its interval after the last one, by what has passed."""
    passed = [0.0]
    monkeypatch.setattr(delays, "monotonic", lambda: delays._began + passed[0])
    app.conf.beat_schedule = schedule(app, settings)
    beat = Scheduler(app, lazy=True)
    beat.setup_schedule()
    sweep = beat.schedule[SWEEP]
    assert (SWEEP, False) == (sweep.task, sweep.is_due().is_due)
    monkeypatch.setattr(app, "now", lambda: datetime.now(UTC) + step)

    passed[0] = sweep.schedule.seconds - 0.5
    assert not sweep.is_due().is_due
    assert sweep.is_due().next <= 0.5
    passed[0] += 0.6
    assert sweep.is_due().is_due
    sweep = next(sweep)
    assert not sweep.is_due().is_due


def test_what_passes_is_what_the_schedule_sees():
    """The clock of schedules runs, and began with the machine's."""
    before = steady_now()
    threading.Event().wait(0.01)
    assert timedelta(milliseconds=9) < steady_now() - before
    assert abs(steady_now() - datetime.now(UTC)) < timedelta(hours=1)


@pytest.mark.parametrize("ahead_s", [-3_600, -1, 0, 5, 3_600, 10**9])
def test_a_last_run_that_is_to_come_holds_nothing_up(app, ahead_s):
    """A beat that has noted one, before the clock was set back, waits for the interval and not for that time."""
    due, next_s = every(app, 5).is_due(steady_now() + timedelta(seconds=ahead_s))

    assert due == (ahead_s < -5)
    assert 0 < next_s <= 5
    assert every(app, 5) == pickle.loads(pickle.dumps(every(app, 5)))  # noqa: S301 - as beat keeps it
