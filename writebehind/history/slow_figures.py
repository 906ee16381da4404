"""Figures that may take long to get, as servers may not answer: asked for in a thread, and never waited for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

#: Between two questions, seconds; and for so long an answer counts.
EVERY_S, FRESH_S = 2.0, 6.0


class SlowFigures:
    """The latest answer of somebody who may take long. Safe to share between threads."""

    def __init__(self, ask: Callable[[], Mapping[str, float]], *, every_s: float = EVERY_S) -> None:
        """Ask again and again, from the first look on; who is asked raises where nothing is known."""
        self._ask = ask
        self._every_s = every_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._latest: tuple[float, Mapping[str, float]] | None = None

    def latest(self) -> tuple[float, Mapping[str, float]] | None:
        """The latest answer with the time of it, `time.monotonic()`; `None` where none has come lately."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="slow-figures", daemon=True)
                self._thread.start()
        latest = self._latest
        return latest if latest is not None and time.monotonic() - latest[0] < FRESH_S else None

    def close(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                answer = self._ask()
                self._latest = time.monotonic(), answer
            except Exception as error:  # noqa: BLE001 - whatever is wrong, the figures are not known, and nothing else
                log.debug("figures are not known: %s", error)
            self._stopped.wait(self._every_s)
