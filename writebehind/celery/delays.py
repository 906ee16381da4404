"""Delays of tasks, told as durations: no two machines need clocks that agree, nor one that is never set.

Celery makes times of `countdown` and `expires` by the sender's clock, and reads them by the worker's. A sender
that is minutes ahead would let every flush wait for as long; one that is behind would have every refresh dropped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

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
    return SteadySchedule(timedelta(seconds=seconds), nowfun=steady_now, app=app)


class SteadySchedule(schedule):  # type: ignore[misc]  # Celery has no types
    """A schedule that waits no longer than its interval, although beat may have noted a last run that is to come.

    A beat that keeps its schedule in a file has done so where the clock was set back before it started anew.
    """

    def is_due(self, last_run_at: datetime) -> Any:
        """Whether a run is due, and seconds until the next look."""
        return super().is_due(min(self.maybe_make_aware(last_run_at), self.now()))


def steady_now() -> datetime:
    """The time as it was when this process began, and what has passed since."""
    return _began_at + timedelta(seconds=monotonic() - _began)
