"""The directory in which the processes of this host count."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from writebehind.monitoring.directory import directory_of
from writebehind.operations.doctor.findings import Finding, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.tallies.directory import Directory
from writebehind.tallies.files import SIZE

_ADVICE = "no page shows what processes of this host count: {}, or set WRITEBEHIND_METRICS_DIR to another one"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Whether processes of this host can count there, and this user may read it."""
    try:
        path = directory_of(pipeline.settings)
    except OSError as error:
        yield warning("counts", f"there is no directory for them: {error}", _ADVICE.format("make it"))
    else:
        yield counts(path)


def counts(path: Path) -> Finding:
    """One directory, which need not be there before something is counted."""
    try:
        living = Directory(path).living()
    except FileNotFoundError:
        above = next(one for one in path.absolute().parents if one.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            found = f"{path} is not there, and cannot be made in {above}"
            return warning("counts", found, _ADVICE.format("make it"))
        return ok("counts", f"no process of this host has counted in {path}")
    except OSError as error:
        return warning("counts", f"{path} cannot be read: {error}", _ADVICE.format("see that it is a directory"))
    if path.stat().st_uid == os.geteuid() and not os.access(path, os.W_OK | os.X_OK):
        found = f"{path} cannot be written: its files cannot be made anew"
        return warning("counts", found, _ADVICE.format("see to its rights"))
    if shutil.disk_usage(path).free < SIZE:
        found = f"the disk of {path} is full: a process that begins has no room for its counts"
        return warning("counts", found, _ADVICE.format("make room"))
    return ok(
        "counts",
        f"{counted(living, 'process', 'processes')} in {path}" if living else f"nobody counts in {path} now",
    )
