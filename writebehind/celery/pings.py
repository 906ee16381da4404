"""Proof that a worker works: tasks that it has done, and where it has none, messages of its own to itself.

A heartbeat of Celery's proves nothing: it comes by a timer, whether or not the broker answers and tasks are done.
A worker counts as alive when its pool has begun or ended a task lately, or is full: see `writebehind.celery.work`.
An idle one sends itself a ping, which takes the way of every task: to the broker, by its consumer, into its pool.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from celery import Celery
from kombu.entity import Queue

from writebehind.celery.configuration import CONFIRMED_WITHIN_S
from writebehind.celery.names import PING, PING_QUEUES

#: An idle worker sends itself a ping so often, seconds; and so seldom, at most, where none comes back.
EVERY_S, MOST_S = 4.0, 32.0
#: A ping is worth nothing after so long; and its queue is forgotten when nobody has used it for so long, seconds.
EXPIRES_S: Final = 60
QUEUE_LIFE_S: Final = 3_600


def queue_of(worker: str) -> Queue:
    """The queue that a worker alone consumes: reached by its name, without an exchange that others would see."""
    name = f"{PING_QUEUES}.{worker}"
    return Queue(name, routing_key=name, auto_delete=True, expires=QUEUE_LIFE_S)  # type: ignore[no-untyped-call]


class Pings:
    """The pings of one worker, sent from the thread of its consumer."""

    def __init__(self, publishing: Celery) -> None:
        """Send them by an application that only publishes."""
        self._publishing = publishing
        self._sent = 0.0
        self._unanswered = 0

    def send_if_idle(self, consumer: Any, worker: str, worked_s: float | None) -> bool:
        """Send one if nothing proves lately that the worker works; whether one was sent.

        Args:
            consumer: Celery's, which consumes them from here on.
            worker: its name.
            worked_s: how long ago it was last proven; `None` for never.

        Raises:
            OperationalError: the broker does not take it.
        """
        since_s = monotonic() - self._sent
        if worked_s is not None and worked_s < since_s:
            self._unanswered = 0
        if worked_s is not None and worked_s < EVERY_S:
            return False
        if self._sent and since_s < min(MOST_S, EVERY_S * 2**self._unanswered):
            return False
        queue = queue_of(worker)
        if not consumer.task_consumer.consuming_from(queue.name):
            consumer.task_consumer.add_queue(queue)
            consumer.task_consumer.consume()
        self._sent = monotonic()
        self._unanswered += 1
        self._publishing.send_task(
            PING,
            queue=queue,
            expires=EXPIRES_S,
            retry=False,
            ignore_result=True,
            confirm_timeout=CONFIRMED_WITHIN_S,
        )
        return True
