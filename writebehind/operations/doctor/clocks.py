"""Clocks that should show one time: this machine's, and those of servers."""

from __future__ import annotations

import time

from writebehind.operations.doctor.findings import Finding, ok, warning
from writebehind.pipeline import Pipeline

#: Difference from which clocks are worth a warning, s.
CLOCK_WARNING_S = 2.0


def behind_s(told_ms: float, before_ms: float, after_ms: float) -> float:
    """The time by which one clock is behind another, s; negative where it is ahead.

    The first has told its time while the other one went from `before_ms` to `after_ms`. Any time in between is
    no difference: a machine that stands still between two questions sets no clock.
    """
    return (max(0.0, before_ms - told_ms) + min(0.0, after_ms - told_ms)) / 1000


def ahead_s(pipeline: Pipeline) -> dict[str, float]:
    """The time by which the clock of each server is ahead of this machine's, s."""
    before = time.time()
    clocks = pipeline.store.clocks_ms()
    after = time.time()
    return {server: -behind_s(now_ms, before * 1000, after * 1000) for server, now_ms in clocks.items()}


def clock(ahead_s: float) -> Finding:
    """Shows the same time as this machine's."""
    found = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} this machine's"
    if abs(ahead_s) > CLOCK_WARNING_S:
        advice = (
            "synchronise both: nothing is lost, as versions are of Redis's alone, but ages that you see are wrong"
        )
        return warning("redis clock", found, advice)
    return ok("redis clock", found)
