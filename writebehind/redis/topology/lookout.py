"""The looks of a process at how Redis is divided: `Lookout`."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from writebehind import forks
from writebehind.deadline import about_to_wait
from writebehind.errors import RedisUnavailableError
from writebehind.redis.keys import Layout

#: What a process knows of the number of partitions may be so old, seconds.
LOOK_EVERY_S: Final = 2.0
#: Where Redis did not say it, it is asked again after this, seconds.
_ASK_AGAIN_S: Final = 0.1


class Lookout:
    """Looks, before something is sent, how a layout is by now. Safe to share between threads."""

    def __init__(self, layout: Layout, look: Callable[[], object] | None = None) -> None:
        """Keep a layout up to date by a look, which asks Redis; or never."""
        self.layout = layout
        #: From when on somebody has to look, by the steady clock, seconds.
        self.due = math.inf if look is None else 0.0
        self._look = look
        self._lock = forks.lock()
        self._looking = threading.local()

    def look(self) -> None:
        """Look, if nobody has since that was due. Others wait for it meanwhile, as what they know is too old.

        While Redis does not answer, what was known last counts.
        """
        if self._look is None or getattr(self._looking, "now", False):  # what is sent is the look
            return
        about_to_wait()
        with self._lock:
            began = time.monotonic()
            if began <= self.due:
                return
            self._looking.now = True
            try:
                self._look()
                self.due = began + LOOK_EVERY_S  # not from its answer on, which may be read late
            except RedisUnavailableError:  # that comes out again, or does not matter here
                self.due = time.monotonic() + _ASK_AGAIN_S
            finally:
                self._looking.now = False
