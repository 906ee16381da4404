"""State that a process and its forks must not share: each of them begins anew.

gunicorn's `--preload` and Celery's `prefork` pool build an application and then fork. A child has copies of all
objects, but not of the threads: a lock that one of them held would be held for ever, and two processes that read
from one socket get each other's answers.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import AbstractContextManager
from typing import Protocol
from weakref import WeakSet


class PerProcess(Protocol):
    """An object with parts that belong to one process: connections, threads, and what waits for these."""

    def begin_anew(self) -> None:
        """Let go of what belongs to the parent process. Called in its child, while that has a single thread."""


#: The id of the process that everything here belongs to.
process = os.getpid()

_beginning = threading.Lock()
_opening = threading.RLock()
_locks: WeakSet[threading.RLock] = WeakSet()
_objects: WeakSet[PerProcess] = WeakSet()


def lock() -> threading.RLock:
    """Make a lock that nobody holds in a child process, but for the thread that finds out there that it is one.

    A thread that has it is not kept out by it: only such a lock knows whose it is.
    """
    made = threading.RLock()
    _locks.add(made)
    return made


def none_meanwhile() -> AbstractContextManager[bool]:
    """A context in which no other thread forks this process: no child has what was half opened."""
    return _opening


def begins_anew(one: PerProcess) -> None:
    """Have an object begin anew in each process that is forked from this one, for as long as it lives."""
    _objects.add(one)


def begin_anew(*, is_told: bool = True) -> None:
    """Do so now, if this is a child process.

    Args:
        is_told: whether Python is told that it is. If not, the caller has found out amid something: what locks his
            thread has it keeps, and lets go of itself.

    Raises:
        ExceptionGroup: some objects could not; all others have begun anew.
    """
    global process  # noqa: PLW0603 - a module's own state
    with _beginning:
        if process == os.getpid():
            return
        for one_lock in list(_locks):
            if not is_told and one_lock._is_owned():  # type: ignore[attr-defined] # noqa: SLF001 - as below
                continue
            # Not `release` if it is held: a thread that has just got it says so only with the interpreter.
            one_lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as Python's own modules do
        random.seed()  # Python does so too where it is told: or all children would wait equally long
        errors = []
        for one in list(_objects):
            try:
                one.begin_anew()
            except Exception as error:  # noqa: BLE001 - the next one may be what shares a socket
                errors.append(error)
        process = os.getpid()
    if errors:
        raise ExceptionGroup("not all objects of this process could begin anew", errors)


os.register_at_fork(after_in_child=begin_anew)
# Held over the fork, by its own thread: nothing is half opened in the child.
os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release)
