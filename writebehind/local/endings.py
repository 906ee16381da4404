"""Ends of processes, in words."""

from __future__ import annotations

import signal
from typing import Final

#: A shell tells of a signal by its number and this.
_OF_SHELL: Final = 128
_SIGBUS: Final = (
    " (a file that it had mapped was cut off, or the disk has failed: see who changes files in "
    "WRITEBEHIND_METRICS_DIR)"
)


def ended(status: int) -> str:
    """An exit status, negative for a signal: `ended with 3`, `was ended by SIGKILL`."""
    number = -status if status < 0 else status - _OF_SHELL
    try:
        name = signal.Signals(number).name
    except ValueError:  # of real time, between the first and the last, or none
        return f"ended with {status}"
    return f"was ended by {name}{_SIGBUS if number == signal.SIGBUS else ''}"
