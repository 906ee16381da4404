"""Log lines of workers: one for what is expected, a traceback for what is not."""

from __future__ import annotations

import logging

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.worker.consumer.consumer import CONNECTION_ERROR, CONNECTION_RETRY
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from tasks.logs import BrokerLines, OneLine
from writebehind.errors import MongoUnavailableError
from writebehind.logs.states import StateLog


@pytest.fixture
def app() -> Celery:
    return Celery(set_as_current=False, broker="memory://")


def line(error: BaseException | None, message: str = "lost %s", *arguments: object) -> str:
    """How a message is logged, with the error that is being handled."""
    handled = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("celery", logging.WARNING, __file__, 1, message, arguments, handled)
    assert OneLine().filter(record)
    return logging.Formatter("%(message)s").format(record)


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("no answer"),
        OperationalError("no answer"),
        MongoUnavailableError("no answer"),
        ConnectionRefusedError("no answer"),
        TimeoutError("no answer"),
    ],
)
def test_an_outage_is_one_line(error):
    """The error of a server that is away stands at the end of the line, without a traceback."""
    told = line(error, "lost %s", "it")
    assert f"lost it {type(error).__name__}: " in told
    assert "no answer" in told
    assert 1 == len(told.splitlines())


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("a"), OSError("a")])
def test_what_nobody_expects_has_its_traceback(error):
    """A fault of the program is left to the formatter, which tells it in full."""
    assert f"failed\n{type(error).__name__}" in line(error, "failed")


@pytest.mark.parametrize("cause", [OperationalError("no answer"), KeyError("a")])
def test_beat_tells_an_outage_in_one_line(app, cause, caplog):
    """Its broker is away: neither a traceback nor the stack; whatever else keeps a task back has both."""

    class Failing(Scheduler):
        def send_task(self, *_: object, **__: object) -> None:
            raise cause

    beat = Failing(app, lazy=True)
    beat.apply_entry(ScheduleEntry("sweep", "sweep", schedule=60.0, app=app))

    [record] = caplog.records
    assert OneLine().filter(record)
    told = logging.Formatter("%(message)s").format(record)
    if isinstance(cause, OperationalError):
        assert "Couldn't apply scheduled task sweep: no answer" == told
    else:
        assert "Traceback" in told


def test_a_message_of_several_lines_becomes_one():
    """Celery's messages have line breaks, and a message may have a percent sign and no arguments."""
    assert "a 100% b" == line(None, "\na\n  100% b\n\n")


OF_BROKER = [
    ("celery.worker.consumer.consumer", CONNECTION_RETRY),
    ("celery.worker.consumer.consumer", CONNECTION_ERROR % ("redis://host", "refused", "trying again")),
    ("celery.worker.request", "Couldn't ack 'd41698a2', reason:network:ConnectionError"),
    ("celery.beat", "beat: Connection error: refused. Trying again in 2 seconds..."),
    ("celery.beat", "Couldn't apply scheduled task sweep: refused"),
    ("flower.events", "Failed to capture events: 'refused', trying again in 1 seconds."),
]


@pytest.mark.parametrize("is_redis", [True, False])
def test_a_broker_that_is_away_is_one_line(caplog, is_redis):
    """Whoever tries it, and however often; what is about anything else passes."""
    state = StateLog(logging.getLogger("here"), "redis_lost", "redis_back")
    lines = BrokerLines((lambda: state) if is_redis else None)
    for name, message in [*OF_BROKER, *OF_BROKER]:
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, (), None)
        assert not (OneLine().filter(record) and lines.filter(record))
    [told] = caplog.records
    assert ("redis_lost" if is_redis else "outage_began") == told.event
    assert "the broker does not answer" in told.getMessage()
    assert lines.filter(logging.LogRecord("celery.beat", logging.ERROR, __file__, 1, "something else", (), None))
