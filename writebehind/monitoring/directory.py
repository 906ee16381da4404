"""The directory in which the service's processes on one host keep their counts, where no setting names one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from writebehind.settings.installation import Settings

VARIABLE = "WRITEBEHIND_METRICS_DIR"


def share_counts(settings: Settings) -> Settings:
    """Have this process, and those that it starts, count where all of one installation on this host do.

    Returns:
        The settings, with the directory. It is of this user alone, as others could make its files shorter under
        a process that writes to them.
    """
    if settings.metrics_dir is None:
        of = f"{settings.redis_url}\n{settings.mongodb_database}".encode()
        name = f"writebehind-{os.getuid()}-{hashlib.sha256(of).hexdigest()[:16]}"
        directory = Path(tempfile.gettempdir()) / name
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            found = directory.lstat()
        except OSError:
            return settings
        if not directory.is_dir() or directory.is_symlink() or found.st_uid != os.getuid():
            return settings
        settings = settings.model_copy(update={"metrics_dir": directory})
    os.environ[VARIABLE] = str(settings.metrics_dir)
    return settings
