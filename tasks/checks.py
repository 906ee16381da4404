"""Celery's checks of `writebehind doctor`: the broker, and who consumes each queue."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.app import create_celery
from tasks.names import FLUSH_QUEUE, MAINTENANCE_QUEUE, REFRESH_QUEUE
from writebehind import Pipeline
from writebehind.errors import ConfigurationError
from writebehind.operations.doctor import Finding, failure, ok

#: How long workers have to answer, seconds.
PATIENCE_S = 3.0


def celery(pipeline: Pipeline) -> Iterator[Finding]:
    """The broker answers, and each declared queue has a worker."""
    try:
        app = create_celery(pipeline.settings)
    except ConfigurationError as error:
        yield failure("broker", str(error), "set BROKER_URL")
        return
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
        queues = app.control.inspect(timeout=PATIENCE_S).active_queues() or {}
    except Exception as error:  # noqa: BLE001 - every transport fails in ways of its own
        yield failure("broker", f"{type(error).__name__}: {error}", "start it, or set BROKER_URL")
        return
    finally:
        app.close()
    yield ok("broker", "answers")
    for name in (FLUSH_QUEUE, REFRESH_QUEUE, MAINTENANCE_QUEUE):
        consumers = sorted(worker for worker, found in queues.items() if name in {one["name"] for one in found})
        if consumers:
            yield ok(f"queue {name}", f"consumed by {', '.join(consumers)}")
        else:
            advice = f"start a worker with -Q {name}, as in the Procfile"
            yield failure(f"queue {name}", "nobody consumes it", advice)
