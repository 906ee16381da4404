"""Children of a test's process."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest


class Child:
    """A process that is forked from this one, and calls a function."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._answers, sink = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(sink)
            return
        try:  # from here on in the child, which must not go on with the tests
            answer: tuple[bool, Any] = True, call()
        except BaseException:  # noqa: BLE001 - for the parent to show
            answer = False, traceback.format_exc()
        try:
            with os.fdopen(sink, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)

    def result(self) -> Any:
        """What the function returned. What it raised fails the test."""
        with os.fdopen(self._answers, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(self._pid, 0)
        good, value = pickle.loads(answer) if answer else (False, "it said nothing")  # noqa: S301 - our own
        if not good:
            pytest.fail(f"in a child process: {value}")
        return value


def in_child(call: Callable[[], Any]) -> Any:
    """What a function returns in a process that is forked from this one."""
    return Child(call).result()
