"""The flush task: bring what is due in one partition to MongoDB."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from tasks.delays import STRATEGY, headers
from tasks.names import FLUSH
from tasks.runtime import Runtime
from writebehind.flushing.flusher import FlushInterruptedError


def register_flush(app: Celery, runtime: Runtime) -> None:
    """Add the task to an application."""

    @app.task(name=FLUSH, bind=True, max_retries=None, shared=False, Strategy=STRATEGY)  # type: ignore[untyped-decorator]
    def flush(task: Task, partition: int, ticket: str = "") -> dict[str, Any]:
        """Flush one partition. Retried without limit while MongoDB takes no writes; nothing is ever dropped."""
        try:
            return runtime.pipeline.flusher.flush(partition, ticket=ticket, attempt=task.request.retries).as_dict()
        except FlushInterruptedError as error:
            if error.hint is None:  # another flusher has the partition by now
                return {"partition": partition, "interrupted": str(error)}
            raise task.retry(
                args=(partition, error.hint.ticket), countdown=0, headers=headers(error.hint.delay_ms), exc=error
            ) from error
