"""The local system: where `writebehind up` has its servers, for commands that nobody told of any."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from writebehind.errors import ConfigurationError
from writebehind.process_identity import has_ended, is_here
from writebehind.regular_files import fault_of_file
from writebehind.settings.installation import RUNS_IN, Settings, load_settings
from writebehind.settings.urls import MASK, redacted

#: Where the local system keeps its data, unless told otherwise.
DATA_DIR: Final = ".writebehind"
#: The file that describes a running system in its data directory, for as long as it runs.
STATE_FILE: Final = "up.json"

#: The directory in it in which its processes count, unless a setting names one.
METRICS: Final = "metrics"

#: The settings that the local system decides.
_DECIDED: Final = ("redis_url", "mongodb_url", "mongodb_database")


@dataclass(frozen=True, slots=True)
class Found:
    """Settings, and who named the servers in them.

    Attributes:
        settings: all of them.
        origin: `settings`, the environment and the settings file; `running`, the local system; `defaults`, nobody.
        data_dir: of the local system, where it named them.
    """

    settings: Settings
    origin: str
    data_dir: str = ""

    def __str__(self) -> str:
        """The servers in one line, without passwords."""
        one = self.settings
        servers = f"{redacted(one.redis_url)} and {redacted(one.mongodb_url)}, database {one.mongodb_database}"
        return f"{servers} (the system that runs in {self.data_dir})" if self.data_dir else servers


def find(directory: Path | None = None, **overrides: Any) -> Found:
    """The settings; where they name no server, with those of the system that runs in this directory.

    The database is the one that is set, or else that system's; and so is the broker, where that system has one of
    its own.

    Args:
        directory: where the local system has its data; `.writebehind` here by default.
        overrides: settings that are given, as for `load_settings`.

    Raises:
        ConfigurationError: a setting is wrong; or the local system uses servers whose passwords it does not tell.
    """
    settings = load_settings(**overrides)
    if {"redis_url", "mongodb_url"} & settings.model_fields_set:
        return Found(settings, "settings")
    directory = (directory or Path(DATA_DIR)).absolute()
    running = state_of(directory)
    if running is None:
        return Found(settings, "defaults")
    decided = {name: str(running[name]) for name in _DECIDED}
    if "mongodb_database" in settings.model_fields_set:  # as for `adopt`; what does not belong there is refused
        decided["mongodb_database"] = settings.mongodb_database
    if "broker_url" in running and not settings.broker_url:
        decided["broker_url"] = str(running["broker_url"])
    for name in ("redis_url", "mongodb_url", "broker_url"):
        if MASK in decided.get(name, ""):
            raise ConfigurationError(
                f"the system that runs in {directory} uses {decided[name]}, and tells no password: "
                f"set {name.upper()} as it was when that was started"
            )
    return Found(load_settings(**decided | overrides), "running", str(directory))


def check_both_named(settings: Settings, otherwise: str) -> None:
    """See that settings name both servers, or neither.

    Args:
        settings: those of the environment and the settings file.
        otherwise: what to do besides setting both, and why, for the message.

    Raises:
        ConfigurationError: they name one of the two.
    """
    for missing, given in (("redis_url", "mongodb_url"), ("mongodb_url", "redis_url")):
        if given in settings.model_fields_set and missing not in settings.model_fields_set:
            raise ConfigurationError(f"{given.upper()} is set and {missing.upper()} is not: set both, {otherwise}")


def state_of(directory: Path) -> dict[str, Any] | None:
    """The description that a running system wrote to its directory; `None` if none runs."""
    if fault_of_file(directory / STATE_FILE):
        return None
    try:
        state = json.loads((directory / STATE_FILE).read_text("utf-8"))
        pid = int(state["pid"])
        if pid <= 0 or not state.keys() >= {*_DECIDED}:
            return None
        if (process := str(state.get("process", ""))) and (not is_here(process) or has_ended(process)):
            return None  # another machine's, or another process has its id by now
        os.kill(pid, 0)
    except PermissionError:  # it runs, as somebody else
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None  # it was killed, and could not remove the file; or this is no file of ours
    return dict(state)


def servers_of(settings: Settings, data_dir: Path | None = None) -> tuple[str, ...]:
    """Names of an installation's Redis and of its MongoDB: who has none of them in common is another one.

    They outlive restarts, failovers and the loss of all data, and one of the two servers may move. Embedded
    servers have other ports each time: these are known by the directory of their data. No name tells a password.

    Args:
        settings: those of the installation.
        data_dir: the directory of its embedded servers, for who has started them: others know it.

    Returns:
        The names, the most stable first.
    """
    directory = data_dir or os.environ.get(RUNS_IN)
    if directory is None:
        running = state_of(Path(DATA_DIR).absolute()) or {}
        if running.get("embedded") and running["redis_url"] == settings.redis_url:
            directory = Path(DATA_DIR)
    own = [] if directory is None else [str(Path(directory).absolute())]
    return tuple(
        digest_of(one, settings.mongodb_database)
        for one in [*own, redacted(settings.redis_url), redacted(settings.mongodb_url)]
    )


def digest_of(server: str, database: str) -> str:
    """The name of a server of the installation of this database in the names of files."""
    return hashlib.sha256(f"{server}\n{database}".encode(errors="surrogatepass")).hexdigest()[:16]


def process_of(server: str, url: str) -> int | None:
    """The id of the process of an embedded server, of the system that started this process, or runs here.

    Args:
        server: `redis` or `mongodb`.
        url: where it is; `None` is returned for one elsewhere, and for one that does not run.
    """
    state = state_of(Path(os.environ.get(RUNS_IN, DATA_DIR)).absolute()) or {}
    pids = state.get("pids")
    pid = pids.get(server) if state.get(f"{server}_url") == url and isinstance(pids, dict) else None
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return None
    return pid
