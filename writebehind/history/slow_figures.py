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
    """The latest answer of somebody who may take long. Safe to share between threads.

    Nobody is asked while nobody looks.
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[str, float]],
        *,
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        """Ask again and again, from the first look on.

        Args:
            ask: asks; it raises where nothing is known.
            at_end: called by the thread that asks, when it asks no more for now: it may close a connection.
        """
        self._ask = ask
        self._at_end = at_end
        self._looked_at = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._latest: tuple[float, Mapping[str, float]] | None = None

    def latest(self) -> tuple[float, Mapping[str, float]] | None:
        """The latest answer with the time of it, `time.monotonic()`; `None` where none has come lately."""
        self._looked_at = time.monotonic()
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
        asks = False
        while not self._stopped.is_set():
            if time.monotonic() - self._looked_at < FRESH_S:
                asks = True
                self._try(self._ask_once)
            elif asks:
                asks = False
                self._try(self._at_end)
            self._stopped.wait(EVERY_S)
        if asks:
            self._try(self._at_end)

    def _ask_once(self) -> None:
        answer = self._ask()
        self._latest = time.monotonic(), answer

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the figures are not known, and nothing else
            log.debug("figures are not known: %s", error)
