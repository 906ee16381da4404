"""Where the lines go that supervised processes print, and directories that nobody else may read."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer

#: What the supervisor's own lines are headed.
SUPERVISOR = "system"

#: Takes a process's name and a line that it wrote.
Output = Callable[[str, bytes], None]


class ConsoleOutput:
    """Prints lines with time, name and colour, as `honcho start` does."""

    def __init__(self, names: Iterable[str], stream: TextIO) -> None:
        """Give each name a colour."""
        self._colours = dict(zip(names, get_colours(), strict=False))
        self._printer = Printer(stream, width=max(map(len, [SUPERVISOR, *self._colours])))
        self._lock = threading.Lock()

    def __call__(self, name: str, line: bytes) -> None:
        """Print a line."""
        now = dt.datetime.now()  # noqa: DTZ005 - for a person at this terminal
        message = Message("line", line, now, name, self._colours.get(name))
        with self._lock, suppress(OSError, ValueError):  # nobody reads any more: not this process's affair
            self._printer.write(message)


class FileOutput:
    """Appends lines to `<name>.log` in a directory, which is made private."""

    def __init__(self, directory: Path) -> None:
        """Take the directory; it is created if need be."""
        private_directory(directory)
        self._directory = directory

    def __call__(self, name: str, line: bytes) -> None:
        """Append a line."""
        with suppress(OSError), private_file(self._directory / f"{name}.log", "ab") as log:
            log.write(line.rstrip(b"\n") + b"\n")


def private_directory(path: Path) -> None:
    """Have a directory that its owner alone may enter.

    Raises:
        OSError: it cannot be had.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:  # it is an old one
        path.chmod(0o700)


def private_file(path: Path, mode: str) -> IO[Any]:
    """Open a file, in UTF-8 unless it is binary, that its owner alone may read.

    Raises:
        OSError: it cannot be opened.
    """
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=_private)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # it may be an old one
    return descriptor
