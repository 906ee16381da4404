"""Entry point of the worker and beat processes: `celery -A tasks.celery …`; see `tasks.flower` for Flower."""

from __future__ import annotations

import sys

from tasks.app import create_celery
from tasks.flush import register_flush
from tasks.reconcile import register_reconcile
from tasks.refresh import register_refresh
from tasks.runtime import Runtime
from tasks.sweep import register_sweep
from tasks.warm import register_warm
from writebehind import load_settings
from writebehind.errors import ConfigurationError

try:
    settings = load_settings()
    app = create_celery(settings)
except ConfigurationError as error:
    sys.exit(f"writebehind: {error}")

runtime = Runtime(app, settings)
register_flush(app, runtime)
register_refresh(app, runtime)
register_sweep(app, runtime)
register_reconcile(app, runtime)
register_warm(app, runtime)
