"""A file whose age says whether a process works: for supervisors, who need no port and start no interpreter."""

from __future__ import annotations

import logging
from pathlib import Path
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)

#: The file is touched no more often; and whoever looks at it takes it for old after so long, seconds.
TOUCHED_EVERY_S: Final = 1.0
OLD_AFTER_S: Final = 60


class AliveFile:
    """The file of one process, or nothing where the settings name none. Safe to share between threads."""

    def __init__(self, path: Path | None) -> None:
        """Touch this file, in a directory that is there."""
        self._path = path
        self._touched_at: float | None = None
        self._failed = False

    def touch(self) -> None:
        """Say that the process works. What keeps it from doing so is logged once, and ends nothing."""
        now = monotonic()
        if self._path is None or (self._touched_at is not None and now - self._touched_at < TOUCHED_EVERY_S):
            return
        self._touched_at = now
        try:
            self._path.touch()
        except OSError as error:
            if not self._failed:
                log.warning("alive_file: %s cannot be touched: %s", self._path, error.strerror)
            self._failed = True
