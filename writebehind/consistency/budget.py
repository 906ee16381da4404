"""The part of a core that the observer may use, held by waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: So much time may be saved up for a moment that has more to do, seconds.
MOST_SAVED_S = 1.0
#: A wait for MongoDB is waited for so long at most, seconds: in a longer one the machine slept, or the process was
#: stopped.
MOST_WAIT_S = 8.0
#: MongoDB may be waited for in this many times the part: it works meanwhile, and a slow one is not pressed.
WAITS = 25


class Budget:
    """Says how long to wait after work. For one thread at a time."""

    def __init__(self, part: float) -> None:
        """Allow this part of a core, from above 0 to 1."""
        self._part = part
        self._at = time.monotonic()
        self._thread, self._cpu = threading.get_ident(), time.thread_time()
        self._owed_s = self._owed_waits_s = 0.0
        self.used_s = 0.0

    def wait_s(self) -> float:
        """The time to wait until what was used fits, seconds; 0 where it does. After a costly step: minutes."""
        now, cpu = time.monotonic(), time.thread_time()
        if self._thread != threading.get_ident():  # another one's clock counts what that one has used
            self._thread, self._cpu = threading.get_ident(), cpu
        used, passed = cpu - self._cpu, now - self._at
        self._at, self._cpu = now, cpu
        self.used_s += used
        self._owed_s = max(-MOST_SAVED_S, self._owed_s + used / self._part - passed)
        self._owed_waits_s = min(MOST_WAIT_S, max(-MOST_SAVED_S, self._owed_waits_s - passed))
        return max(0.0, self._owed_s, self._owed_waits_s)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as time in which MongoDB works."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._owed_waits_s += (time.monotonic() - began) / min(1.0, WAITS * self._part)
