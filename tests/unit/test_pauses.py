"""Threads of one process that look at pauses at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

from tests.waiting import wait_until
from writebehind.redis.shared import pauses
from writebehind.redis.shared.pauses import ALL, Pauses

THREADS = 8


def test_threads_that_wait_share_an_answer_that_was_asked_for_after_they_came(monkeypatch):
    """While something is paused: one question for all that came during another one, and it sees the end."""
    came, answers, wire = set(), threading.Event(), Mock(now_ms=lambda _key: 0)

    def clock() -> float:
        came.add(threading.get_ident())
        return time.perf_counter()

    def answer(*_command: object) -> list[bytes]:
        found = [ALL.encode(), b"0 -"] if asked.call_count <= 2 else []
        answers.wait(60)
        return found

    asked = wire.call = Mock(side_effect=answer)
    monkeypatch.setattr(pauses, "time", Mock(monotonic=clock))
    one = Pauses(wire)
    answers.set()
    assert one.look()
    answers.clear()
    came.clear()
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            looks = [threads.submit(one.look)]
            wait_until(lambda: asked.call_count == 2, "the first one to ask")
            looks += [threads.submit(one.look) for _ in range(THREADS - 1)]
            wait_until(lambda: len(came) == THREADS, "the others to come")
        finally:
            answers.set()
        found = [bool(look.result()) for look in looks]
    assert [True] + [False] * (THREADS - 1) == found
    assert 3 == asked.call_count
