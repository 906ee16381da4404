"""The application of the worker, beat and Flower processes: `writebehind run worker`, and so on."""

from __future__ import annotations

import sys

from tasks.app import create_celery
from writebehind import load_settings
from writebehind.errors import ConfigurationError
from writebehind.monitoring.directory import share_counts

try:
    app, runtime = create_celery(share_counts(load_settings()))
except ConfigurationError as error:
    sys.exit(f"writebehind: {error}")
