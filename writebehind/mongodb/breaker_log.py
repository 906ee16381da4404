"""Log lines of the breaker before MongoDB: one for each state in an outage, and what the outage has cost."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from writebehind import forks
from writebehind.logs.states import patience_s
from writebehind.plurals import counted

log = logging.getLogger(__name__)

#: A process that has not seen it open for so long, seconds, does not know when it was closed.
UNSEEN_S: Final = 10.0
#: What to do while it is open.
ADVICE: Final = (
    "; writes wait in Redis up to the caps, and reads that are not cached are refused: "
    "see that MongoDB runs and has a primary that can be reached"
)


class BreakerLog:
    """Logs what a process sees of the breaker. Safe to share between threads.

    A long outage has many probes and many callers: none but the first has a line.
    """

    def __init__(self) -> None:
        """Know of no outage."""
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know of none: what the parent process has seen, it tells."""
        self._lines: set[str] = set()
        self._began = self._seen = 0.0
        self._lasts = False
        self._failed = 0

    def is_told(self) -> bool:
        """Whether the log has it that MongoDB is lost."""
        return bool(self._lines)

    def seen_open(self) -> None:
        """Note that it is open now."""
        self._seen = time.monotonic()

    def opened(self, why: str) -> None:
        """Log that it is open, and why."""
        self.seen_open()
        line = f"the breaker before MongoDB is open: {why}{ADVICE}"
        self._say("breaker_opened", line, reason=why)

    def half_opened(self) -> None:
        """Log that one caller finds out, unless nobody knows that it was open."""
        why = "one caller finds out whether it serves again"
        self._say("breaker_half_opened", f"the breaker before MongoDB is half-open: {why}", reason=why)

    def fails(self) -> None:
        """Count a call that has failed because MongoDB is lost."""
        if self._lasts:
            with self._lock:
                self._failed += 1

    def closed(self) -> None:
        """Log that it is closed, if a line says that it was open, and for how long."""
        if not self._lasts:
            return
        with self._lock:
            told, failed, began = self._lines, self._failed, self._began
            self._lines, self._lasts, self._failed = set(), False, 0
        if told:
            line = f"the breaker before MongoDB is closed{self._lasted(began)}"
            meanwhile = f"; {counted(failed, 'call')} failed meanwhile" if failed else ""
            log.warning("%s%s", line, meanwhile, extra={"event": "breaker_closed", "count": failed})

    def _say(self, event: str, line: str, **fields: Any) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._lasts:
                self._lasts, self._began = True, now
            if event in self._lines or now - self._began < patience_s():
                return
            self._lines.add(event)
        log.warning("%s", line, extra={"event": event, **fields})

    def _lasted(self, began: float) -> str:
        """The time that it was open, as far as this process has seen: who asks nothing does not see it close."""
        now, seen = time.monotonic(), self._seen
        if now - seen < UNSEEN_S:
            return f", after {now - began:.1f} s"
        unseen = f"then this process did not look for {now - seen:.1f} s"
        return f": it was open for at least {seen - began:.1f} s; {unseen}"
