"""Question of `writebehind doctor` to Celery: does the broker answer? Heartbeats tell who consumes each queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, PreconditionFailed

from writebehind.celery.configuration import create_app, queues
from writebehind.errors import ConfigurationError, told
from writebehind.operations.doctor import Finding, failure, ok
from writebehind.operations.doctor.findings import PATIENCE_S, away
from writebehind.pipeline import Pipeline
from writebehind.settings.installation import Settings
from writebehind.settings.urls import celery_redis

#: The port of Redis where a URL names none.
_PORT = 6379
#: What transports say where no answer came in time.
_LATE = re.compile("timed? ?out", re.IGNORECASE)

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
        yield _away(pipeline.settings, f"{type(error).__name__}: {told(error)}")
        return
    finally:
        app.close()
    yield ok("broker", "answers")


def _away(settings: Settings, why: str) -> Finding:
    """The broker does not answer: as Redis does not, where it is that server, which nobody should start twice."""
    hangs = _LATE.search(why) is not None
    if not _is_redis(settings):
        return failure("broker", why, away(settings, "broker", hangs=hangs))
    return failure("broker", f"the same server as Redis: {why}", away(settings, "redis", hangs=hangs))


def _is_redis(settings: Settings) -> bool:
    """Whether the broker is the server that `redis_url` names, or the first that it names."""
    return not settings.broker_url or _places(settings.broker) == _places(celery_redis(settings.redis_url))


def _places(urls: str) -> list[tuple[str | None, int, str]]:
    """The servers that Celery is told of: host and port, or the path of a socket."""
    found = [urlsplit(one) for one in urls.split(";")]
    return [(one.hostname, one.port or _PORT, one.path if one.hostname is None else "") for one in found]
