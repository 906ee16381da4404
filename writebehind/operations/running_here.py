"""Remedies for the system that runs in this directory: only its machine shows these faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from writebehind.conditions import Remedy, remedy
from writebehind.operations.probing import requests_to_all, silences_of_api
from writebehind.plurals import counted
from writebehind.process_identity import is_stopped, stopped_of
from writebehind.settings.installation import Settings
from writebehind.settings.running import DATA_DIR, state_of

#: What to do where the files of a system's servers were deleted under them.
SAVE: Final = (
    "`writebehind drain` brings what is pending to MongoDB. Where that refuses, as its files are gone too, copy "
    "what it still reads, as with mongodump, and `kill` it (its process is in up.json): `up` starts an empty one, "
    "to which drain brings what is pending"
)


def system_here(settings: Settings, data_dir: Path | None = None) -> dict[str, Any] | None:
    """The description of the system of this installation that runs in this directory; `None` where none does.

    Args:
        settings: of the installation.
        data_dir: where that system has its data; `.writebehind` here by default.
    """
    state = state_of(data_dir or Path(DATA_DIR).absolute())
    return state if state is not None and state["redis_url"] == settings.redis_url else None


def home_of_redis(settings: Settings) -> Path | None:
    """The directory of the Redis that the system which runs in this directory has started; `None` for another."""
    state = system_here(settings)
    if state is None or "redis" not in (state.get("embedded") or {}):
        return None
    return Path(str(state["data_dir"]), "redis").resolve()


def remedies_here(settings: Settings, state: Mapping[str, Any], *, timeout_s: float) -> Iterator[Remedy]:
    """Remedies for faults of it that no server tells, the worst first.

    Args:
        settings: of the installation.
        state: the description that it wrote.
        timeout_s: how long its API has to answer, seconds.
    """
    if state.get("is_gone"):
        found = (
            "the data directory is not there any more, deleted or moved under the running system: files that were "
            "deleted end with their servers"
        )
        yield remedy("data-directory", "data directory", found, f"do not stop it. {SAVE}")
    if state.get("url"):
        yield from _of_api(settings, str(state["url"]), _web(state), timeout_s)
    if is_stopped(str(state.get("process", ""))):
        pid = state["pid"]
        found = f"process {pid}, which is `writebehind up`, is stopped: what ends is not started anew"
        yield remedy("up", "up", found, f"`kill -CONT {pid}` lets it go on, and it starts what is missing")


def _web(state: Mapping[str, Any]) -> int | None:
    pid = (state.get("pids") or {}).get("web")
    return pid if isinstance(pid, int) else None


def _of_api(settings: Settings, url: str, pid: int | None, timeout_s: float) -> Iterator[Remedy]:
    """The remedy for requests without an answer, and for a parent of web processes that is stopped."""
    place = urlsplit(url)
    silent = silences_of_api(settings, place.hostname or "", place.port or settings.port, timeout_s=timeout_s)
    stopped = [] if pid is None else stopped_of(pid)
    named = " ".join(map(str, stopped))
    resume = f"`kill -CONT {named}` lets it go on; `kill -KILL {named}` has `up` start it anew"
    if silent:
        asked = counted(requests_to_all(settings), "request")
        found = f"{place.geturl()} leaves {len(silent)} of {asked} without an answer"
        if stopped:
            yield remedy("api", "api", f"{found}: process {named} is stopped", resume)
        else:
            advice = "look at the log of web; `kill -KILL` of a process that is stuck has `up` start it anew"
            yield remedy("api", "api", f"{found}: {silent[0]}", advice)
    elif stopped:
        found = f"{place.geturl()} answers, and process {named} of it is stopped: what ends is not started anew"
        yield remedy("web", "api", found, resume)
