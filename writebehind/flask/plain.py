"""Requests that are carried out before Flask is asked: which one a thread is at work on, and what came of it.

Flask answers what does not end as most do. What was done by then is handed on to the route, which must not do it
once more: a write would be written twice, and a read counted twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from writebehind.errors import WritebehindError, without_frames

#: Where what came of a request stands in its environment until its route takes it.
_OUTCOME = "writebehind.outcome"

Environ = dict[str, Any]


class Plain(NamedTuple):
    """A request for one document."""

    environ: Environ
    path: str
    collection: str
    id: str
    is_read: bool


class Outcome(NamedTuple):
    """Outcome of a request: a result, or the error that it has failed with, or what is left to do for either."""

    result: Any = None
    error: Exception | None = None
    rest: Callable[[], Any] | None = None


#: Nothing was done, or nothing that must not be done again.
NOTHING_DONE: Final = Outcome()


class _Thread(threading.local):
    """The request that a thread is at work on outside of Flask."""

    asked: Plain | None = None


_thread = _Thread()


def at_work_on() -> Plain | None:
    """The request that this thread is at work on, if it is outside of Flask."""
    return _thread.asked


def carry_out(asked: Plain, work: Callable[[Plain], Any]) -> Outcome:
    """Carry a request out. What ends a thread's work whatever it is, as `TakesMuchError`, is raised."""
    _thread.asked = asked
    try:
        return Outcome(work(asked))
    except WritebehindError as error:
        return Outcome(error=without_frames(error))
    except Exception as error:  # noqa: BLE001 - for the route
        return Outcome(error=error)
    finally:
        _thread.asked = None


def hand_on(environ: Environ, outcome: Outcome) -> None:
    """Let the route have what came of its request."""
    environ[_OUTCOME] = outcome


def taken(environ: Environ) -> Any:
    """The result of this request, if it was carried out by now, or is but for its rest; else `None`; and once.

    Raises:
        Exception: what it has failed with.
    """
    outcome: Outcome | None = environ.pop(_OUTCOME, None)
    if outcome is None:
        return None
    if outcome.error is not None:
        raise outcome.error
    return outcome.result if outcome.rest is None else outcome.rest()
