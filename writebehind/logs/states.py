"""Changes of state as events: a line when one begins and one when it is over, however often either is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from writebehind import forks
from writebehind.plurals import counted

#: A state that comes and goes has lines of its beginning so far apart, seconds.
AGAIN_S = 10.0
#: While an outage lasts it is told so often what it costs, seconds.
EVERY_S = 60.0
#: So many things are told apart; what is one too many is told of once, all together.
MOST_APART = 200
#: For so long a process keeps an outage of a server to itself where nobody waits for it, seconds.
PATIENCE_S = 60.0

_patience_s = 0.0


def be_patient(for_s: float) -> None:
    """Have this process log an outage once it has lasted for so long, seconds; one that is over by then never.

    So a server that is restarted is told by those processes whose work stands still by it.
    """
    global _patience_s  # noqa: PLW0603 - as all that is set up of logs, it is one for the process
    _patience_s = for_s


def patience_s() -> float:
    """For so long this process keeps an outage to itself, seconds."""
    return _patience_s


class StateLog:
    """Logs when a state begins and when it is over. Safe to share between threads.

    Where things fail while it lasts, a line a minute counts them, and the last one.
    A state that flickers is told once in `AGAIN_S`; what is not told to have begun is not told to be over.
    """

    def __init__(
        self, log: logging.Logger, began: str, over: str, *, again_s: float = AGAIN_S, is_outage: bool = False
    ) -> None:
        """Log there.

        Args:
            log: takes the lines.
            began: the name of the event that it begins.
            over: the name of the event that it is over.
            again_s: between two lines that it begins, seconds.
            is_outage: whether calls fail by it: they are counted, and a patient process says nothing at first.
        """
        self._log, self._began, self._over = log, began, over
        self._again_s, self._is_outage = again_s, is_outage
        #: What stands at the end of the line that it begins; '' for nothing. It may not raise.
        self.aside: Callable[[], str] = str
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
        self._told_cause = ""
        self._failed = 0

    def begin(self, line: str, *, cause: str = "", **fields: Any) -> None:
        """Note that it lasts; a line says so if it is new, or of another cause than the last line.

        One a minute says that an outage still lasts.
        """
        now = time.monotonic()
        with self._lock:
            if not self.lasts:
                self.lasts, self._since, self._told, self._failed = True, now, False, 0
            self._failed += 1
            is_told = self._told and cause == self._told_cause
            if (is_told and not self._is_outage) or now - self._told_at < (EVERY_S if is_told else self._again_s):
                return
            if self._is_outage and now - self._since < _patience_s:
                return
            self._told, self._told_at, self._told_cause = True, now, cause
            lasts_s, failed = now - self._since, self._failed
        if is_told:
            line = f"{line}; it has lasted for {lasts_s:.0f} s, in which {counted(failed, 'call')} failed"
            fields = {"kind": self._began, **fields, "event": "outage_lasts", "count": failed}
        self._log.warning("%s%s", line, self.aside(), extra={"event": self._began, **fields})

    def fails(self) -> None:
        """Count a call that failed because it lasts."""
        with self._lock:
            self._failed += 1

    def end(self, line: str, *, advice: str = "nothing is to be done", **fields: Any) -> None:
        """Note that it is over; a line says so if one has said that it began, and ends with the advice."""
        with self._lock:
            if not self.lasts:
                return
            lasted, told, failed = time.monotonic() - self._since, self._told, self._failed
            self.lasts = self._told = False
        if told:
            fields |= {"event": self._over, "after_s": round(lasted, 1)}
            meanwhile = ""
            if self._is_outage:
                fields["count"], meanwhile = failed, f" in which {counted(failed, 'call')} failed"
            self._log.warning("%s, after %.1f s%s; %s", line, lasted, meanwhile, advice, extra=fields)


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
