"""The two formats of log lines: text for a terminal, and an object of JSON in each line.

No value can forge a line: in text what is not printable is escaped and whatever follows a line break is indented,
in JSON all but ASCII is escaped.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from writebehind.logs.fields import current
from writebehind.logs.quoting import printable, printable_line, quoted

#: The longest line, bytes: below what a supervisor takes for one line, and container runtimes split.
MOST_BYTES: Final = 60_000
#: The longest message, trace and value of a field, characters; and what is tried where the line is too long so.
_LIMITS: Final = ((8_000, 16_000, 2_000), (2_000, 4_000, 500), (200, 200, 20))
#: Most fields besides the format's own.
_MOST_FIELDS: Final = 40
_LONGEST_NAME: Final = 60

#: What each record has, whoever logs it; all else was given as `extra`.
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
#: What Celery adds to a line about a task: its arguments, once more.
_LEFT_OUT: Final = frozenset({"data"})
#: The fields that are the format's own.
_OWN: Final = ("time", "level", "logger", "process", "pid", "message", "exception")

#: Makes a text fit to be shown: without the passwords in it.
Redact = Callable[[str], str]


class JsonFormat(logging.Formatter):
    """Each record as one line of JSON, in ASCII, with the error as a field of several."""

    def __init__(self, process: str, redact: Redact = str) -> None:
        """Take the name of the process, and what takes secrets out."""
        super().__init__()
        self._process, self._redact = process, redact

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. Never raises."""
        for message, trace, value in _LIMITS:
            line = json_line(self._fields(record, message, trace, value))
            if len(line) <= MOST_BYTES:
                break
        return line

    def _fields(self, record: logging.LogRecord, message: int, trace: int, value: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name[:200],
            "process": self._process,
            "pid": record.process,
            "message": _shortened(self._redact(_message(record)), message),
        }
        fields |= _values(record, self._redact, value)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields["exception"] = {
                "type": type(error).__qualname__[:200],
                "message": _shortened(self._redact(_text(error)), message),
                "traceback": _shortened(self._redact(_trace(error)), trace),
            }
        elif isinstance(told := getattr(record, "exception", None), Mapping):
            fields["exception"] = {name: _shortened(self._redact(str(one)), message) for name, one in told.items()}
        return fields


class TextFormat(logging.Formatter):
    """Each record as one line that a person reads, and the trace of an error indented below it."""

    def __init__(self, redact: Redact = str) -> None:
        """Take what takes secrets out."""
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. Never raises."""
        message, trace, value = _LIMITS[0]
        said = _shortened(printable(self._redact(_message(record))), message)
        values = _values(record, self._redact, value).items()
        # What the message says itself needs no field.
        more = [f"{name}={quoted(str(one))}" for name, one in values if name == "event" or str(one) not in said]
        line = " ".join([_local(record), record.levelname, said, *more])
        if record.exc_info and record.exc_info[1] is not None:
            told = _shortened(self._redact(_trace(record.exc_info[1])), trace).rstrip("\n")
            line = "\n    ".join([line, *map(printable_line, told.split("\n"))])
        return line


def json_line(fields: Mapping[str, Any]) -> str:
    """An object of JSON on one line of ASCII, whatever the values are."""
    try:
        return json.dumps(fields, ensure_ascii=True, allow_nan=False, default=_text, separators=(", ", ": "))
    except (ValueError, TypeError, RecursionError):  # no number of JSON, no name, or no end
        plain = {str(name): one if isinstance(one, str) else _text(one) for name, one in fields.items()}
        return json.dumps(plain, ensure_ascii=True, separators=(", ", ": "))


def _values(record: logging.LogRecord, redact: Redact, longest: int) -> dict[str, Any]:
    """The fields besides the format's own: those of the thread, and those that were given with the line."""
    given = {name: one for name, one in record.__dict__.items() if name not in _STANDARD and name not in _LEFT_OUT}
    found: dict[str, Any] = {}
    for name, one in list((current() | given).items())[:_MOST_FIELDS]:
        if name in _OWN or one is None or one == "":
            continue
        plain = one if isinstance(one, bool | int | float) else _shortened(redact(_text(one)), longest)
        found[printable(str(name))[:_LONGEST_NAME]] = plain
    return found


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments that do not fit, or cannot be told
        return f"{_text(record.msg)} (the arguments of this line cannot be told: {type(error).__name__})"


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - whatever it is, the line is written
        return f"<{type(value).__name__} that cannot be told: {type(error).__name__}>"


def _trace(error: BaseException) -> str:
    """The trace of an error, with its causes, as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception as failure:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {_text(error)} (its trace cannot be told: {type(failure).__name__})"


def _shortened(text: str, longest: int) -> str:
    """A text of bounded length: its beginning and its end, which says what an error was."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _local(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))},{int(record.msecs):03d}"
