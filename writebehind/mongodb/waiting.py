"""Threads that wait for MongoDB: so few of those that serve others that some are left for what Redis has.

A MongoDB that takes seconds holds whoever asks it, and whoever waits for what another one asks. So who serves
others with a few threads has places for those that wait. Where all are taken and nobody moves, the next one is
refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from writebehind.errors import MongoBusyError

#: For so long a thread waits for a place, and for so long after one was taken or left, seconds. MongoDB usually
#: answers in milliseconds.
PATIENCE_S: Final = 0.4
RETRY_AFTER_S: Final = 1.0


class Places:
    """Places of threads that wait for MongoDB. Safe to share between threads."""

    def __init__(self, count: int) -> None:
        """Have so many."""
        self._changed = threading.Condition()
        self._free = count
        self._moved_at = time.monotonic()

    @classmethod
    def among(cls, threads: int) -> Places:
        """For so many threads, of which a quarter never waits; where there is one only, it may."""
        return cls(max(1, threads - max(1, threads // 4)))

    def take(self) -> None:
        """Take a place.

        Raises:
            MongoBusyError: none becomes free soon.
        """
        began = time.monotonic()
        with self._changed:
            while not self._free:
                left_s = min(began, self._moved_at) + PATIENCE_S - time.monotonic()
                if left_s <= 0:
                    raise MongoBusyError(retry_after_s=RETRY_AFTER_S)
                self._changed.wait(left_s)
            self._free -= 1
            self._moved_at = time.monotonic()

    def leave(self) -> None:
        """Leave a place."""
        with self._changed:
            self._free += 1
            self._moved_at = time.monotonic()
            self._changed.notify()


class _Thread(threading.local):
    """The bounds of a thread, and whether it has a place; without bounds it waits as it likes."""

    places: Places | None = None
    has_place = False


_thread = _Thread()


def wait_in(places: Places) -> None:
    """Let this thread wait for MongoDB in these places only, from here on."""
    _thread.places = places


@contextmanager
def waits() -> Iterator[None]:
    """Wait for MongoDB in the block, or for another thread that does.

    A read has up to three in one another: around waiting for another thread's load, for another process's, and
    for MongoDB itself, as each is also used without the others. The outermost takes the thread's one place, and
    those in it take none.

    Raises:
        MongoBusyError: too many do.
    """
    thread = _thread
    if thread.places is None or thread.has_place:
        yield
        return
    thread.places.take()
    thread.has_place = True
    try:
        yield
    finally:
        thread.has_place = False
        thread.places.leave()
