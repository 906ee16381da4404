"""The one place where tests wait, and learn how long that may take on a machine that has more to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

FIRST_STEP_S = 0.005
LONGEST_STEP_S = 0.25
#: CPU that is used to find out how much of a core there is for a process, seconds.
SAMPLE_S = 0.05


def wait_until(
    condition: Callable[[], T], what: str, timeout: float = 10, longest_step: float = LONGEST_STEP_S
) -> T:
    """Call `condition` until it is true, in steps that grow to `longest_step` seconds, and return its value.

    What it raises counts as "not yet". After `timeout` seconds, on a busy machine many times that, the test fails
    and says what it waited for.
    """
    began = time.monotonic()
    deadline = began + timeout
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
            deadline = began + timeout * slowness()
            if time.monotonic() >= deadline:
                pytest.fail(f"timed out after {timeout:g} s waiting for {what}: {last}")
        threading.Event().wait(step)
        step = min(step * 1.5, longest_step)


def slowness() -> float:
    """How many times longer than on a core of its own this process takes for its work at the moment; 1 at least.

    Bounds on durations are multiplied by it, so that they tell a fault from a busy machine. Called while nothing
    else runs in this process.
    """
    began, cpu = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - cpu) < SAMPLE_S:
        pass
    return max(1.0, (time.monotonic() - began) / used)
