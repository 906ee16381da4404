"""The directories of the processes of this host: that in which they count, and that of what they saw last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from writebehind.monitoring.directory import directory_of
from writebehind.operations.doctor.findings import Finding, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.tallies.directory import Directory
from writebehind.tallies.files import SIZE

_ADVICE = "no page shows what processes of this host count: {}, or set WRITEBEHIND_METRICS_DIR to another one"

#: What is said where nobody counts.
_ELSEWHERE = "; where `up` runs in another directory, look from there, or with its WRITEBEHIND_METRICS_DIR"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Whether processes of this host can count there, and this user may read it; and keep what they saw last."""
    if pipeline.settings.state_dir is not None:
        yield state(pipeline.settings.state_dir)
    try:
        path = directory_of(pipeline.settings)
    except OSError as error:
        yield warning("counts", f"there is no directory for them: {error}", _ADVICE.format("make it"))
    else:
        yield counts(path)


def counts(path: Path) -> Finding:
    """One directory, which need not be there before something is counted."""
    try:
        directory = Directory(path)
        living, damaged = directory.living(), directory.damaged()
    except FileNotFoundError:
        above = next(one for one in path.absolute().parents if one.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            found = f"{path} is not there, and cannot be made in {above}"
            return warning("counts", found, _ADVICE.format("make it"))
        return ok("counts", f"no process of this host has counted in {path}{_ELSEWHERE}")
    except OSError as error:
        return warning("counts", f"{path} cannot be read: {error}", _ADVICE.format("see that it is a directory"))
    return _fault(path, damaged) or ok(
        "counts",
        f"{counted(living, 'process', 'processes')} in {path}"
        if living
        else f"nobody counts in {path} now{_ELSEWHERE}",
    )


def state(path: Path) -> Finding:
    """The directory that is to outlive a reboot. Nobody makes it: it would not be where it is meant to be."""
    try:
        found = _fault_of_state(path)
    except OSError as error:  # such as one above it that this user may not enter
        found = f"cannot be looked at: {error}", "see to the rights of what is above it"
    if found is None:
        return ok("state directory", f"{path} keeps what was last only in Redis")
    why, advice = found
    return warning(
        "state directory",
        f"{path} {why}: a loss of Redis's data is not told where the processes were started anew too",
        f"{advice}, or set WRITEBEHIND_STATE_DIR to another one",
    )


def _fault_of_state(path: Path) -> tuple[str, str] | None:
    """Reason why nothing is kept there, and what to do; `None` if it is. Raises OSError where nobody can tell."""
    if not path.is_dir():
        return "is no directory" if path.exists() else "is not there", "make it"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"cannot be written by user {os.geteuid()}, who asks", "have it belong to who runs the processes"
    if shutil.disk_usage(path).free < SIZE:
        return "is on a disk that is full", "make room"
    return None


def _fault(path: Path, damaged: Mapping[str, str]) -> Finding | None:
    """The fault of a directory that can be read, of whose files these are left out; `None` if it has none."""
    if path.stat().st_uid == os.geteuid() and not os.access(path, os.W_OK | os.X_OK):
        found = f"{path} cannot be written: its files cannot be made anew"
        return warning("counts", found, _ADVICE.format("see to its rights"))
    if shutil.disk_usage(path).free < SIZE:
        found = f"the disk of {path} is full: a process that begins has no room for its counts"
        return warning("counts", found, _ADVICE.format("make room"))
    if damaged:
        name, why = min(damaged.items())
        found = f"{counted(len(damaged), 'file')} in {path} left out of all pages, as {name}: {why}"
        return warning("counts", found, "remove what no running process holds, and see who else writes there")
    return None
