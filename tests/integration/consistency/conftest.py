"""An observer that is stepped by the test, and as much CPU as it likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.consistency import tally
from writebehind.consistency.observer import Observer


@pytest.fixture
def settings(settings) -> Settings:
    values = settings.model_dump() | {"defaults": {}, "consistency_cpu_percent": 100.0}
    values["collections"] = {
        "users": {"flush_delay_ms": 0},
        "slow": {"flush_delay_ms": 60_000},
        "old": {"ttl": 60, "stale_while_revalidate": 30},
    }
    return Settings.model_validate(values)


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    """Nothing is waited for that a test makes at once."""
    monkeypatch.setattr("writebehind.consistency.sources.GRACE_S", 0.05)
    monkeypatch.setattr("writebehind.consistency.observer.POLL_S", 0.05)
    monkeypatch.setattr("writebehind.consistency.sources.LEAST_RATE", 2_000.0)
    monkeypatch.setattr("writebehind.status.KEPT_S", 0)


@contextmanager
def observing(*observers: Observer) -> Iterator[None]:
    """Each in a thread of its own."""
    stop = threading.Event()
    threads = [threading.Thread(target=one.run, args=(stop,)) for one in observers]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        stop.set()
        for one in threads:
            one.join(20)
            assert not one.is_alive()


def step_until(observer: Observer, condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Step it until something holds."""

    def stepped() -> object:
        time.sleep(min(observer.step(), 0.05))
        return condition()

    wait_until(stepped, what, timeout)


@pytest.fixture
def observer(pipeline) -> Iterator[Observer]:
    """One that has seen all there is and hears of changes, when it is asked to settle."""
    one = pipeline.observer()
    yield one
    one.close()


def settle(observer: Observer) -> None:
    """Let it walk over all, twice."""
    walks = observer.walk.count
    step_until(observer, lambda: observer.walk.count >= walks + 2, "two walks")
    assert observer.hears
    assert not len(observer.suspects)


def found(pipeline: Pipeline) -> dict[str, str]:
    """The documents that were wrong for a second, and how."""
    return {one["id"]: one["fault"] for one in figures(pipeline)["inconsistent"]}


def figures(pipeline: Pipeline) -> dict[str, Any]:
    return tally.recorded(pipeline.store)


def counted(pipeline: Pipeline, window: int = 1) -> tuple[int, int]:
    """Looks that are decided, and how many of them were wrong."""
    one = figures(pipeline)["windows"][str(window)]
    return one["looks"], one["wrong"]
