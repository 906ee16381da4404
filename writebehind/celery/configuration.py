"""Configuration of Celery: the broker and how it is spoken to, queues, routes, and the schedule."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue
from redis.connection import parse_url

from writebehind.celery.delays import every
from writebehind.celery.names import (
    DECAY,
    FLUSH,
    FLUSH_QUEUE,
    MAINTENANCE_QUEUE,
    QUEUES,
    RECONCILE,
    REFRESH,
    REFRESH_QUEUE,
    SWEEP,
    WARM,
)
from writebehind.errors import ConfigurationError
from writebehind.maintenance.periods import periods
from writebehind.redis.topology.addresses import CLUSTER, SCHEMES, SENTINEL, first_server, many_servers
from writebehind.redis.topology.sentinels import asked_once
from writebehind.settings.installation import Settings
from writebehind.settings.urls import amqp_tls

#: Above the longest flush plus the longest countdown, seconds: no message is delivered twice while it waits.
VISIBILITY_TIMEOUT_S: Final = 120
#: A message of a periodic task is worth nothing so long after the next one, seconds: much more than the clocks of
#: machines differ, and so little that not many are left to do after an outage.
MOST_LATE_S: Final = 1_800
#: RabbitMQ says that it has taken a message so soon, seconds, or it hangs.
CONFIRMED_WITHIN_S: Final = 2

#: Tasks that beat asks for. The rest of the name is that of their runs.
_PERIODIC: Final = (SWEEP, RECONCILE, DECAY, WARM)
_PREFIX: Final = "writebehind."
#: The queue of each task.
ROUTES: Final = {
    FLUSH: {"queue": FLUSH_QUEUE},
    REFRESH: {"queue": REFRESH_QUEUE},
    **{name: {"queue": MAINTENANCE_QUEUE} for name in _PERIODIC},
}


def create_app(settings: Settings) -> Celery:
    """Build an application for the broker of the settings. It holds no task: a producer needs only names.

    Raises:
        ConfigurationError: Celery has no transport for its broker.
    """
    if settings.broker.startswith(tuple(one for one in SCHEMES if CLUSTER in one)):
        raise ConfigurationError(
            "BROKER_URL: Celery cannot use a Redis Cluster as broker: set it to another Redis, to Sentinels, "
            "or to RabbitMQ (amqp://user:password@host:5672/)"
        )
    if settings.broker.startswith(SCHEMES):
        raise ConfigurationError(
            "BROKER_URL: Celery cannot use it: kombu reaches no Sentinels over TLS; name another"
        )
    app = Celery("writebehind", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker,
        broker_use_ssl=tls(settings),
        # Who publishes does not try again for seconds: what is not sent is left to the sweep.
        broker_transport_options={**_own_options(settings), **transport_options(settings), "max_retries": 0},
        task_ignore_result=True,
        task_default_delivery_mode="transient",
        task_queues=queues(settings),
        task_default_queue=MAINTENANCE_QUEUE,
        task_create_missing_queues=False,
        task_routes=ROUTES,
        task_serializer="json",
        accept_content=["json"],
    )
    _check_transport(app)
    return app


def _own_options(settings: Settings) -> dict[str, Any]:
    """Options for the transport of an application that is ours alone."""
    if settings.is_broker_rabbitmq:
        # A hint that a server has not taken is told of: else one that goes down swallows it without a word.
        return {"confirm_publish": True}
    return {"visibility_timeout": VISIBILITY_TIMEOUT_S}


def _sentinels(settings: Settings) -> dict[str, Any]:
    """Options that kombu has no place for in a URL of Sentinels."""
    servers = many_servers(settings.broker_url.split(";", maxsplit=1)[0] or first_server(settings.redis_url))
    if servers is None or servers.kind != SENTINEL:
        return {}
    asked = asked_once(len(servers.hosts), settings.redis_timeout_ms / 1000)
    return {"master_name": servers.service, "sentinel_kwargs": {**servers.sentinel, **asked}}


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options for the broker's transport that harm no other task of an application, and spare it long waits."""
    if settings.is_broker_rabbitmq:
        return {"write_timeout": settings.redis_timeout_ms / 1000}
    return _sentinels(settings) | {
        # Messages of a worker that was killed come back after seconds, not minutes.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": settings.redis_timeout_ms / 1000 + 5,  # above the consumer's blocking pop
        "socket_connect_timeout": settings.redis_timeout_ms / 1000,
        "socket_keepalive": True,
    }


def tls(settings: Settings) -> dict[str, Any] | None:
    """Options for TLS to the broker: Celery checks too little unless told to, and Flower reads no options."""
    if not settings.broker.startswith("rediss://"):
        return amqp_tls(settings.broker_url)
    options = parse_url(settings.broker.split(";", maxsplit=1)[0])  # type: ignore[no-untyped-call]
    return {"ssl_cert_reqs": "required"} | {name: one for name, one in options.items() if name.startswith("ssl_")}


def queues(settings: Settings) -> list[Queue]:
    """The queues. Without names of their own all would share the default queue's exchange and key."""
    of_type: dict[str, str] = {"x-queue-type": settings.broker_queue_type}
    arguments = of_type if settings.is_broker_rabbitmq else None
    return [_queue(name, arguments) for name in QUEUES]


def _queue(name: str, arguments: dict[str, str] | None) -> Queue:
    exchange = Exchange(name, delivery_mode="transient")  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]


def schedule(app: Celery, settings: Settings) -> dict[str, Any]:
    """The periodic tasks, under their own names."""
    every_s = periods(settings)
    intervals = {task: every_s[task.removeprefix(_PREFIX)] for task in _PERIODIC}
    return {
        task: {
            "task": task,
            "schedule": every(app, seconds),
            "options": {"expires": seconds + MOST_LATE_S, **ROUTES[task]},
        }
        for task, seconds in intervals.items()
    }


def _check_transport(app: Celery) -> None:
    try:
        with app.connection_for_write() as connection:
            connection.get_transport_cls()
    except Exception as error:  # noqa: BLE001 - what an unknown one raises may repeat the URL, with its password
        raise ConfigurationError(
            "BROKER_URL: Celery cannot use it: write it as redis://user:password@host:6379/0 or "
            f"amqp://user:password@host:5672/, or install what its transport needs ({type(error).__name__})"
        ) from None
