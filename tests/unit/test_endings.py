"""Ends of processes, in words."""

from __future__ import annotations

import pytest

from writebehind.local.endings import ended


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "ended with 0"),
        (3, "ended with 3"),
        (-9, "was ended by SIGKILL"),
        (137, "was ended by SIGKILL"),
        (128, "ended with 128"),
        (255, "ended with 255"),
        (-40, "ended with -40"),
    ],
)
def test_an_exit_status(status, said):
    """A signal is told by its name, also where a shell has told of it."""
    assert said == ended(status)


@pytest.mark.parametrize("status", [-7, 135])
def test_what_to_look_at_after_a_bus_error(status):
    """It says nothing by itself: a file that was mapped has lost its end."""
    assert "SIGBUS (a file" in ended(status)
    assert "WRITEBEHIND_METRICS_DIR" in ended(status)
