"""The Celery application: a message in, one call of the core, retry or acknowledge."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from redis.connection import parse_url

from tasks.delays import every
from tasks.names import (
    DECAY,
    FLUSH,
    FLUSH_QUEUE,
    MAINTENANCE_QUEUE,
    RECONCILE,
    REFRESH,
    REFRESH_QUEUE,
    SWEEP,
    WARM,
)
from writebehind import Settings
from writebehind.errors import ConfigurationError, UnavailableError
from writebehind.warming.hot_keys import DECAYS_IN_HALF_LIFE

#: Above the longest flush plus the longest countdown, so that no message is delivered twice while it waits.
VISIBILITY_TIMEOUT_S = 120
#: A message of a periodic task is worth nothing so long after the next one, seconds: much more than the clocks of
#: machines differ, and so little that not many are left to do after an outage.
MOST_LATE_S = 1_800


def create_celery(settings: Settings) -> Celery:
    """Build the application. It holds no task yet: a producer needs only names.

    Raises:
        ConfigurationError: Celery has no transport for its broker.
    """
    app = Celery("writebehind", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker,
        broker_use_ssl=_tls(settings.broker),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            # Messages of a worker that was killed come back after seconds, not minutes.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_timeout": settings.redis_timeout_ms / 1000 + 5,  # above the consumer's blocking pop
            "socket_connect_timeout": settings.redis_timeout_ms / 1000,
            "socket_keepalive": True,
            # Who publishes does not try again for seconds: what is not sent is left to the sweep.
            "max_retries": 0,
        },
        # A message is a hint: what is pending stands in Redis, and the sweep reissues what is lost.
        task_ignore_result=True,
        # A server that is away is one line for each task, and no traceback.
        task_annotations={"*": {"throws": (UnavailableError,)}},
        task_acks_late=True,
        task_default_delivery_mode="transient",
        worker_prefetch_multiplier=4,
        worker_eta_task_limit=10_000,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_queues=[_queue(name) for name in (FLUSH_QUEUE, REFRESH_QUEUE, MAINTENANCE_QUEUE)],
        task_default_queue=MAINTENANCE_QUEUE,
        task_create_missing_queues=False,
        task_routes={
            FLUSH: {"queue": FLUSH_QUEUE},
            REFRESH: {"queue": REFRESH_QUEUE},
            **{name: {"queue": MAINTENANCE_QUEUE} for name in (SWEEP, RECONCILE, DECAY, WARM)},
        },
        task_serializer="json",
        accept_content=["json"],
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
        beat_schedule={
            "sweep": _every(app, settings.sweep_interval, SWEEP),
            "reconcile": _every(app, settings.reconcile_interval, RECONCILE),
            "decay": _every(app, settings.hot_half_life / DECAYS_IN_HALF_LIFE, DECAY),
            "warm": _every(app, settings.warm_interval, WARM),
        },
    )
    _check_transport(app)
    return app


def _check_transport(app: Celery) -> None:
    try:
        with app.connection_for_write() as connection:
            connection.get_transport_cls()
    except Exception as error:  # noqa: BLE001 - what an unknown one raises may repeat the URL, with its password
        raise ConfigurationError(
            "BROKER_URL: Celery cannot use it: write it as redis://user:password@host:6379/0 or "
            f"amqp://user:password@host:5672/, or install what its transport needs ({type(error).__name__})"
        ) from None


def _tls(url: str) -> dict[str, Any] | None:
    """How to speak TLS with a broker: Celery checks no certificate unless told to, and Flower reads no options."""
    if not url.startswith("rediss://"):
        return None
    options = parse_url(url.split(";", maxsplit=1)[0])  # type: ignore[no-untyped-call]
    return {"ssl_cert_reqs": "required"} | {name: one for name, one in options.items() if name.startswith("ssl_")}


def _every(app: Celery, seconds: float, task: str) -> dict[str, Any]:
    """A periodic task."""
    return {"task": task, "schedule": every(app, seconds), "options": {"expires": seconds + MOST_LATE_S}}


def _queue(name: str) -> Queue:
    # Names of its own throughout: by default all queues would share the default queue's exchange and key.
    return Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]
