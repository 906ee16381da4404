"""The processes of the service, as a Procfile names them."""

from __future__ import annotations

from pathlib import Path

from honcho.environ import parse_procfile

from writebehind.errors import ConfigurationError
from writebehind.launcher import service_folder
from writebehind.regular_files import fault_of_file


def default_procfile() -> Path:
    """The Procfile of the installed package, or of the repository."""
    return service_folder() / "Procfile"


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile, by name.

    Raises:
        ConfigurationError: it cannot be read, or has no processes.
    """
    if fault := fault_of_file(path):
        raise ConfigurationError(f"Procfile: {fault}: {path}")
    try:
        commands = dict(parse_procfile(path.read_text("utf-8")).processes)
    except (OSError, ValueError, AssertionError) as error:  # AssertionError: honcho found a name twice
        raise ConfigurationError(f"Procfile: {error}") from error
    if not commands:
        raise ConfigurationError(f"{path} names no process")
    return commands
