"""A note outside of Redis that an installation has API keys: who starts on an emptied Redis is not open then."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

#: An empty file for each server of the installation, by its name.
_FILE: Final = "keys-seen-{}"


class SeenKeys:
    """Whether this host has seen keys of an installation. Safe to share between threads, and between processes."""

    def __init__(self, directory: Path | None = None, names: Sequence[str] = ()) -> None:
        """Note it in this directory, once there is one.

        Args:
            directory: it has to outlive Redis's data; without one nothing is noted.
            names: of the installation's servers; one of them is enough to know it, as the other may have moved.
        """
        self._directory = directory
        self._names = tuple(names)

    def keep_in(self, directory: Path) -> None:
        """Note it in this directory, and look there."""
        self._directory = directory

    def note(self) -> None:
        """Note that there are keys. Where no file can be written nobody knows it later."""
        try:
            for path in self._files():
                path.touch(mode=0o600)
        except OSError as error:  # such as a directory that nobody has made yet
            log.debug("it is not kept in a file that there are API keys: %s", error)

    def found(self) -> list[Path]:
        """The files that say so; none where nobody has seen keys."""
        return [path for path in self._files() if path.exists()]

    def forget(self) -> None:
        """Forget it: whoever emptied Redis wants everybody to be let in again."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [] if self._directory is None else [self._directory / _FILE.format(one) for one in self._names]
