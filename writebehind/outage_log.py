"""Log lines of an outage: the first failure, a count once a minute, and one line when it is over.

While a server is away each request fails in the same way. A line for each would hide all else, and fill the disk.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from writebehind import forks
from writebehind.plurals import counted

#: An outage is over when nothing has failed for so long, seconds.
QUIET_S = 10.0
#: While it lasts it is told so often what it costs, seconds.
EVERY_S = 60.0


@dataclass(slots=True)
class _Outage:
    """An outage since its first failure; times in seconds, monotonic.

    `silent` while it has no line of its own, `held` while that is not due yet.
    """

    began: float
    last: float
    told: float
    count: int = 1
    untold: int = 0
    latest: str = ""
    silent: bool = False
    held: bool = False


class OutageLog:
    """Logs failures of some kinds. Safe to share between threads; a thread counts the time during outages only."""

    def __init__(
        self,
        log: logging.Logger,
        thing: str = "failure",
        things: str = "",
        *,
        quiet_s: float = QUIET_S,
        every_s: float = EVERY_S,
        patience_s: float = 0.0,
    ) -> None:
        """Log there.

        Args:
            log: takes the lines.
            thing: is what fails.
            things: several of them, where an s is not enough.
            quiet_s: an outage is over when nothing has failed for so long, seconds.
            every_s: while one lasts it is told so often what it costs, seconds.
            patience_s: one has no line before it has lasted for so long, seconds, and none if it is over by then.
        """
        self._log = log
        self._thing, self._things = thing, things or f"{thing}s"
        self._quiet_s = quiet_s
        self._every_s = every_s
        self._patience_s = patience_s
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know of no outage: what the parent process has seen, it tells."""
        self._outages: dict[str, _Outage] = {}
        self._watching = False

    def note(
        self,
        kind: str,
        line: str,
        *,
        logged: bool = False,
        level: int = logging.WARNING,
        event: str = "",
        error: BaseException | None = None,
        **fields: Any,
    ) -> None:
        """Log the first failure of a kind; count the ones that follow until its outage is over.

        Args:
            kind: what fails, as the counts name it.
            line: says so.
            logged: whether another line of this process has said it, and will say that it is over: then only the
                counts of an outage that lasts are logged.
            level: of the first line.
            event: what the first line is, if it is something of its own.
            error: one that nobody foresaw: the first line has its trace.
            fields: of the first line.
        """
        now = time.monotonic()
        with self._lock:
            known = self._outages.get(kind)
            if known is not None:
                known.count, known.untold = known.count + 1, known.untold + 1
                known.latest, known.last = line, now
                if not known.held or now - known.began < self._patience_s:
                    return
                known.held, known.told, known.untold = False, now, 0
            else:
                held = self._patience_s > 0
                self._outages[kind] = _Outage(began=now, last=now, told=now, silent=logged, held=held)
                logged |= held
            if not self._watching:
                self._watching = True
                watch = (weakref.ref(self), min(self._quiet_s, self._every_s) / 4)
                threading.Thread(target=_watch, args=watch, name="outage-log", daemon=True).start()
        if not logged:
            self._log.log(
                level, "%s", line, exc_info=error, extra={"event": event or "outage_began", "kind": kind, **fields}
            )

    def tell(self) -> bool:
        """Log the lines that are due; whether an outage lasts. A thread does so while one does."""
        with self._lock:
            lines = list(self._lines(time.monotonic()))
            lasts = self._watching = bool(self._outages)
        for line, fields in lines:
            self._log.warning("%s", line, extra=fields)
        return lasts

    def _lines(self, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """The lines that are due, with their fields; outages that are over are forgotten."""
        for kind, one in list(self._outages.items()):
            if now - one.last > self._quiet_s:
                del self._outages[kind]
                if one.count > 1 and not one.silent and not one.held:
                    lasted = f"the last {one.last - one.began:.0f} s after the first"
                    line = f"{kind}: over, {one.count} {self._things} in all, {lasted}"
                    yield line, {"event": "outage_over", "kind": kind, "count": one.count}
            elif one.untold and not one.held and now - one.told > self._every_s:
                more = counted(one.untold, f"more {self._thing}", f"more {self._things}")
                line = f"{kind}: {more} in {now - one.told:.0f} s, the last: {one.latest}"
                yield line, {"event": "outage_lasts", "kind": kind, "count": one.untold}
                one.told, one.untold = now, 0


def _watch(log: weakref.ref[OutageLog], every_s: float) -> None:
    """Let a log tell what is due, until no outage lasts, or the log is gone with its owner."""
    lasts = True
    while lasts:
        time.sleep(every_s)
        lasts = (one := log()) is not None and one.tell()
        del one
