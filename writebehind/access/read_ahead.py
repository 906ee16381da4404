"""Something that an issuer publishes, as a process knows it: read again when it is old, while requests go on.

A thread reads it, when somebody finds it too old, and no request waits for that but those of the first moment.
What was read stays while the issuer does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from writebehind import forks
from writebehind.access import published
from writebehind.deadline import about_to_wait
from writebehind.errors import TokenKeysError
from writebehind.logs.states import StateLog

T = TypeVar("T")

#: For so long it is taken as it was read last, seconds.
FRESH_S: Final = 300.0
#: So long after the last time it is read again, where that failed or it is no longer trusted, seconds.
AGAIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of the log.

    Attributes:
        away: it is not to be had.
        kept: what follows where it was read before.
        nothing: what follows where it never was.
        back: it is to be had again.
    """

    away: str
    kept: str
    nothing: str
    back: str


class ReadAhead(Generic[T]):
    """The last of what was read. Safe to share between threads."""

    def __init__(self, read: Callable[[T | None], T], away: StateLog, wording: Wording, *, thread: str) -> None:
        """Read nothing before it is needed.

        Args:
            read: given what was read last, reads it or raises `TokenKeysError`.
            away: is told when it is not to be had, and when it is again.
            wording: in these words.
            thread: the name of the thread that reads.
        """
        self._source = read
        self._wording = wording
        self._away = away
        self._thread = thread
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know nothing that the parent process has read."""
        self.last: T | None = None
        self._began = self._due = float("-inf")
        #: Whether it was asked for once, whatever came of it.
        self._tried = threading.Event()

    def get(self) -> T | None:
        """It, as it was read last; `None` where it never was.

        Callers wait until it was asked for once, and no longer than `WITHIN_S` of `published` and a second.
        """
        self.begin()
        if self.last is None:
            about_to_wait()
            self._tried.wait(published.WITHIN_S + 1)
        return self.last

    def begin(self) -> None:
        """Have a thread read it, if it is time."""
        now = time.monotonic()
        if now < self._due:
            return
        with self._lock:
            if now < self._due:
                return
            self._began, self._due = now, now + AGAIN_S
        threading.Thread(target=self._refresh, name=self._thread, daemon=True).start()

    def doubt(self) -> None:
        """Have it read before it is old: `AGAIN_S` after the last time, and no sooner."""
        with self._lock:
            self._due = min(self._due, self._began + AGAIN_S)
        self.begin()

    def watch(self, stop: threading.Event) -> None:
        """Have it read now, and again as soon as it is old: in a thread of its own."""
        while not stop.is_set():
            self.begin()
            stop.wait(max(0.0, self._due - time.monotonic()))

    def read(self) -> None:
        """Read it now.

        Raises:
            TokenKeysError: it is not to be had.
        """
        self.last = self._source(self.last)
        with self._lock:
            self._due = time.monotonic() + FRESH_S
        if self._away.lasts:
            self._away.end(self._wording.back)

    def _refresh(self) -> None:
        try:
            self.read()
        except TokenKeysError as error:
            kept = self._wording.nothing if self.last is None else self._wording.kept
            self._away.begin(f"{self._wording.away}, and {kept}: {error}", error=str(error))
        finally:
            self._tried.set()
