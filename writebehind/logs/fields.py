"""Fields of log lines that whoever logs need not name: what the thread is at work on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Takes nothing, and returns fields of the line that is about to be written.
Source = Callable[[], Mapping[str, Any]]

_BOUND: ContextVar[Mapping[str, Any] | None] = ContextVar("writebehind_log_fields", default=None)
_SOURCES: dict[str, Source] = {}


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Have fields in each line that this thread, or this task of an event loop, logs within the block."""
    token = _BOUND.set({**(_BOUND.get() or {}), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def add_source(name: str, source: Source) -> None:
    """Have a function asked for fields when a line is written, and at no other time; one for each name."""
    _SOURCES[name] = source


def current() -> dict[str, Any]:
    """The fields of a line that is written now. A source that fails has none."""
    found: dict[str, Any] = {}
    for source in [*_SOURCES.values()]:
        try:
            found |= source()
        except Exception:  # noqa: BLE001, S112 - a line without its fields is worth more than none
            continue
    found |= _BOUND.get() or {}
    return found
