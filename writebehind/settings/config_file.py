"""The settings file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from writebehind.errors import ConfigurationError
from writebehind.regular_files import fault_of_file
from writebehind.settings.collection import is_file

CONFIG_FILE_VARIABLE = "WRITEBEHIND_CONFIG"
DEFAULT_CONFIG_FILE = "writebehind.toml"


def config_file() -> Path | None:
    """The settings file: what `WRITEBEHIND_CONFIG` names, else `writebehind.toml` here, else none.

    Raises:
        ConfigurationError: what it names does not exist, or either is no regular file that can be read.
    """
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    path = Path(named or DEFAULT_CONFIG_FILE)
    fault = fault_of_file(path)
    if named and fault:
        raise ConfigurationError(f"{CONFIG_FILE_VARIABLE}: {fault}: {named[:200]!r}")
    if fault and path.exists():
        raise ConfigurationError(f"{DEFAULT_CONFIG_FILE}: {fault}: {Path.cwd()}")
    return None if fault else path


def sought_file() -> str:
    """Which settings file was read, or looked for and not found, with its whole path."""
    path = Path(os.environ.get(CONFIG_FILE_VARIABLE) or DEFAULT_CONFIG_FILE)
    with suppress(OSError):  # the current directory may be gone
        path = path.absolute()
    return f"the settings file is {path}" if is_file(path) else f"there is no settings file {path}"
