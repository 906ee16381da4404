"""Question of `writebehind doctor` to Celery: does the broker answer? Heartbeats tell who consumes each queue."""

from __future__ import annotations

from collections.abc import Iterator

from amqp.exceptions import AccessRefused, PreconditionFailed

from writebehind.celery.configuration import create_app, queues
from writebehind.errors import ConfigurationError, told
from writebehind.operations.doctor import Finding, failure, ok
from writebehind.pipeline import Pipeline

#: How long the broker has to answer, seconds.
PATIENCE_S = 3.0

_OTHER_QUEUE = (
    "stop workers and web processes, and delete the queue: its messages are hints, what they speak of is found by "
    "the sweep; or set WRITEBEHIND_BROKER_QUEUE_TYPE to the type that it has"
)


def broker(pipeline: Pipeline) -> Iterator[Finding]:
    """The broker answers; RabbitMQ has the queues as they are declared, or has none yet and gets them."""
    try:
        app = create_app(pipeline.settings)
    except ConfigurationError as error:
        yield failure("broker", str(error), "set BROKER_URL")
        return
    if not pipeline.settings.is_broker_rabbitmq:  # a consumer waits longer, as nothing may come
        options = app.conf.broker_transport_options
        app.conf.broker_transport_options = {**options, "socket_timeout": PATIENCE_S}
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
            if pipeline.settings.is_broker_rabbitmq:
                for queue in queues(pipeline.settings):
                    queue(connection.default_channel).declare()  # type: ignore[no-untyped-call]
    except AccessRefused:
        yield failure(
            "broker", "refuses its user, password or virtual host", "set BROKER_URL to those that it has"
        )
        return
    except PreconditionFailed as error:
        yield failure("broker", f"has a queue of another kind: {told(error)}", _OTHER_QUEUE)
        return
    except Exception as error:  # noqa: BLE001 - every transport fails in ways of its own
        yield failure("broker", f"{type(error).__name__}: {told(error)}", "start it, or set BROKER_URL")
        return
    finally:
        app.close()
    yield ok("broker", "answers")
