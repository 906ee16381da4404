"""The file whose age says that a worker, beat or a listener works."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import state

from tasks import beating
from writebehind import alive
from writebehind.alive import AliveFile
from writebehind.celery import work
from writebehind.celery.work import Work


class Touched:
    """Counts how often it is touched."""

    def __init__(self) -> None:
        self.times = 0

    def touch(self) -> None:
        self.times += 1


@pytest.fixture
def now(monkeypatch) -> SimpleNamespace:
    """The time that the worker and the file see."""
    clock = SimpleNamespace(s=1_000.0)
    for module in (alive, work):
        monkeypatch.setattr(module, "monotonic", lambda: clock.s)
    return clock


def test_the_file_is_touched_once_a_second(tmp_path, now):
    """Whoever touches it often writes to the disk seldom."""
    path = tmp_path / "alive"
    file = AliveFile(path)
    file.touch()
    path.unlink()
    now.s += 0.5
    file.touch()
    assert not path.exists()
    now.s += 0.5
    file.touch()
    assert path.exists()


def test_a_file_that_cannot_be_touched_ends_nothing(tmp_path, now, caplog):
    """Its process goes on, and says so once; without a setting there is nothing to touch."""
    file = AliveFile(tmp_path / "missing/alive")
    for _ in range(3):
        file.touch()
        now.s += 2
    AliveFile(None).touch()

    [line] = caplog.messages
    assert "alive_file" in line


def worker(monkeypatch, *, held: tuple[str, ...] = (), size: int = 2, connected: bool = True) -> tuple[Work, Any]:
    """Work of a pool of this size, which holds these tasks and has done none, and what it touches."""
    monkeypatch.setattr(state, "active_requests", [SimpleNamespace(id=one, name="one") for one in held])
    monkeypatch.setattr(state, "all_total_count", [0])
    pool = SimpleNamespace(limit=size)
    consumer = SimpleNamespace(pool=pool, hostname="w@h", task_consumer=SimpleNamespace() if connected else None)

    def refuse() -> None:
        raise ConnectionError

    touched = Touched()
    return Work(consumer, SimpleNamespace(), refuse, lambda _: None, touched), touched


def test_a_worker_lives_while_its_pool_does_something(monkeypatch, now):
    """A task that has begun is proof for a while, also where Redis does not answer; then the file gets old."""
    one, touched = worker(monkeypatch)
    one.once()
    assert touched.times == 0
    state.all_total_count[0] += 1
    one.once()
    assert touched.times == 1
    now.s += work.PROVEN_FOR_S + 1
    one.once()
    assert touched.times == 1


@pytest.mark.parametrize(
    ("held", "connected", "times"),
    [((), True, 0), (("a",), True, 0), (("a", "b"), True, 1), ((), False, 1)],
    ids=["idle", "one place left", "full", "without a broker"],
)
def test_a_worker_lives_where_a_new_one_would_be_no_better(monkeypatch, now, held, connected, times):
    """A full pool, and one that waits for the broker, are no reason to start another; silence without one is."""
    one, touched = worker(monkeypatch, held=held, connected=connected)
    now.s += work.PROVEN_FOR_S + 1
    one._look()  # the tasks were begun long ago
    one._begun, one._proven_at = 0, None

    one.once()

    assert times == touched.times


def test_a_broker_that_takes_no_ping_excuses(monkeypatch, now):
    """For as long as it may take until the next ping is tried."""
    one, touched = worker(monkeypatch)
    one.excuse()
    now.s += work.EXCUSED_FOR_S - 1
    one.once()
    assert touched.times == 1
    now.s += 2
    one.once()
    assert touched.times == 1


def test_a_worker_that_ends_lives(monkeypatch, now):
    """It may take its time for the batch that it has."""
    one, touched = worker(monkeypatch)
    one.is_ending = True
    one.once()
    assert touched.times == 1


def test_beat_touches_its_file_in_each_round(tmp_path, monkeypatch):
    """And has a round so often that the file never gets old, however rarely a task is due."""
    path = tmp_path / "alive"
    process = SimpleNamespace(runtime=SimpleNamespace(settings=SimpleNamespace(alive_file=path)))
    monkeypatch.setitem(sys.modules, "tasks.celery", process)
    app = Celery(set_as_current=False, broker="memory://")
    app.conf.beat_schedule = {"rare": {"task": "rare", "schedule": 86_400}}
    scheduler = beating.Scheduler(app=app)

    pause_s = scheduler.tick()

    assert path.exists()
    assert 0 < pause_s <= beating.ROUND_EVERY_S < alive.OLD_AFTER_S
