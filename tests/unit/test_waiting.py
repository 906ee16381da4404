"""Waiting in tests: a busy machine gets more time, and what never comes is a failure all the same."""

from __future__ import annotations

import pytest

from tests import waiting


def test_a_busy_machine_gets_more_time(monkeypatch):
    """What would be too late on a machine of its own is waited for as much longer as work takes."""
    monkeypatch.setattr(waiting, "slowness", lambda: 1_000.0)
    asked = iter([False] * 5 + [True])

    assert waiting.wait_until(lambda: next(asked), "the last answer", 0.001)


def test_what_never_comes_is_a_failure(monkeypatch):
    """Where nothing else runs, the wait ends at its time, and says what it waited for and what it saw."""
    monkeypatch.setattr(waiting, "slowness", lambda: 1.0)

    with pytest.raises(pytest.fail.Exception, match=r"timed out after 0\.01 s waiting for a yes: .* \[\]"):
        waiting.wait_until(list, "a yes", 0.01)


def test_work_takes_no_less_time_than_on_a_core_of_its_own():
    """No bound gets tighter than it says."""
    assert waiting.slowness() >= 1
