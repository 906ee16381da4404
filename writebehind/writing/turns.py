"""Turns of a process's threads that change a document: they need not fail each other's condition in Redis."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from writebehind import forks

#: Documents share so many lines.
LINES = 64
#: After so many seconds in which no turn has ended a thread goes on without its own: who has the turn may wait for
#: this thread. Redis decides in any case.
PATIENCE_S = 2.0
#: After so many seconds it does so whatever happens, so that its request ends in time.
LONGEST_S = 20.0

_has_turn: ContextVar[bool] = ContextVar("has_turn", default=False)


class Line:
    """Threads that wait for one turn after the other, in the order in which they came."""

    def __init__(self) -> None:
        """Nobody has the turn."""
        self._guard = forks.lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_taken = False
        self._ended = 0

    def take(self) -> bool:
        """Wait for the turn; whether it has come. Who goes on without it ends none."""
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return True
            mine = threading.Lock()
            mine.acquire()  # whoever ends a turn lets go of it
            self._waiting.append(mine)
        try:
            return self._comes(mine) or not self._leave(mine)
        except BaseException:  # such as a time limit of Celery's
            if not self._leave(mine):
                self.end()
            raise

    def _comes(self, mine: threading.Lock) -> bool:
        """Whether the turn comes, as far as that is waited for."""
        until, ended = time.monotonic() + LONGEST_S, self._ended
        while not mine.acquire(timeout=PATIENCE_S):
            if self._ended == ended or time.monotonic() > until:
                return False
            ended = self._ended
        return True

    def _leave(self, mine: threading.Lock) -> bool:
        """Wait no longer; `False` where the turn has come at the last moment."""
        with self._guard:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
            return True

    def end(self) -> None:
        """Hand the turn to who has waited longest."""
        with self._guard:
            self._ended += 1
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False


class Turns:
    """Lets threads change documents one after the other, as a rule. Safe to share between threads.

    Code of others runs in a turn, such as a function that is given to `patch`, or a hook. It may change documents
    itself, or wait for a thread that does. So who has a turn takes no second one, and nobody waits for long where
    no turn ends.
    """

    def __init__(self) -> None:
        """Nobody has one."""
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have no thread of a parent process in a line."""
        self._lines = [Line() for _ in range(LINES)]

    @contextmanager
    def of(self, member: str) -> Iterator[None]:
        """The turn of this thread to change a document."""
        line = self._lines[hash(member) % len(self._lines)]
        if _has_turn.get() or not line.take():
            yield
            return
        before = _has_turn.set(True)
        try:
            yield
        finally:
            _has_turn.reset(before)
            line.end()
