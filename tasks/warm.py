"""The tasks of warming: let hot keys cool down, and load them before somebody has to wait for them."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError

from tasks.names import DECAY, MAINTENANCE_QUEUE, WARM
from tasks.runtime import Runtime

log = logging.getLogger(__name__)


def register_warm(app: Celery, runtime: Runtime) -> None:
    """Add the tasks to an application; a worker that has started asks for warming."""

    @app.task(name=DECAY, shared=False)  # type: ignore[untyped-decorator]
    def decay() -> dict[str, int]:
        """Let hot keys cool down by what is due."""
        return runtime.pipeline.maintenance.decay()

    @app.task(name=WARM, shared=False)  # type: ignore[untyped-decorator]
    def warm() -> dict[str, Any]:
        """Make one pass, if nobody else does."""
        return runtime.pipeline.maintenance.warm()

    def ask(**_: Any) -> None:
        try:
            app.send_task(WARM, queue=MAINTENANCE_QUEUE, retry=False)
        except OperationalError as error:
            log.warning("warming has to wait for the next pass: %s", error)

    signals.worker_ready.connect(ask, weak=False)
