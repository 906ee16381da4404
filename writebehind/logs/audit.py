"""The audit log: who did what as an operator, and who was refused, each a line of JSON in a file of its own."""

from __future__ import annotations

import errno
import logging
import os
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final

from writebehind.errors import ConfigurationError
from writebehind.logs.formats import JsonFormat, Redact

#: Its logger. It tells nobody else: what has to be told is told by other loggers too, as far as it has to be.
AUDIT: Final = "writebehind.audit"

log = logging.getLogger(__name__)
_audit = logging.getLogger(AUDIT)
_audit.propagate = False
_audit.setLevel(logging.INFO)
_audit.addHandler(logging.NullHandler())


def begin_audit(path: Path | None, process: str, *, redact: Redact = str) -> None:
    """Append what is noted from now on to a file, which its owner alone may read. May be called again.

    A file that was moved away, as by logrotate, is made anew with the next line. Several processes may share it.

    Args:
        path: of the file; without one nothing is written.
        process: its name in each line.
        redact: takes secrets out of texts.

    Raises:
        ConfigurationError: it cannot be written.
    """
    for handler in [one for one in _audit.handlers if isinstance(one, _File)]:
        _audit.removeHandler(handler)
        handler.close()
    if path is None:
        return
    try:
        file = _File(path, encoding="ascii")
    except OSError as error:
        raise ConfigurationError(f"audit_log: {path} cannot be written: {_reason(error)}") from error
    file.setFormatter(JsonFormat(process, redact))
    _audit.addHandler(file)


def is_on() -> bool:
    """Whether anybody reads it."""
    return len(_audit.handlers) > 1


def note(event: str, message: str, fields: dict[str, Any]) -> None:
    """Write a line, at once."""
    _audit.info("%s", message, extra={"event": event, **fields})


class _File(WatchedFileHandler):
    """Appends each line by one call of the system, so that lines of several processes stay whole."""

    _is_away = False

    def _open(self) -> Any:
        """Open it for its owner alone, where it is made."""
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_for_its_owner)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; whoever is at work goes on where it cannot be, which is told once."""
        try:
            self.reopenIfNeeded()
            data = self.format(record).encode("ascii", "backslashreplace") + b"\n"
            if self.stream is None:  # it could not be opened anew
                self.stream = self._open()
            os.write(self.stream.fileno(), data)
            self._is_away = False
        except OSError as error:
            if not self._is_away:
                self._is_away = True
                log.warning(
                    "audit_log: %s cannot be written, and calls go on without: %s",
                    *(self.baseFilename, _reason(error)),
                    extra={"event": "audit_unwritten"},
                )


def _for_its_owner(path: str, flags: int) -> int:
    """Open it; a pipe is waited for neither now, until somebody reads it, nor later, while it is full."""
    return os.open(path, flags | os.O_NONBLOCK, 0o600)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "nobody reads from this pipe"
    return error.strerror or type(error).__name__
