"""Places of threads that wait for MongoDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Self

import pytest

from tests.waiting import slowness, wait_until
from writebehind.errors import MongoBusyError
from writebehind.mongodb.waiting import PATIENCE_S, Places, wait_in, waits


class Held:
    """Threads that hold a place each, until the end of the block."""

    def __init__(self, places: Places, count: int) -> None:
        self._places, self._count = places, count
        self._over = threading.Event()
        self._inside = threading.Semaphore(0)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._count, initializer=wait_in, initargs=(self._places,))
        self._held = [self._pool.submit(self._hold) for _ in range(self._count)]
        for _ in range(self._count):
            assert self._inside.acquire(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._held:
            one.result()
        self._pool.shutdown()

    def _hold(self) -> None:
        with waits():
            self._inside.release()
            self._over.wait(20)


def elsewhere(places: Places, call: Callable[[], object]) -> object:
    """What a call in a thread returns that has to wait in these places."""
    with ThreadPoolExecutor(1, initializer=wait_in, initargs=(places,)) as pool:
        return pool.submit(call).result(20)


def try_to_wait() -> float | None:
    """How long it took to be refused, seconds; `None` for a place."""
    began = time.monotonic()
    try:
        with waits():
            return None
    except MongoBusyError:
        return time.monotonic() - began


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (64, 48)])
def test_some_threads_never_wait(threads, count):
    """A quarter of them, and one at least where there are several."""
    places = Places.among(threads)

    with Held(places, count):
        assert elsewhere(places, try_to_wait) is not None


def test_nobody_waits_where_nobody_moves():
    """Whoever comes soon after the last one waits for a moment; whoever comes later is refused at once."""
    places = Places(1)

    with Held(places, 1):
        slow = slowness()
        first, second = elsewhere(places, try_to_wait), elsewhere(places, try_to_wait)

    assert first <= PATIENCE_S * slow * 2
    assert second < PATIENCE_S / 2 * slow
    assert elsewhere(places, try_to_wait) is None


def test_a_place_that_becomes_free_is_taken():
    """By who waits for it, while others come and go."""
    places = Places(2)

    with ExitStack() as stack:
        stack.enter_context(Held(places, 1))
        moving = stack.enter_context(ExitStack())
        moving.enter_context(Held(places, 1))
        with ThreadPoolExecutor(1, initializer=wait_in, initargs=(places,)) as pool:
            waiting_one = pool.submit(try_to_wait)
            moving.close()
            assert waiting_one.result(10) is None


def test_a_thread_has_one_place():
    """What it does while it waits takes no other, and each is left again, whatever is raised."""
    places = Places(1)

    def nested() -> float | None:
        for _ in range(3):
            with suppress(ZeroDivisionError), waits(), waits():
                assert try_to_wait() is None
                raise ZeroDivisionError
        return try_to_wait()

    assert elsewhere(places, nested) is None
    assert elsewhere(places, try_to_wait) is None


def test_who_serves_nobody_waits_as_he_likes():
    """A thread without places is never refused: this one, in a task or in the library."""
    with waits(), waits():
        wait_until(lambda: try_to_wait() is None, "no refusal", 1)
