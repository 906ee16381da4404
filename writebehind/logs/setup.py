"""Has a process of the service log in one format: its own lines, those of others, and what is printed."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final

from writebehind.logs.events import FAULT
from writebehind.logs.formats import JsonFormat, Redact, TextFormat

#: The loggers whose level the settings say; others are told from warnings on.
OURS: Final = ("writebehind", "web", "tasks")
#: The logger of requests, which are logged whatever the level is, or not at all.
ACCESS: Final = "writebehind.access"
#: The loggers that say that a server is lost, and back.
SERVERS: Final = ("writebehind.redis.connections", "writebehind.mongodb.breaker_log")
#: The name that a supervisor gives a process, and a number behind it.
_NAME: Final = "HONCHO_PROCESS_NAME"
_STDERR: Final = 2

log = logging.getLogger(__name__)


def configure(process: str, *, form: str, level: str, redact: Redact = str) -> None:
    """Have all lines of this process, from now on, in one format on standard error. May be called again.

    Args:
        process: its name, unless a supervisor has given it another.
        form: `json`; anything else is text.
        level: the least level of our own lines, such as `info`.
        redact: takes secrets out of texts.
    """
    name = os.environ.get(_NAME, "").rpartition(".")[0] or process
    lines = Lines()
    lines.setFormatter(JsonFormat(name, redact) if form == "json" else TextFormat(redact))
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(max(logging.WARNING, _number(level)))
    for ours in OURS:
        logging.getLogger(ours).setLevel(_number(level))
    for server in SERVERS:
        logging.getLogger(server).setLevel(logging.NOTSET)
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    if form == "json":
        sys.stdout = Printed("stdout", logging.INFO)
        sys.stderr = Printed("stderr", logging.ERROR)


@contextmanager
def left_to_command() -> Iterator[None]:
    """A command ends where a server is away, and says so in a line of its own alone; `configure` undoes it."""
    before = {logger: logger.level for logger in map(logging.getLogger, SERVERS)}
    for logger in before:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


class Lines(logging.Handler):
    """Writes each line at once, by one call of the system, and is never the reason for a failure."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a format is not to fail; if it does, not whoever logs
            line = f"a line of {record.name!a} cannot be told: {type(error).__name__}"
        write_line(line)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Say nothing: there is nowhere to say it."""


def write_line(line: str) -> None:
    """Write a line to standard error itself, whoever stands in its place in Python; nothing where it is closed."""
    data = line.encode("utf-8", "backslashreplace") + b"\n"
    with suppress(OSError):
        while data:
            data = data[os.write(_STDERR, data) :]


class Printed(io.TextIOBase):
    """In the place of standard output or error: what is printed there becomes a log line for each of its lines."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, level: int) -> None:
        """Log under this name, on this level."""
        self._log, self._level = logging.getLogger(name), level
        self._log.setLevel(level)
        self._begun = threading.local()

    def write(self, text: str) -> int:
        """Log the lines that are complete by now."""
        if not isinstance(text, str):
            raise TypeError("only text can be printed here")
        *lines, rest = (getattr(self._begun, "line", "") + text).split("\n")
        self._begun.line = rest
        for line in lines:
            self._tell(line)
        return len(text)

    def flush(self) -> None:
        """Leave a line that has begun until it ends."""

    def close(self) -> None:
        """Log what has begun."""
        rest, self._begun.line = getattr(self._begun, "line", ""), ""
        self._tell(rest)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The file of standard error, for what writes to files: it goes where the log goes."""
        return _STDERR

    def _tell(self, line: str) -> None:
        if line.strip():
            self._log.log(self._level, "%s", line)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping().get(level.upper(), logging.INFO)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.warning("interrupted")
        return
    log.critical(
        "this process ends by an error that nobody foresaw",
        exc_info=(kind, error, trace),
        extra=FAULT,
    )


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None and not issubclass(caught.exc_type, SystemExit):
        name = caught.thread.name if caught.thread else "?"
        told = (caught.exc_type, caught.exc_value, caught.exc_traceback)
        log.critical("the thread %s ends by an error that nobody foresaw", name, exc_info=told, extra=FAULT)


def _unraisable(caught: Any) -> None:
    told = (caught.exc_type, caught.exc_value, caught.exc_traceback) if caught.exc_value is not None else None
    log.error("%s %r", caught.err_msg or "an error is ignored in", caught.object, exc_info=told, extra=FAULT)
