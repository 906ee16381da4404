"""Turns of a process's threads that change a document: they need not fail each other's condition in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from writebehind import forks

#: Documents share so many locks.
LOCKS = 64
#: For how long a thread waits for its turn, seconds. Then it goes on without: Redis decides in any case.
PATIENCE_S = 2.0

_has_turn: ContextVar[bool] = ContextVar("has_turn", default=False)


class Turns:
    """Lets threads change documents one after the other, as a rule. Safe to share between threads.

    Code of others runs in a turn, such as a function that is given to `patch`, or a hook. It may change documents
    itself, or wait for a thread that does. So who has a turn takes no second one, and nobody waits for long.
    """

    def __init__(self) -> None:
        """Nobody has one."""
        self._locks = [forks.lock() for _ in range(LOCKS)]

    @contextmanager
    def of(self, member: str) -> Iterator[None]:
        """The turn of this thread to change a document."""
        lock = self._locks[hash(member) % len(self._locks)]
        if _has_turn.get() or not lock.acquire(timeout=PATIENCE_S):
            yield
            return
        before = _has_turn.set(True)
        try:
            yield
        finally:
            _has_turn.reset(before)
            lock.release()
