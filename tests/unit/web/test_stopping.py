"""The web server ends in order, and says nothing of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time

import pytest
from granian.server.mp import MPServer, WorkerProcess

from web.__main__ import Server


@pytest.fixture
def server(monkeypatch):
    """A server with one worker process, which does nothing."""
    monkeypatch.setattr(
        MPServer, "_spawn_worker", lambda parent, **_: WorkerProcess(parent, 0, time.sleep, (600,)), raising=True
    )
    server = Server("nowhere:nothing", workers_kill_timeout=1, serves=lambda: None)
    server.wrks = [server._spawn_worker()]
    yield server
    server.wrks = []


def test_a_worker_that_has_ended_is_not_killed(server, caplog):
    """Also where another thread has seen its end, and `multiprocessing` does not know yet."""
    [worker] = server.wrks
    worker.inner.start()
    worker.terminate()
    os.waitpid(worker.inner.pid, 0)  # as that thread does
    with caplog.at_level(logging.WARNING):
        server._stop_workers()

    assert [] == caplog.messages


def test_a_worker_that_ends_by_the_same_signal_is_none_that_failed(server, caplog):
    """A signal to all processes of a group ends it before it is told to end."""
    [worker] = server.wrks
    worker.inner.start()
    server.signal_handler_interrupt()
    worker.inner.terminate()
    with caplog.at_level(logging.WARNING):
        worker._watcher()

    assert ([], []) == (caplog.messages, server.interrupt_children)


@pytest.mark.parametrize(("end", "goes_on"), [(signal.SIGKILL, True), (signal.SIGTERM, True), (None, False)])
def test_a_worker_that_others_end_soon_after_its_start_is_started_anew(server, end, goes_on):
    """Granian takes one that ends by itself for one that cannot start, and ends all of them."""
    [worker] = server.wrks
    server.respawned_wrks[worker.idx] = time.monotonic()
    worker.inner = multiprocessing.get_context("fork").Process(target=ended_by, args=(end,))
    worker.inner.start()
    worker._watcher()

    assert [worker.idx] == server.interrupt_children
    assert goes_on == (worker.idx not in server.respawned_wrks)


def ended_by(number: int | None) -> None:
    """End, by a signal where there is one."""
    if number is not None:
        os.kill(os.getpid(), number)
        time.sleep(60)
    os._exit(1)
