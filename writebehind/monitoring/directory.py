"""The directory in which the service's processes on one host keep their counts, where no setting names one."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

from writebehind.settings.installation import Settings
from writebehind.settings.running import DATA_DIR, digest_of, state_of
from writebehind.settings.urls import redacted

log = logging.getLogger(__name__)

VARIABLE = "WRITEBEHIND_METRICS_DIR"


def share_counts(settings: Settings) -> Settings:
    """Have this process, and those that it starts, count where all of one installation on this host do.

    Returns:
        The settings, with the directory; without one where there can be none, so that this process counts for
        itself. A warning says so.
    """
    if settings.metrics_dir is None:
        try:
            directory = _directory(settings)
        except OSError as error:
            log.warning("no page shows what this process counts, set %s: %s", VARIABLE, error)
            return settings
        settings = settings.model_copy(update={"metrics_dir": directory})
    os.environ[VARIABLE] = str(settings.metrics_dir)
    return settings


def directory_of(settings: Settings) -> Path:
    """The directory in which the service's processes of these settings count here, whether it is there or not.

    Raises:
        OSError: there is no directory for temporary files.
    """
    if settings.metrics_dir is not None:
        return settings.metrics_dir
    running = state_of(Path(DATA_DIR).absolute()) or {}
    if redacted(str(running.get("redis_url", ""))) == redacted(settings.redis_url) and "metrics_dir" in running:
        return Path(str(running["metrics_dir"]))
    return _chosen(settings)


def _directory(settings: Settings) -> Path:
    """A directory of this user alone, as others could make its files shorter under a process that writes to them.

    Raises:
        OSError: there can be none, or somebody else has made it.
    """
    directory = _chosen(settings)
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else")
    return directory


def _chosen(settings: Settings) -> Path:
    """Its name tells the servers apart, and nothing of their passwords. Raises as `directory_of` does."""
    of = digest_of(redacted(settings.redis_url), settings.mongodb_database)
    name = f"writebehind-{os.getuid()}-{of}"
    return Path(tempfile.gettempdir()) / name
