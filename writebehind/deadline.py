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


class _Thread(threading.local):
    """The deadline of a thread, by the monotonic clock, seconds."""

    until = inf


_thread = _Thread()


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
