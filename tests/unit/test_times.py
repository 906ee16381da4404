"""Times as texts."""

from __future__ import annotations

import pytest

from writebehind import times
from writebehind.documents import grammar


def test_a_time_that_is_shown_can_be_read():
    """It is the same to the millisecond, and never later."""
    for seconds in (0.0, 1795718099.1239, 1795718099.999999):
        text = times.shown(seconds)
        assert 0 <= seconds - grammar.date(text).timestamp() < 0.001
    assert "2026-11-26T18:34:59.123Z" == times.shown(1795718099.1239)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, -1e300])
def test_a_time_that_no_calendar_has(seconds):
    """Nothing is shown in its place."""
    assert times.shown(seconds) is None


def test_a_server_that_is_asked_again_at_once_is_not_said_to_wait():
    """A wait that is as good as over says nothing."""
    assert ["", "", ", and nobody asks it for 0.1 s"] == [times.unasked(one) for one in (-0.3, 0.04, 0.06)]
