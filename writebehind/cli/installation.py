"""The installation that a command acts on, and says so."""

from __future__ import annotations

from typing import Any

import click

from writebehind.errors import ConfigurationError
from writebehind.pipeline import Pipeline, connect
from writebehind.settings.installation import Settings
from writebehind.settings.running import DATA_DIR, find


def named(*, tell: bool = True, **overrides: Any) -> Settings:
    """The settings that a command works with; the servers in them are told on standard error.

    Args:
        tell: whether to tell.
        overrides: settings that the command decides, as for `load_settings`.

    Raises:
        ConfigurationError: a setting is wrong; or nobody named a server, and no system runs here. A Redis that
            happens to listen on the usual port may be anybody's.
    """
    found = find(**overrides)
    if found.origin == "defaults":
        raise ConfigurationError(
            f"no server is named: set REDIS_URL and MONGODB_URL, or run this where `writebehind up` runs, "
            f"in the directory that has its {DATA_DIR}/"
        )
    if tell:
        click.echo(f"on {found}", err=True)
    return found.settings


def opened(*, tell: bool = True, **overrides: Any) -> Pipeline:
    """A pipeline of these settings. Raises as `named`."""
    return connect(named(tell=tell, **overrides))
