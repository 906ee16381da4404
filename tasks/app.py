"""The service's Celery application, which does nothing but what `writebehind.celery` installs."""

from __future__ import annotations

from celery import Celery

from writebehind.celery import Runtime, install
from writebehind.celery.configuration import create_app
from writebehind.settings.installation import Settings


def create_celery(settings: Settings) -> tuple[Celery, Runtime]:
    """Build the application with its tasks, and what a worker process of it holds.

    Raises:
        ConfigurationError: Celery has no transport for its broker.
    """
    app = create_app(settings)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_prefetch_multiplier=4,
        worker_eta_task_limit=10_000,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
    )
    return app, install(app, settings)
