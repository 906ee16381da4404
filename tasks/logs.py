"""Lines of the worker, beat and Flower processes: one for what is expected, a traceback for what is not."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final

from celery import signals
from celery.beat import SchedulingError
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.errors import UnavailableError, told

#: What a server that is away raises: its message says all that there is to know.
OUTAGE: Final = (
    UnavailableError,
    OperationalError,
    RedisConnectionError,
    RedisTimeoutError,
    ConnectionError,
    TimeoutError,
)


class OneLine(logging.Filter):
    """Puts every message in one line, and the error of an outage at its end in the place of a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        text = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SchedulingError) and isinstance(error.__context__, OUTAGE):
            text = str(error)  # beat's own message has the stack in it
            record.exc_info = record.exc_text = None
        elif isinstance(error, OUTAGE):
            text = f"{text} {type(error).__name__}: {told(error)}"
            record.exc_info = record.exc_text = None
        record.msg, record.args = text, None
        return True


def keep_short() -> None:
    """Have this process log so, and say in a line when it is at work."""
    # Messages are JSON: who may write to the broker makes a worker run no code of theirs, whoever it runs as.
    warnings.filterwarnings("ignore", "You're running the worker with superuser", SecurityWarning)
    # It asks each worker at its start, also those that have just begun to start.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    signals.after_setup_logger.connect(_shorten, weak=False)
    signals.celeryd_after_setup.connect(_warn_of_nothing_set, weak=False)
    signals.worker_ready.connect(_say_ready, weak=False)
    signals.beat_init.connect(_say_beats, weak=False)


def _shorten(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        handler.addFilter(OneLine())


def _warn_of_nothing_set(**_: Any) -> None:
    # Celery warns whenever a broker is away, as `worker_cancel_long_running_tasks_on_connection_loss` is False.
    # True is for pools that can end a task, which one of threads cannot. The set-up of logs, which is over by now,
    # has had such warnings shown always.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")


def _say_ready(sender: Any, **_: Any) -> None:
    print(f"consumes {', '.join(sorted(sender.app.amqp.queues.consume_from))}", flush=True)  # noqa: T201


def _say_beats(sender: Any, **_: Any) -> None:
    print(f"issues {len(sender.app.conf.beat_schedule)} periodic tasks", flush=True)  # noqa: T201
