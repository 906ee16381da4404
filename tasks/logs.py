"""Lines of the worker, beat and Flower processes: one for what is expected, a traceback for what is not."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery._state import get_current_task
from celery.apps import worker as worker_app
from celery.beat import SchedulingError
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.utils.log import get_multiprocessing_logger
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.celery.refusing import refusing
from writebehind.errors import UnavailableError, told
from writebehind.logs.fields import add_source
from writebehind.logs.states import StateLog, patience_s
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)

#: What a server that is away raises: its message says all that there is to know.
OUTAGE: Final = (
    UnavailableError,
    OperationalError,
    RedisConnectionError,
    RedisTimeoutError,
    ConnectionError,
    TimeoutError,
)


#: Who logs about a broker that is away, and how these lines begin.
_OF_BROKER: Final = {"celery.worker.consumer.consumer", "celery.worker.request", "celery.beat", "flower.events"}
_AWAY: Final = (
    "consumer: Connection to broker lost",
    "consumer: Cannot connect to",
    "beat: Connection error",
    "Couldn't apply scheduled task",
    "Failed to capture events",
    "Failed to enable events",
    "Couldn't ack",  # the message comes again, and is a hint
)


class OneLine(logging.Filter):
    """Puts every message in one line, and the error of an outage at its end in the place of a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        text = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SchedulingError) and isinstance(error.__context__, OUTAGE):
            text = str(error)  # beat's own message has the stack in it
            _leave_trace_out(record, error.__context__)
        elif isinstance(error, OUTAGE):
            text = f"{text} {type(error).__name__}: {told(error)}"
            _leave_trace_out(record, error)
        record.msg, record.args = text, None
        return True


class BrokerLines(logging.Filter):
    """Keeps back the many lines of Celery and Flower about a broker that is away: one says it for all."""

    def __init__(self, redis: Callable[[], StateLog] | None = None) -> None:
        """Take whether Redis is away, where that is the broker."""
        super().__init__()
        self._redis = redis
        self._outages = OutageLog(log, "try", "tries", patience_s=patience_s())

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is about anything else."""
        if record.name not in _OF_BROKER or not record.getMessage().startswith(_AWAY):
            return True
        if refusing.lasts:  # which says it for all
            return False
        line = f"the broker does not answer, or refuses, and is tried again: {record.getMessage()}"
        if self._redis is not None:
            self._redis().begin(f"{line}; see that Redis runs and can be reached")
        else:
            self._outages.note(
                "the broker", f"{line}; writes are acknowledged: see that it runs and can be reached"
            )
        return False


def _leave_trace_out(record: logging.LogRecord, error: BaseException) -> None:
    record.exc_info = record.exc_text = None
    record.exception = {"type": type(error).__name__, "message": told(error)}


def keep_short(redis: Callable[[], StateLog] | None = None) -> None:
    """Have this process log so, and say in a line when it is at work.

    Args:
        redis: returns whether Redis is away, where that is the broker, and this process notices when it is back.
    """
    add_source("task", _task_fields)
    worker_app.safe_say = _say  # which writes past all that Python has
    # Messages are JSON: who may write to the broker makes a worker run no code of theirs, whoever it runs as.
    warnings.filterwarnings("ignore", "You're running the worker with superuser", SecurityWarning)
    # It asks each worker at its start, also those that have just begun to start.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OneLine())
        handler.addFilter(BrokerLines(redis))
    signals.setup_logging.connect(_set_up, weak=False)
    signals.celeryd_after_setup.connect(_warn_of_nothing_set, weak=False)
    signals.worker_ready.connect(_say_ready, weak=False)
    signals.beat_init.connect(_say_beats, weak=False)


def _set_up(loglevel: int, logfile: str | None = None, **_: Any) -> None:
    """Leave the handlers as they are, in the place of Celery's own; `--loglevel` is the level of others' lines."""
    if loglevel != logging.WARNING:  # which is also what it is where nobody has said anything
        logging.getLogger().setLevel(loglevel)
    if logfile:
        log.warning("--logfile has no effect: all lines go to standard error, in the format of the settings")
    pool = get_multiprocessing_logger()
    pool.setLevel(logging.ERROR)
    pool.propagate = True


def _task_fields() -> dict[str, Any]:
    task = get_current_task()
    return {} if task is None else {"task": task.name, "task_id": task.request.id}


def _say(line: str, *_: Any) -> None:
    log.info("%s", line)


def _warn_of_nothing_set(**_: Any) -> None:
    # Celery warns whenever a broker is away, as `worker_cancel_long_running_tasks_on_connection_loss` is False.
    # True is for pools that can end a task, which one of threads cannot. The set-up of logs, which is over by now,
    # has had such warnings shown always.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")


def _say_ready(sender: Any, **_: Any) -> None:
    queues = ", ".join(sorted(sender.app.amqp.queues.consume_from))
    log.info("consumes %s", queues, extra={"event": "started", "queues": queues})


def _say_beats(sender: Any, **_: Any) -> None:
    log.info("issues %d periodic tasks", len(sender.app.conf.beat_schedule), extra={"event": "started"})
