"""How long an API may keep the observer that asks it."""

from __future__ import annotations

from writebehind.consistency import api, observer


def test_an_api_that_hangs_costs_nobody_the_right_to_observe():
    """However slow its answers are, a look is over before the observer's lease is, with time for other work."""
    assert api.TRIES * api.TIMEOUT_S + observer.WAIT_S < observer.LEASE_MS / 1000
