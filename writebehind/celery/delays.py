"""Delays of tasks, told as durations: no two machines need clocks that agree, nor one that is never set.

Celery makes times of `countdown` and `expires` by the sender's clock, and reads them by the worker's. A sender
that is minutes ahead would let every flush wait for as long; one that is behind would have every refresh dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from celery import Celery
from celery.schedules import schedule
from celery.worker.strategy import default

#: The header of a message that says how long its task has to wait, ms.
DELAY: Final = "delay_ms"
#: The strategy of tasks that may have it.
STRATEGY: Final = "writebehind.celery.delays:from_receipt"

_began, _began_at = monotonic(), datetime.now(UTC)


def headers(delay_ms: int) -> dict[str, int]:
    """The headers of a message whose task has to wait, from when a worker gets it."""
    return {DELAY: delay_ms} if delay_ms > 0 else {}


def from_receipt(task: Any, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """A task's strategy: Celery's own, with the time of the task by this worker's clock."""
    handle: Callable[..., Any] = default(task, app, consumer, **options)

    def on_message(message: Any, *arguments: Any, **more: Any) -> Any:
        if delay_ms := message.headers.get(DELAY):
            message.headers["eta"] = (datetime.now(UTC) + timedelta(milliseconds=delay_ms)).isoformat()
        return handle(message, *arguments, **more)

    return on_message


def every(app: Celery, seconds: float) -> schedule:
    """A schedule that nobody disturbs who sets the clock."""
    return schedule(timedelta(seconds=seconds), nowfun=steady_now, app=app)


def steady_now() -> datetime:
    """The time as it was when this process began, and what has passed since."""
    return _began_at + timedelta(seconds=monotonic() - _began)
