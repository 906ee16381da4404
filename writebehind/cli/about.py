"""Facts about an installation: `writebehind settings`, `writebehind metrics`, `writebehind worker-alive`."""

from __future__ import annotations

import socket

import click

from writebehind import connect
from writebehind.errors import WritebehindError
from writebehind.monitoring.reference import metrics_reference
from writebehind.settings.reference import settings_reference


@click.command()
def metrics() -> None:
    """Print what `/metrics` shows, as Markdown."""
    click.echo(metrics_reference(), nl=False)


@click.command()
def settings() -> None:
    """Print every setting and its meaning, as Markdown."""
    click.echo(settings_reference(), nl=False)


@click.command("worker-alive")
def worker_alive() -> None:
    """Succeed if a worker of this host is at work.

    It must have done something lately, or have a full pool. For health checks.
    """
    host = socket.gethostname()
    with connect() as pipeline:
        if not any(name.endswith(f"@{host}") for name in pipeline.store.workers.alive()):
            raise WritebehindError(f"no worker on {host} has done anything lately")
