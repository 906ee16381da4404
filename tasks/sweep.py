"""The sweep task: what was lost on the way is found here."""

from __future__ import annotations

import logging

from celery import Celery

from tasks.names import SWEEP
from tasks.runtime import Runtime
from writebehind.errors import MongoUnavailableError

log = logging.getLogger(__name__)


def register_sweep(app: Celery, runtime: Runtime) -> None:
    """Add the task to an application."""

    @app.task(name=SWEEP, shared=False)  # type: ignore[untyped-decorator]
    def sweep() -> dict[str, int]:
        """Find what was left behind: partitions that nobody flushes, deletions that a late flusher undid."""
        swept = runtime.pipeline.maintenance.sweep()
        try:
            return swept | runtime.pipeline.maintenance.audit_deletions()
        except MongoUnavailableError as error:  # the next sweep audits
            log.warning("deletions not audited: %s", error)
            return swept
