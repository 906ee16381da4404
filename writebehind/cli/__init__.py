"""The `writebehind` command: a module for each group of commands."""

from __future__ import annotations

import sys

import click

from writebehind import __version__
from writebehind.cli import (
    about,
    consistency,
    dead_letters,
    keys,
    listen,
    operations,
    pausing,
    plan,
    reconcile,
    run,
    status,
    warm,
)
from writebehind.cli.extras import advice
from writebehind.errors import ConfigurationError, WritebehindError
from writebehind.logs.quoting import printable_line
from writebehind.logs.setup import left_to_command
from writebehind.settings.urls import redacted

COMMANDS = (
    run.up,
    run.run,
    run.demo,
    status.status,
    operations.doctor,
    operations.init,
    operations.drain,
    operations.repartition,
    operations.adopt,
    operations.rebalance,
    reconcile.reconcile,
    consistency.consistency,
    warm.warm,
    warm.hot_keys,
    listen.listen,
    listen.conflicts,
    pausing.pause,
    pausing.resume,
    dead_letters.dead_letters,
    keys.keys,
    plan.plan,
    about.metrics,
    about.settings,
    about.worker_alive,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="writebehind")
def cli() -> None:
    """A write-behind pipeline between an HTTP API and MongoDB."""


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; an error that is ours becomes one line."""
    try:
        with left_to_command():
            cli()
    except WritebehindError as error:
        told = "; ".join([str(error), *getattr(error, "__notes__", ())])
        click.echo(f"writebehind: {printable_line(redacted(told))}", err=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    except ModuleNotFoundError as error:
        if (line := advice(error)) is None:
            raise
        click.echo(f"writebehind: {line}", err=True)
        sys.exit(2)
