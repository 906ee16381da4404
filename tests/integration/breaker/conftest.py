"""Processes that use MongoDB behind one breaker."""

from __future__ import annotations

import pytest

from tests.integration.breaker.processes import Process
from writebehind.mongodb import breaker as breaker_module


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_MS", 100)
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 300)
    monkeypatch.setattr(breaker_module, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def long_intervals(monkeypatch):
    """Intervals that are over when the test says so, however slow the machine is."""
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_MS", 60_000)
    monkeypatch.setattr(breaker_module, "LONGEST_INTERVAL_MS", 240_000)


@pytest.fixture
def one(wire) -> Process:
    return Process(wire)


@pytest.fixture
def other(wire) -> Process:
    return Process(wire)
