"""Lines that supervised processes print, and directories that nobody else may read."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import IO, Any, Protocol, TextIO

import orjson
from honcho.colour import get_colours
from honcho.printer import Message, Printer

from writebehind.logs.formats import json_line
from writebehind.plurals import counted

#: What the supervisor's own lines are headed.
SUPERVISOR = "system"

#: The logger of these lines, and the fields of each line.
_LOGGER = "writebehind.local"
_FIELDS = {"time", "level", "logger", "process", "pid", "message"}
#: Lines that wait for a reader of the console.
MOST_WAITING = 10_000

#: The time that a process itself gives its line, as `logging`, Celery, granian and Tornado write it.
_TIME = re.compile(
    rb"(?P<level>\[[DIWEC]) \d{6} \d\d:\d\d:\d\d|"
    rb"(?P<bracket>\[?)\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?[+-]\d\d:?\d\d|Z)?(?P<end>: |\] | )"
)


class Output(Protocol):
    """Takes a process's name and a line that it wrote; its id, and how grave the line is, where that is known."""

    def __call__(self, name: str, line: bytes, pid: int = 0, level: str = "") -> None:
        """Put the line out."""


class ConsoleOutput:
    """Prints lines with time, name and colour, as `honcho start` does.

    A thread prints them: a reader that takes nothing, such as a full pipe, holds up nobody else. What does not fit
    into the queue by then is left out, and a line says how much.
    """

    def __init__(self, names: Iterable[str], stream: TextIO) -> None:
        """Give each name a colour."""
        self._colours = dict(zip(names, get_colours(), strict=False))
        self._stream = _unbuffered(stream)
        self._printer = Printer(self._stream, width=max(map(len, [SUPERVISOR, *self._colours])))
        self._lines: Queue[Message] = Queue(MOST_WAITING)
        self._left_out = 0
        threading.Thread(target=self._print, name="console", daemon=True).start()

    def __call__(self, name: str, line: bytes, pid: int = 0, level: str = "") -> None:
        """Have a line printed, unless it is blank, with one time and not that of the process besides."""
        if not line.strip():
            return
        try:
            self._lines.put_nowait(self._message(name, line, pid, level))
        except Full:
            self._left_out += 1

    def finish(self, within_s: float) -> None:
        """Wait until all is printed, but not for long."""
        deadline = time.monotonic() + within_s
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)

    def _message(self, name: str, line: bytes, pid: int = 0, level: str = "") -> Message:
        del pid, level  # a person sees them in the line
        now = dt.datetime.now()  # noqa: DTZ005 - for a person at this terminal
        return Message("line", _timeless(line), now, name, self._colours.get(name))

    def _show(self, message: Message) -> None:
        self._printer.write(message)

    def _print(self) -> None:
        while True:
            message = self._lines.get()
            with suppress(OSError, ValueError):  # nobody reads any more: not this process's affair
                self._show(message)
                if (left_out := self._left_out) and self._lines.empty():
                    self._left_out -= left_out
                    words = f"{counted(left_out, 'line is', 'lines are')} left out, as nobody has read in time"
                    self._show(self._message(SUPERVISOR, words.encode()))
            self._lines.task_done()


class JsonOutput(ConsoleOutput):
    """Prints each line as an object of JSON, with the name of its process."""

    def _message(self, name: str, line: bytes, pid: int = 0, level: str = "") -> Message:
        return Message("line", as_json(name, line, pid, level), None, name, None)

    def _show(self, message: Message) -> None:
        self._stream.write(f"{message.data.decode()}\n")


class FileOutput:
    """Appends lines to `<name>.log` in a directory, which is made private."""

    def __init__(self, directory: Path, *, json: bool = False) -> None:
        """Take the directory, which is created if need be, and whether each line is to be an object of JSON."""
        private_directory(directory)
        self._directory, self._json = directory, json

    def finish(self, within_s: float) -> None:
        """All is written."""

    def __call__(self, name: str, line: bytes, pid: int = 0, level: str = "") -> None:
        """Append a line."""
        if self._json:
            if not line.strip():
                return
            line = as_json(name, line, pid, level)
        with suppress(OSError), private_file(self._directory / f"{name}.log", "ab") as log:
            log.write(line.rstrip(b"\n") + b"\n")


def as_json(name: str, line: bytes, pid: int = 0, level: str = "") -> bytes:
    """A line of a process as an object of JSON: its own, if it is one, with all fields that each line has."""
    text = line.strip()
    found = _object(text)
    if found is not None and found.keys() >= _FIELDS and text.isascii():
        return text
    if found is None:
        # What a process did not log is unusual.
        level = level or ("info" if name == SUPERVISOR else "warning")
        found = {"message": text.decode(errors="backslashreplace")}
    return json_line(_made(name, level or "info", pid or os.getpid()) | found).encode()


def object_line(name: str, level: str, message: str, **fields: Any) -> str:
    """A line of this process as an object of JSON."""
    return json_line(_made(name, level, os.getpid()) | {"message": message} | fields)


def _made(name: str, level: str, pid: int) -> dict[str, Any]:
    """The fields that each line has."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    logger = _LOGGER if name == SUPERVISOR else "stdout"
    return {"time": now, "level": level, "logger": logger, "process": name, "pid": pid, "message": ""}


def spoken(line: bytes) -> str:
    """The message of a process's line, where it is an object of JSON that has one; else the line."""
    text = line.strip()
    found = _object(text) or {}
    return str(found.get("message", "")) or text.decode(errors="replace")


def _object(text: bytes) -> dict[str, Any] | None:
    if not text.startswith(b"{"):
        return None
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _timeless(line: bytes) -> bytes:
    """A line without the time at its beginning. Celery has more in the same brackets."""
    if not (found := _TIME.match(line)):
        return line
    if found["level"]:
        return found["level"] + line[found.end() :]
    return (found["bracket"] if found["end"] == b": " else b"") + line[found.end() :]


def _unbuffered(stream: TextIO) -> TextIO:
    """The same without a buffer, which a thread that waits for a reader would hold when the process ends."""
    try:
        raw = os.fdopen(os.dup(stream.fileno()), "wb", buffering=0)
    except (OSError, ValueError):
        return stream
    # A file that is no buffer is enough for it.
    return io.TextIOWrapper(raw, stream.encoding, "replace", write_through=True)


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
