"""Deadline of a thread: until when somebody waits for what it is at work on.

Who serves others tells threads; the library itself has none. What a thread waits for by itself ends with it: reads
of MongoDB, and the wait until MongoDB has a write. A round trip to Redis has a shorter limit of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Final


class WouldWaitError(BaseException):
    """A thread would wait that must not. No handler of errors is to answer it."""


class _Thread(threading.local):
    """The deadline of a thread, by the monotonic clock, seconds; and whether it may wait at all."""

    until = inf
    may_wait = True


_thread = _Thread()


class _Never:
    """Lets a thread wait for nobody in a block, such as that of an event loop, in which all would wait with it."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Wait for nobody from here on."""
        _thread.may_wait = False

    def __exit__(self, *_: object) -> None:
        """Wait as before."""
        _thread.may_wait = True


NEVER_WAITS: Final = _Never()


def may_wait() -> bool:
    """Whether this thread may wait for others."""
    return _thread.may_wait


def about_to_wait() -> None:
    """Say that this thread is about to wait for a server.

    Raises:
        WouldWaitError: it must not.
    """
    if not _thread.may_wait:
        raise WouldWaitError


@contextmanager
def ends_at(moment: float) -> Iterator[None]:
    """Have what this thread does in the block wait until a moment only, by the monotonic clock, seconds."""
    before = _thread.until
    _thread.until = min(before, moment)
    try:
        yield
    finally:
        _thread.until = before


@contextmanager
def endless() -> Iterator[None]:
    """Let this thread end in the block what must not be broken off."""
    before = _thread.until
    _thread.until = inf
    try:
        yield
    finally:
        _thread.until = before


def left_s(most_s: float) -> float:
    """The seconds that this thread may wait, `most_s` at most; 0 where its time is over."""
    if _thread.until == inf:
        return most_s
    return min(most_s, max(0.0, _thread.until - time.monotonic()))
