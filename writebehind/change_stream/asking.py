"""MongoDB as one listener asks it: whether it owes an answer, and since when."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from writebehind.change_stream.stream_errors import reading


class Asking:
    """Questions of one listener to MongoDB. One thread asks, and others may look.

    Attributes:
        is_open: whether MongoDB is being asked just now.
    """

    def __init__(self) -> None:
        """Know of no answer yet."""
        self.is_open = False
        #: By the monotonic clock: from ever before the first answer, and infinity while none is owed.
        self._owed_since = -math.inf

    @contextmanager
    def ask(self) -> Iterator[None]:
        """Ask MongoDB, which may not answer for long; no error is an answer. Raises as `reading`."""
        self.is_open = True
        self._owed_since = min(self._owed_since, time.monotonic())
        try:
            with reading():
                yield
            self._owed_since = math.inf
        finally:
            self.is_open = False

    def heard_ms(self, noted_ms: int, now_ms: int) -> int:
        """Time at which MongoDB last owed no answer: nobody waits for what a lost Redis kept from being asked.

        Args:
            noted_ms: when somebody last noted that MongoDB answered; it stands before the first answer.
            now_ms: the time by the same clock.
        """
        owed_s = max(0.0, time.monotonic() - self._owed_since)
        return round(max(noted_ms, now_ms - 1000 * owed_s))
