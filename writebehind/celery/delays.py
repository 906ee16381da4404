"""Delays of tasks, told as durations: no two machines need clocks that agree, nor one that is never set.

Celery makes times of `countdown` and `expires` by the sender's clock, and reads them by the worker's. A sender
that is minutes ahead would let every flush wait for as long; one that is behind would have every refresh dropped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from celery import Celery
from celery.schedules import schedule

#: The header of a message that says how long its task has to wait, ms.
DELAY: Final = "delay_ms"

_began, _began_at = monotonic(), datetime.now(UTC)


def headers(delay_ms: int) -> dict[str, int]:
    """The headers of a message whose task has to wait, from when a worker gets it."""
    return {DELAY: delay_ms} if delay_ms > 0 else {}


def every(app: Celery, seconds: float) -> schedule:
    """A schedule that nobody disturbs who sets the clock."""
    return schedule(timedelta(seconds=seconds), nowfun=steady_now, app=app)


def steady_now() -> datetime:
    """The time as it was when this process began, and what has passed since."""
    return _began_at + timedelta(seconds=monotonic() - _began)
