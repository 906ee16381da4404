"""The `writebehind` command: a module for each group of commands."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Final

import click

from writebehind import __version__
from writebehind.cli.extras import advice
from writebehind.errors import WritebehindError
from writebehind.loading import loading
from writebehind.logs.quoting import printable_line
from writebehind.logs.setup import left_to_command
from writebehind.settings.urls import redacted

#: The module of each command.
COMMANDS: Final = {
    "up": "run",
    "run": "run",
    "demo": "run",
    "status": "status",
    "doctor": "operations",
    "init": "operations",
    "drain": "operations",
    "repartition": "operations",
    "adopt": "operations",
    "rebalance": "operations",
    "reconcile": "reconcile",
    "consistency": "consistency",
    "warm": "warm",
    "hot-keys": "warm",
    "listen": "listen",
    "conflicts": "listen",
    "pause": "pausing",
    "resume": "pausing",
    "dead-letters": "dead_letters",
    "keys": "keys",
    "plan": "plan",
    "metrics": "about",
    "settings": "about",
    "worker-alive": "about",
}


@cache
def _loaded(name: str) -> click.Command:
    with loading():
        module = import_module(f"writebehind.cli.{COMMANDS[name]}")
    command: click.Command = getattr(module, name.replace("-", "_"))
    return command


class Commands(click.Group):
    """Commands, of which each is loaded when it is called; all of them for the list that the help shows."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as Click calls it
        """Their names, as the help has them."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """One by its name; `None` if there is none."""
        return _loaded(cmd_name) if cmd_name in COMMANDS else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="writebehind")
def cli() -> None:
    """A write-behind pipeline between an HTTP API and MongoDB."""


def main() -> None:
    """Run the command; an error that is ours becomes one line."""
    try:
        with left_to_command():
            cli()
    except WritebehindError as error:
        told = "; ".join([str(error), *getattr(error, "__notes__", ())])
        click.echo(f"writebehind: {printable_line(redacted(told))}", err=True)
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        if (line := advice(error)) is None:
            raise
        click.echo(f"writebehind: {line}", err=True)
        sys.exit(2)
