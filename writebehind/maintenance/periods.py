"""Periods of periodic tasks: for the schedule of beat, and for whoever looks whether one is missing."""

from __future__ import annotations

from writebehind.flushing.deletion_audit import AUDIT
from writebehind.reconcile.reconciler import RECONCILE
from writebehind.redis.shared.metrics import SWEEP
from writebehind.settings.installation import Settings
from writebehind.warming.hot_keys import DECAY, DECAYS_IN_HALF_LIFE
from writebehind.warming.warmer import WARM


def periods(settings: Settings) -> dict[str, float]:
    """The time from one run of each periodic task to the next, by the name of its runs, seconds."""
    return {
        SWEEP: settings.sweep_interval,
        AUDIT: settings.sweep_interval,  # at the end of each sweep
        RECONCILE: settings.reconcile_interval,
        DECAY: settings.hot_half_life / DECAYS_IN_HALF_LIFE,
        WARM: settings.warm_interval,
    }
