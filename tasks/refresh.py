"""The refresh task: read anew what is served stale meanwhile."""

from __future__ import annotations

import logging

from celery import Celery

from tasks.names import REFRESH
from tasks.runtime import Runtime
from writebehind.errors import UnavailableError
from writebehind.redis.cache import Refresh

log = logging.getLogger(__name__)


def register_refresh(app: Celery, runtime: Runtime) -> None:
    """Add the task to an application."""

    @app.task(name=REFRESH, shared=False)  # type: ignore[untyped-decorator]
    def refresh(member: str, token: str, seen: str) -> None:
        """Read one document anew. Not retried: the next reader asks again."""
        pipeline = runtime.pipeline
        try:
            # Else it is too late: somebody else has the right, or nobody.
            if pipeline.store.loads.may_fill(member, token):
                pipeline.revalidation.refresh(Refresh(member, token, seen))
        except UnavailableError as error:
            log.info("%s not refreshed: %s", member, error)
