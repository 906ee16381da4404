"""Messages that end a worker before any task sees them are dropped with one line in its log.

Other hands may have put anything into the broker. Celery takes what is no message for a fault of its own: its
worker ends, and the next one meets the next such message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

from celery import signals
from celery.bootsteps import StartStopStep
from celery.worker.consumer.tasks import Tasks
from redis.exceptions import ResponseError

from writebehind.celery.broker_keys import guard, is_mistyped, mend
from writebehind.celery.names import QUEUES
from writebehind.celery.refusing import lost, see, wait_for_writes
from writebehind.logs.events import OTHER_HANDS

log = logging.getLogger(__name__)

#: So many characters are told of why.
_SHOWN = 200
#: What kombu raises of what is no message.
_NO_MESSAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Sieve(StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The step of a worker's start, after its consumer of tasks is there, that puts the checks before it."""

    requires = (Tasks,)

    def __init__(self, c: Any, **options: Any) -> None:
        """Have the consumer of a worker wait for a broker that takes writes, before all its other steps."""
        super().__init__(c, **options)
        wait_for_writes(c)

    def start(self, c: Any) -> None:
        """Check each message, as it comes from Redis, and before its task is looked for; `c` is the consumer."""
        channel = c.task_consumer.channel
        if "BRPOP" in getattr(channel, "handlers", ()):
            _check_raw(channel)
            guard(channel)
        create = partial(type(c).create_task_handler, c)

        def create_task_handler(*arguments: Any, **options: Any) -> Callable[[Any], Any]:
            handle = create(*arguments, **options)

            def on_message(message: Any) -> Any:
                try:
                    _see_task(c, message)
                except Exception as error:  # noqa: BLE001 - nothing in a message may end a worker
                    return drop(c, message, error)
                return handle(message)

            return on_message

        c.create_task_handler = create_task_handler


def drop(consumer: Any, message: Any, error: Exception) -> None:
    """Take a message out of its queue for good, and say why in one line."""
    _tell(error)
    message.reject_log_error(log, consumer.connection_errors)
    signals.task_rejected.send(sender=consumer, message=message, exc=error)


def _tell(error: Exception) -> None:
    log.error("a message of other hands is dropped: %s", repr(error)[:_SHOWN], extra=OTHER_HANDS)


def _see_task(consumer: Any, message: Any) -> None:
    """See that a message names a task; in our queues one that there is.

    Raises:
        TypeError: the name is none that can be looked for.
        ValueError: there is no such task.
    """
    name = message.headers.get("task")
    hash(name)
    if message.delivery_info.get("routing_key") in QUEUES and name not in consumer.strategies:
        raise ValueError(f"there is no task {name!r:.100}")


def _check_raw(channel: Any) -> None:
    """Let what comes from Redis be delivered only if it is a message. It is out of its queue already."""
    transport = channel.connection
    read = partial(type(channel)._brpop_read, channel)  # noqa: SLF001 - kombu has no other place for this
    deliver = partial(type(transport)._deliver, transport)  # noqa: SLF001 - as above
    is_delivered = [False]

    def deliver_message(raw: Any, queue: str) -> None:
        is_delivered[0] = True
        try:
            _see_message(channel, raw)
        except _NO_MESSAGE as error:
            _tell(error)
        else:
            deliver(raw, queue)

    def read_message(**options: Any) -> Any:
        is_delivered[0] = False
        try:
            return read(**options)
        except Empty:
            see(channel)
            raise
        except _NO_MESSAGE as error:
            if is_delivered[0]:  # it is about something else
                raise
            _tell(error)
            return True
        except ResponseError as error:
            if not is_mistyped(error) or not mend(channel):
                raise lost(error) from error
            return True

    channel.handlers["BRPOP"] = read_message
    transport._deliver = deliver_message  # noqa: SLF001 - as above


def _see_message(channel: Any, raw: Any) -> None:
    """See that kombu can make a message of it, and note it as unacknowledged.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it cannot.
    """
    message = channel.Message(raw, channel=channel)
    info = message.delivery_info
    texts = (message.delivery_tag, info["exchange"], info["routing_key"])
    if not all(isinstance(one, str) for one in texts) or not isinstance(message.headers, dict):
        raise TypeError("no tag, no exchange, no routing key or no headers")
    if not isinstance(message.body, str | bytes):
        raise TypeError("no body")
    if message.errors:  # of what it was compressed with
        raise ValueError(repr(message.errors[0][1]))
