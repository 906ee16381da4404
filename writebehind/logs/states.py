"""Changes of state as events: a line when one begins and one when it is over, however often either is noted."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from writebehind import forks

#: A state that comes and goes has lines of its beginning so far apart, seconds.
AGAIN_S = 10.0
#: So many things are told apart; what is one too many is told of once, all together.
MOST_APART = 200


class StateLog:
    """Logs when a state begins and when it is over. Safe to share between threads.

    A state that flickers is told once in `AGAIN_S`; what is not told to have begun is not told to be over.
    """

    def __init__(self, log: logging.Logger, began: str, over: str, *, again_s: float = AGAIN_S) -> None:
        """Log there; `began` and `over` are the names of the two events."""
        self._log, self._began, self._over = log, began, over
        self._again_s = again_s
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know of nothing: what the parent process has seen, it tells."""
        #: Whether the state lasts, to be looked at before each call that could end it.
        self.lasts = False
        self._since = 0.0
        self._told = False
        self._told_at = float("-inf")

    def begin(self, line: str, **fields: Any) -> None:
        """Note that it lasts; a line says so if it is new."""
        now = time.monotonic()
        with self._lock:
            if not self.lasts:
                self.lasts, self._since, self._told = True, now, False
            if self._told or now - self._told_at < self._again_s:
                return
            self._told, self._told_at = True, now
        self._log.warning("%s", line, extra={"event": self._began, **fields})

    def end(self, line: str, **fields: Any) -> None:
        """Note that it is over; a line says so if one has said that it began."""
        with self._lock:
            if not self.lasts:
                return
            lasted, told = time.monotonic() - self._since, self._told
            self.lasts = self._told = False
        if told:
            fields |= {"event": self._over, "after_s": round(lasted, 1)}
            self._log.warning("%s, after %.1f s; nothing is to be done", line, lasted, extra=fields)


class StateLogs:
    """Logs the states of several things, each by its name, as `StateLog` does. Safe to share between threads."""

    def __init__(self, log: logging.Logger, began: str, over: str, *, again_s: float = AGAIN_S) -> None:
        """Log there; `began` and `over` are the names of the two events."""
        self._make = partial(StateLog, log, began, over, again_s=again_s)
        self._states: dict[str, StateLog] = {}
        self._lock = forks.lock()

    def begin(self, name: str, line: str, **fields: Any) -> None:
        """Note that the state of a thing lasts; a line says so if it is new."""
        with self._lock:
            known = name if name in self._states or len(self._states) < MOST_APART else ""
            state = self._states.setdefault(known, self._make())
        state.begin(line, **fields)

    def end(self, name: str, line: str, **fields: Any) -> None:
        """Note that it is over; a line says so if one has said that it began."""
        state = self._states.get(name)
        if state is not None and state.lasts:
            state.end(line, **fields)
