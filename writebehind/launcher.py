"""Runs the service's own processes: finds its packages `web` and `tasks`, which nobody else imports.

A wheel carries them in a folder of this package, a repository has them beside it. Only these processes have the
folder on their path, as its first entry, and none of them looks into the current directory: a user's own
`tasks.py` or `celery.py` there is neither imported nor in the way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from writebehind.errors import ConfigurationError
from writebehind.loading import loading
from writebehind.logs.setup import configure
from writebehind.logs.states import PATIENCE_S, be_patient
from writebehind.settings.installation import ENV_PREFIX, load_settings
from writebehind.settings.urls import redacted

#: Functions that run each process: one that takes the arguments of its command.
PROCESSES: Final = {
    "web": ("web.__main__", "main"),
    "worker": ("tasks.processes", "worker"),
    "beat": ("tasks.processes", "beat"),
    "exporter": ("web.exporter", "main"),
    "flower": ("tasks.flower", "main"),
}
#: Processes that nobody waits for: they keep a short outage of a server to themselves, as others tell it.
PATIENT: Final = frozenset(("beat", "exporter", "flower", "listen"))


def service_folder() -> Path:
    """The folder of `web`, `tasks` and the Procfile."""
    package = Path(__file__).parent
    carried = package / "service"
    return carried if carried.is_dir() else package.parent


def launch(process: str, arguments: Sequence[str]) -> None:
    """Be one of the service's processes, until it ends.

    Args:
        process: a name in `PROCESSES`.
        arguments: more of its command's own, as Celery's or Flower's.

    Raises:
        ModuleNotFoundError: an extra is not installed.
        SystemExit: the process ends with this status.
    """
    begin_log(process)
    enter()
    module, function = PROCESSES[process]
    with loading():
        run: Callable[[Sequence[str]], None] = getattr(import_module(module), function)
    run(arguments)


def begin_log(process: str) -> str:
    """Have this process log as the settings say, or, where these are wrong, as the environment alone says.

    Args:
        process: its name.

    Returns:
        The format.
    """
    form: str
    level: str
    try:
        settings = load_settings()
        form, level = settings.log_format, settings.log_level
    except ConfigurationError:  # which whoever needs the settings reports
        form, level = os.environ.get(f"{ENV_PREFIX}LOG_FORMAT", "text"), "info"
    configure(process, form=form, level=level, redact=redacted)
    be_patient(PATIENCE_S if process in PATIENT else 0.0)
    return form


def enter() -> None:
    """Let this process, and those that it spawns, import `web` and `tasks`, and nothing from where they run.

    An entry of PYTHONPATH stays, be it the current directory: somebody wants it there.
    """
    if not sys.flags.safe_path and sys.path[:1] in ([""], [str(Path.cwd())]):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.path.insert(0, str(service_folder()))
