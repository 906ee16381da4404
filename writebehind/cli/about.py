"""Facts about an installation: `writebehind settings`, `writebehind metrics`, `writebehind worker-alive`."""

from __future__ import annotations

import socket

import click

from writebehind import connect
from writebehind.errors import WritebehindError
from writebehind.monitoring.reference import metrics_reference
from writebehind.settings.names import QUEUES
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
@click.option(
    "--queue", "queues", multiple=True, type=click.Choice(QUEUES), help="That consumes it; may be repeated."
)
def worker_alive(queues: tuple[str, ...]) -> None:
    """Succeed if a worker of this host is at work.

    It must have done something lately, or have a full pool. For health checks. Where several workers run on a
    host, say by --queue which is meant: each queue must have one there.
    """
    host = socket.gethostname()
    with connect() as pipeline:
        crew = pipeline.store.workers.look()
    for names, what in [(crew.consumers.get(one, []), f" of the queue {one}") for one in queues] or [
        (crew.alive, "")
    ]:
        if not any(name.endswith(f"@{host}") for name in names):
            raise WritebehindError(f"no worker on {host}{what} has done anything lately")
