"""Threads that watch for as long as a process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from writebehind.logs.events import FAULT

log = logging.getLogger(__name__)

#: Pause after one has failed by a fault of ours, seconds.
PAUSE_S = 10.0

#: Watches until the event is set.
Watch = Callable[[threading.Event], None]


class Watchers:
    """Run each watch in a thread of its own, for as long as a `with` block lasts, or until they are stopped.

    A watch that fails is begun again after a pause: figures are no reason to end a process that shows others.
    """

    def __init__(self, watches: Mapping[str, Watch]) -> None:
        """Take watches by the names that their threads get."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=one, name=one[0], daemon=True) for one in watches.items()
        ]

    def start(self) -> Self:
        """Begin."""
        for one in self._threads:
            one.start()
        return self

    def stop(self) -> None:
        """End, and wait for that."""
        self._stop.set()
        for one in self._threads:
            one.join(timeout=5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self, name: str, watch: Watch) -> None:
        while not self._stop.is_set():
            try:
                watch(self._stop)
            except Exception:
                log.exception("%s has failed, and begins again in %.0f s", name, PAUSE_S, extra=FAULT)
                self._stop.wait(PAUSE_S)
