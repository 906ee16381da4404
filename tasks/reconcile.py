"""The reconcile task: a part of a pass over all that is cached."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery

from tasks.names import RECONCILE
from tasks.runtime import Runtime
from writebehind.errors import MongoUnavailableError

log = logging.getLogger(__name__)


def register_reconcile(app: Celery, runtime: Runtime) -> None:
    """Add the task to an application."""

    @app.task(name=RECONCILE, shared=False)  # type: ignore[untyped-decorator]
    def reconcile() -> dict[str, Any]:
        """Compare a slice of the cache with MongoDB. Not retried: the next one goes on where this ended."""
        try:
            return runtime.pipeline.maintenance.reconcile()
        except MongoUnavailableError as error:
            log.warning("not reconciled: %s", error)
            return {"error": str(error)}
