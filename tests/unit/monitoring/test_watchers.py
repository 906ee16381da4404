"""Threads that watch: begun again after a fault, and ended with their process."""

from __future__ import annotations

import threading

from tests.waiting import wait_until
from writebehind.monitoring import watchers
from writebehind.monitoring.watchers import Watchers


def test_a_watch_that_fails_is_begun_again(monkeypatch, caplog):
    """One fault costs figures for a while, and neither the process nor the other watches."""
    monkeypatch.setattr(watchers, "PAUSE_S", 0.01)
    begun: list[str] = []

    def fails(_: threading.Event) -> None:
        begun.append("fails")
        raise ValueError("a fault")

    def waits(stop: threading.Event) -> None:
        begun.append("waits")
        stop.wait()

    with Watchers({"one that fails": fails, "one that waits": waits}):
        wait_until(lambda: begun.count("fails") > 2, "another beginning", 10)

    assert begun.count("waits") == 1
    assert "one that fails has failed" in caplog.text
    assert not [one for one in threading.enumerate() if one.name.startswith("one that")]
