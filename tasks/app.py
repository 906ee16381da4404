"""The service's Celery application, which does nothing but what `writebehind.celery` installs."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery

from tasks.passed import passed
from writebehind.celery import Runtime, install
from writebehind.celery.configuration import create_app
from writebehind.settings.installation import Settings

#: Between two signs of life of RabbitMQ's connections, seconds.
HEARTBEAT_S: Final = 10


def create_celery(settings: Settings) -> tuple[Celery, Runtime]:
    """Build the application with its tasks, and what a worker process of it holds.

    Raises:
        ConfigurationError: Celery has no transport for its broker, or cannot be set as `settings.celery` says.
    """
    app = create_app(settings)
    ours = {
        "broker_transport_options": app.conf.broker_transport_options,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        **_of_transport(settings),
        "worker_eta_task_limit": 10_000,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts": False,
    }
    app.conf.update(passed(settings.celery, ours))
    return app, install(app, settings)


def _of_transport(settings: Settings) -> dict[str, Any]:
    """The settings that differ between brokers: how many messages a worker holds for each place of its pool."""
    if not settings.is_broker_rabbitmq:
        return {"worker_prefetch_multiplier": 4}
    return {
        # Quorum queues let no worker ask for more while some wait: there are enough for each partition's hint.
        "worker_prefetch_multiplier": 4 + settings.partitions,
        "worker_consumer": "tasks.consuming:Consumer",
        # A server that hangs is noticed, and left.
        "broker_heartbeat": HEARTBEAT_S,
    }
