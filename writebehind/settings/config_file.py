"""The settings file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from writebehind.errors import ConfigurationError
from writebehind.settings.collection import is_file

CONFIG_FILE_VARIABLE = "WRITEBEHIND_CONFIG"
DEFAULT_CONFIG_FILE = "writebehind.toml"


def config_file() -> Path | None:
    """The settings file: what `WRITEBEHIND_CONFIG` names, else `writebehind.toml` here, else none.

    Raises:
        ConfigurationError: `WRITEBEHIND_CONFIG` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    if named and not is_file(Path(named)):
        raise ConfigurationError(f"{CONFIG_FILE_VARIABLE}: there is no file {named[:200]!r}")
    path = Path(named or DEFAULT_CONFIG_FILE)
    return path if path.is_file() else None


def sought_file() -> str:
    """Which settings file was read, or looked for and not found, with its whole path."""
    path = Path(os.environ.get(CONFIG_FILE_VARIABLE) or DEFAULT_CONFIG_FILE)
    with suppress(OSError):  # the current directory may be gone
        path = path.absolute()
    return f"the settings file is {path}" if is_file(path) else f"there is no settings file {path}"
