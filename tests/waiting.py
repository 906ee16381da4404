"""The one place where tests wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

FIRST_STEP_S = 0.005
LONGEST_STEP_S = 0.25


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10) -> T:
    """Call `condition` until it is true, in growing steps, and return its value.

    What it raises counts as "not yet". After `timeout` seconds the test fails and says what it waited for.
    """
    deadline = time.monotonic() + timeout
    step = FIRST_STEP_S
    while True:
        try:
            value = condition()
            last = f"the last value was {value!r}"
        except Exception as error:  # noqa: BLE001 - a server that is starting refuses in many ways
            value, last = None, f"the last try raised {error!r}"
        if value:
            return value
        if time.monotonic() >= deadline:
            pytest.fail(f"timed out after {timeout:g} s waiting for {what}: {last}")
        threading.Event().wait(step)
        step = min(step * 1.5, LONGEST_STEP_S)
