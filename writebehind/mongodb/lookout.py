"""A look-out before MongoDB: while somebody waits for it, a thread sees whether it gives a sign of life.

An operation may take seconds, so its own time-out tells late that nobody is there. The thread tells sooner: by
what the driver's monitors know of the servers, and by a `ping` where they take MongoDB for alive.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from writebehind import forks
from writebehind.errors import MongoBusyError, MongoUnavailableError, PipelineClosedError
from writebehind.logs.events import FAULT

log = logging.getLogger(__name__)

#: Between two looks while somebody waits, seconds.
LOOK_S: Final = 0.2
#: For so long no server may be reachable, seconds, before MongoDB counts as gone. The driver tries twice a second.
GONE_S: Final = 0.6
#: Where somebody waits for so long, seconds, MongoDB is asked for a sign of life.
PATIENCE_S: Final = 0.5
#: It is waited for that long, seconds, or for so many times as long as it takes as a rule. So an election that is
#: over within that time is no outage.
SIGN_S: Final = 1.2
ROUND_TRIPS: Final = 4
#: A look or a sign that comes so much later than it should, seconds, proves nothing: this process was held up.
HELD_UP_S: Final = 0.4
#: After a fault of ours it looks again in so long, seconds.
FAILED_S: Final = 5.0
#: The thread ends when nobody has waited for so long, seconds.
LINGERS_S: Final = 2.0


class Life(Protocol):
    """MongoDB, as far as it can be seen."""

    def ping(self, *, timeout_s: float) -> None:
        """Ask for a sign of life. Raises `MongoUnavailableError` where there is none."""

    def unreachable(self) -> str:
        """Reason for which no server is reachable, known without asking; '' where one is, or nothing is known."""

    def round_trip_s(self) -> float:
        """The time that a sign of life takes as a rule, seconds; 0 where that is not known."""


class Lookout:
    """Looks while somebody waits, and while MongoDB is known to be gone. Safe to share between threads.

    The thread begins when it is needed, and ends when it is not.
    """

    def __init__(self, life: Life, *, gone: Callable[[str], None], find_out: Callable[[], float | None]) -> None:
        """Look at that life.

        Args:
            life: of MongoDB.
            gone: is told why, when there is no sign of it.
            find_out: is called from then on, until it returns `None`; it returns the time until the next call,
                seconds.
        """
        self._life = life
        self._gone = gone
        self._find_out = find_out
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Wait for nobody of the parent process."""
        self._waiting: dict[object, float] = {}
        self._runs = self._is_gone = False
        #: When somebody was answered last, and when this thread has looked, and since when no server is reachable.
        self._answered = self._looked = 0.0
        self._unreachable: float | None = None
        self._needed = 0.0

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Wait for MongoDB in the block. An error of it that is no outage is an answer too."""
        one = object()
        self._waiting[one] = time.monotonic()
        if not self._runs:
            self._start()
        try:
            yield
            self._answered = time.monotonic()
        except MongoUnavailableError as error:
            if not error.outage and not isinstance(error, MongoBusyError | PipelineClosedError):
                self._answered = time.monotonic()
            raise
        finally:
            self._waiting.pop(one, None)

    def await_recovery(self) -> None:
        """Find out from here on whether MongoDB serves again."""
        self._is_gone = True
        if not self._runs:
            self._start()

    def look(self) -> float | None:
        """Look once; the time until the next look, seconds, or `None` where none is needed."""
        now = time.monotonic()
        was_held_up, self._looked = now - self._looked > LOOK_S + HELD_UP_S, now
        if self._is_gone:
            if (pause_s := self._find_out()) is not None:
                return pause_s
            self._is_gone = False
        began = min(list(self._waiting.values()), default=None)
        if began is None:
            self._unreachable = None
            return LOOK_S if self._lingers(now) else None
        self._needed = now
        if was_held_up:
            self._unreachable, self._answered = None, now
            return LOOK_S
        if reason := self._life.unreachable():
            if self._unreachable is None:
                self._unreachable = now
            if now - self._unreachable >= GONE_S:
                self._tell(reason)
            return LOOK_S
        self._unreachable = None
        if now - max(began, self._answered) >= PATIENCE_S and (reason := self._missing_sign()):
            self._tell(reason)
        return LOOK_S

    # How --------------------------------------------------------------------------------------------

    def _tell(self, reason: str) -> None:
        self._unreachable = None
        self._gone(reason)

    def _missing_sign(self) -> str:
        """Reason for which there is no sign of life; '' where there is one, or nothing is proven."""
        began = time.monotonic()
        until = began + max(SIGN_S, ROUND_TRIPS * self._life.round_trip_s())
        reason = ""
        while (left_s := until - time.monotonic()) > 0:
            try:
                self._life.ping(timeout_s=left_s)
            except MongoUnavailableError as error:
                if error.outage and self._answered < began:
                    reason = str(error)
                    time.sleep(max(0.0, min(LOOK_S, until - time.monotonic())))  # it may be one connection
                    continue
            self._answered = max(self._answered, began)  # if only by this process's own words
            return ""
        self._looked = time.monotonic()
        return reason if self._answered < began and self._looked - until < HELD_UP_S else ""

    def _start(self) -> None:
        with self._lock:
            if self._runs:
                return
            self._runs = True
            self._looked = self._needed = time.monotonic()
            threading.Thread(target=_run, args=(weakref.ref(self),), name="mongodb-lookout", daemon=True).start()

    def _lingers(self, now: float) -> bool:
        """Whether the thread goes on although nobody waits: as a rule somebody soon does."""
        if now - self._needed < LINGERS_S:
            return True
        with self._lock:
            self._runs = False
        if self._waiting or self._is_gone:  # since then, and took the thread for alive
            with self._lock:
                again, self._runs = not self._runs, True
            return again
        return False


def _run(lookout: weakref.ref[Lookout]) -> None:
    """Look until nobody needs it, or the look-out is gone with its owner."""
    said = ""
    while (one := lookout()) is not None:
        try:
            pause_s = one.look()
            said = ""
        except Exception as error:  # or nobody would look any more, and each would wait for its own time-out
            if repr(error) != said:  # it may last
                log.exception("the look-out before MongoDB has failed, and goes on", extra=FAULT)
            said, pause_s = repr(error), FAILED_S
        del one
        if pause_s is None:
            return
        time.sleep(pause_s)
