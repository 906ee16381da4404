"""The two formats of log lines: what they say, and that no value forges a line."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from writebehind.logs import fields
from writebehind.logs.formats import MOST_BYTES, JsonFormat, TextFormat
from writebehind.settings.urls import redacted

#: What ends a line for some reader, and what a terminal obeys.
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
CONTROLS = ["\0", "\b", "\x1b[2K\x1b[1A", "\x7f", "\x9b1A", "\u202e", "\u200b", "\ud800"]
FORGED = "2026-11-26 21:00:00,000 CRITICAL forged"


@pytest.fixture(params=["text", "json"])
def form(request) -> logging.Formatter:
    return JsonFormat("web", redacted) if request.param == "json" else TextFormat(redacted)


def record(message: object = "it happens", *arguments: object, error: BaseException | None = None, **extra: Any):
    handled = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger("here").makeRecord(
        "writebehind.here", logging.WARNING, __file__, 1, message, arguments, handled, extra=extra
    )


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301 - for its trace
    except BaseException as caught:  # noqa: BLE001 - any
        return caught


def is_one_line(form: logging.Formatter, line: str) -> bool:
    """Whether a line begins no other, for any reader: in text what follows a break is indented."""
    if isinstance(form, JsonFormat):
        assert isinstance(json.loads(line), dict)
        return line.isascii() and line.isprintable()
    first, *more = line.split("\n")
    return all(one.isprintable() for one in (first, *more)) and all(one.startswith("    ") for one in more)


def test_json_has_all_that_is_known():
    """Time, level, logger, process and message, and each field that was given, with its type."""
    line = JsonFormat("web").format(record("took %d", 3, event="done", partition=7, ms=1.5, late=True, gone=None))
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert 0 < found.pop("pid")
    assert found == {
        "level": "warning",
        "logger": "writebehind.here",
        "process": "web",
        "message": "took 3",
        "event": "done",
        "partition": 7,
        "ms": 1.5,
        "late": True,
    }


def test_text_is_a_line_to_read():
    """Time, level and message, then the fields that the message does not say itself."""
    line = TextFormat().format(record("partition 7 waits", event="waits", partition=7, ticket="abc"))
    time, _, said = line.partition(" WARNING ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", time)
    assert "partition 7 waits event=waits ticket=abc" == said


@pytest.mark.parametrize("character", [*BREAKS, *CONTROLS])
@pytest.mark.parametrize("where", ["message", "argument", "field", "name", "error", "cause", "note"])
def test_no_value_forges_a_line(form, where, character):
    """Whatever an id, a body, an error or its cause has in it, the line stays one, and nothing in it is obeyed."""
    bad = f"a{character}{FORGED}"
    error = ValueError(bad) if where == "error" else ValueError("bad")
    if where == "note":
        error.add_note(bad)
    error = raised(error, KeyError(bad) if where == "cause" else None)
    line = form.format(
        record(
            bad if where == "message" else "it is %s",
            *([] if where == "message" else [bad if where == "argument" else "so"]),
            error=error if where in {"error", "cause", "note"} else None,
            **{"n" + bad if where == "name" else "member": bad if where == "field" else "users/s:ada"},
        )
    )
    assert "forged" in line
    assert is_one_line(form, line)
    assert not any(one.startswith(FORGED) for one in re.split("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", line))


def test_an_error_is_a_field_with_its_causes():
    """In JSON its type, its words and its trace, which has the cause as well."""
    error = raised(ValueError("it is bad"), raised(KeyError("of this")))
    found = json.loads(JsonFormat("web").format(record("it failed", error=error)))
    assert "it failed" == found["message"]
    assert ("ValueError", "it is bad") == (found["exception"]["type"], found["exception"]["message"])
    trace = found["exception"]["traceback"]
    assert trace.index("KeyError: 'of this'") < trace.index("direct cause") < trace.index("ValueError: it is bad")


def test_an_error_stands_below_its_line():
    """In text the trace is indented below the line, so that a reader sees where the next line begins."""
    error = raised(ValueError("it is bad"), raised(KeyError("of this")))
    first, *trace = TextFormat().format(record("it failed", error=error)).split("\n")
    assert first.endswith("it failed")
    assert "    Traceback (most recent call last):" == trace[0]
    assert "    KeyError: 'of this'" in trace
    assert "    ValueError: it is bad" == trace[-1]


def test_no_password_is_in_a_line(form):
    """Neither in the message, nor in a field, an error or its cause."""
    url = "redis://user:secret@host:6379/0?password=secret"
    error = raised(ValueError(url), raised(KeyError(url)))
    line = form.format(record(f"at {url}", error=error, server=url))
    assert "secret" not in line
    assert line.count("host:6379") >= 3
    # Nor is one shown because the line is cut in the middle of it.
    for at in range(60):
        assert "secret" not in form.format(record("x" * (3_940 + at) + url + "x" * 9_000))


@pytest.mark.parametrize("size", [10_000, 1_000_000])
@pytest.mark.parametrize("character", ["x", "é", "😀", "\n", "\x1b"])
def test_a_line_is_bounded(form, size, character):
    """However long a message, its fields and an error are, and the end of each is there."""
    text = f"begin{character * size}end"
    error = raised(ValueError(text))
    line = form.format(record(text, error=error, **{f"{text[:40]}{n}": text for n in range(100)}))
    assert len(line.encode()) <= (MOST_BYTES if isinstance(form, JsonFormat) else 12 * MOST_BYTES)
    assert "characters left out" in line
    assert is_one_line(form, line)


def test_a_long_text_costs_no_more_than_its_length():
    """What looks like the beginning of many URLs is redacted in one go."""
    text = "a" * 200_000 + "://user:secret@host"
    assert "secret" not in redacted(text)


class Unspeakable:
    """It cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


class UnspeakableError(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    "bad",
    [
        record("%d documents", "three"),
        record("%s and %s", 1),
        record("%s", Unspeakable()),
        record(Unspeakable()),
        record("so", member=Unspeakable()),
        record("so", error=raised(UnspeakableError())),
        record("so", error=UnspeakableError()),
        record("so", ratio=float("nan")),
        record("so", ratio=float("inf"), big=10**400),
        record("so", **{"": 1, "time": "noon", "level": 3, "logger": [], "pid": {}}),
        record("so", body=b"\xff\xfe", some={"a": {1, 2}}, ends=(loop := [], loop.append(loop))),
    ],
)
def test_logging_never_raises(form, bad):
    """Arguments that do not fit, objects that cannot be told and numbers that JSON has not are a line as well."""
    line = form.format(bad)
    assert is_one_line(form, line)
    assert "WARNING" in line or "warning" == json.loads(line)["level"]


def test_a_deep_chain_of_errors_is_told():
    """As far as it is told at all: a cycle and a thousand causes end."""
    error = None
    for n in range(1_000):
        error = raised(ValueError(n), error)
    for form in (JsonFormat("web"), TextFormat()):
        assert is_one_line(form, form.format(record("so", error=error)))


def test_what_a_thread_is_at_work_on_is_in_its_lines(form):
    """Fields that are bound are in each line of the block, the inner over the outer ones, and gone after it."""
    with fields.bound(partition=3, ticket="t1"):
        with fields.bound(ticket="t2"):
            inner = form.format(record())
        outer = form.format(record())
    after = form.format(record())
    seen = [re.findall(r"\bpartition\W+(\d+)|ticket\W+(t\d)", one) for one in (inner, outer, after)]
    assert [[("3", ""), ("", "t2")], [("3", ""), ("", "t1")], []] == seen


def test_a_source_of_fields_that_fails_costs_no_line(form, monkeypatch):
    """The line comes without its fields."""
    monkeypatch.setattr(fields, "_SOURCES", {"bad": lambda: 1 / 0, "good": lambda: {"member": "users/s:ada"}})
    assert "users/s:ada" in form.format(record())


def test_python_itself_has_no_more_fields():
    """What each record has in this version of Python is not taken for a field that was given."""
    found = json.loads(JsonFormat("web").format(record()))
    assert {"time", "level", "logger", "process", "pid", "message"} == found.keys(), sys.version
