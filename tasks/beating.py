"""Beat's scheduler: Celery's own, which keeps its schedule in no file, and says that it lives."""

from __future__ import annotations

from typing import Any, Final

from celery.beat import Scheduler as CelerysScheduler

from writebehind.alive import AliveFile

#: A round comes so often at least, seconds, however rarely a task is due.
ROUND_EVERY_S: Final = 10.0


class Scheduler(CelerysScheduler):  # type: ignore[misc]  # Celery has no types
    """Scheduler that touches its file in each round. A broker that is away ends no round."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Schedule as Celery's does."""
        from tasks.celery import runtime  # noqa: PLC0415 - it takes the settings, and the directory of counts

        super().__init__(*arguments, **options)
        self._alive = AliveFile(runtime.settings.alive_file)

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due; seconds until the next round."""
        self._alive.touch()
        return min(float(super().tick(*arguments, **options)), ROUND_EVERY_S)
