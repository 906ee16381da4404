"""Question of `writebehind doctor` to Celery: does the broker answer? Heartbeats tell who consumes each queue."""

from __future__ import annotations

from collections.abc import Iterator

from writebehind.celery.configuration import create_app
from writebehind.errors import ConfigurationError, told
from writebehind.operations.doctor import Finding, failure, ok
from writebehind.pipeline import Pipeline

#: How long the broker has to answer, seconds.
PATIENCE_S = 3.0


def broker(pipeline: Pipeline) -> Iterator[Finding]:
    """The broker answers."""
    try:
        app = create_app(pipeline.settings)
    except ConfigurationError as error:
        yield failure("broker", str(error), "set BROKER_URL")
        return
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
    except Exception as error:  # noqa: BLE001 - every transport fails in ways of its own
        yield failure("broker", f"{type(error).__name__}: {told(error)}", "start it, or set BROKER_URL")
        return
    finally:
        app.close()
    yield ok("broker", "answers")
