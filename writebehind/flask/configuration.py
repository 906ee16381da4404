"""The settings of a Flask application, as `app.config` has them: `WRITEBEHIND_REDIS_URL` and its likes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Config

from writebehind import Settings
from writebehind.errors import ConfigurationError
from writebehind.settings.installation import ENV_PREFIX, alike
from writebehind.settings.running import find

#: Settings that only the service's own process uses.
OF_THE_SERVICE = frozenset(
    {
        "host",
        "port",
        "flower_port",
        "flower_db",
        "allowed_hosts",
        "cors_origins",
        "audit_log",
        "web_workers",
        "web_threads",
        "max_connections",
        "request_timeout_ms",
    }
)


def settings_of(config: Config) -> Settings:
    """The settings: what `WRITEBEHIND_…` in a configuration says, else the environment, else `writebehind.toml`.

    Where none of them names a server, they are those of `writebehind up`, if it runs in this directory.

    Raises:
        ConfigurationError: with one line that names the first wrong setting.
    """
    given = config.get_namespace(ENV_PREFIX)
    for name in given:
        _check(name)
    try:
        return find(**given).settings
    except ConfigurationError as error:
        raise ConfigurationError(_named(str(error), given)) from None


def _check(name: str) -> None:
    key = _key(name)
    if name in OF_THE_SERVICE:
        raise ConfigurationError(f"{key} has no effect here: only the process of writebehind's own service has it")
    if name not in Settings.model_fields:
        hint = alike(name, Settings.model_fields.keys() - OF_THE_SERVICE, _key)
        raise ConfigurationError(f"{key}: there is no such setting{hint}")


def _named(message: str, given: Mapping[str, Any]) -> str:
    """A message about a setting, by the name that the configuration has for it."""
    name = re.split(r"\W", message, maxsplit=1)[0]
    return _key(name) + message.removeprefix(name) if name.lower() in given else message


def _key(name: str) -> str:
    return ENV_PREFIX + name.upper()
