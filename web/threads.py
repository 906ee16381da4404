"""Threads that an event loop has calls carried out in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Turn:
    """The right to decide what becomes of a call: to begin it, or to leave it out. One alone can take it."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        """Nobody has taken it."""
        self._left = [None]

    def take(self) -> bool:
        """Take it; whether nobody else has. Atomic, as `list.pop` is."""
        try:
            self._left.pop()
        except IndexError:
            return False
        return True


_Call = tuple[asyncio.Future[Any], Callable[[], Any], Callable[[], None] | None, Turn]


class Threads:
    """A fixed number of threads, which end with the process. They cost a third of what `run_in_executor` costs."""

    def __init__(self, count: int, name: str, begin: Callable[[], None] = lambda: None) -> None:
        """Start them; each calls `begin` first."""
        self._begin = begin
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        for number in range(count):
            Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    async def run(
        self, call: Callable[[], T], let_go: Callable[[], None] | None = None, turn: Turn | None = None
    ) -> T:
        """Carry out a call when a thread is free. A call that is waited for no longer by then is left out.

        Args:
            call: what to carry out.
            let_go: is called in the event loop once the thread has let go of the call, whoever waits by then.
            turn: the thread begins the call if it can take this. Who has given up waiting learns by taking it
                that the call was not begun, and will not be.

        Raises:
            BaseException: what the call raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call, let_go, turn or Turn()))
        return await future

    def _work(self) -> None:
        self._begin()
        while True:
            future, call, let_go, turn = self._calls.get()
            begins = not future.cancelled() and turn.take()
            outcome = _carry_out(future, call) if begins else None
            del call
            loop = future.get_loop()
            if not loop.is_closed():  # or nobody waits any longer, and the process ends
                loop.call_soon_threadsafe(_settle, future, outcome, let_go)
            del future, outcome, let_go  # nothing is kept until the next one comes


def _carry_out(future: asyncio.Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Carry out a call; the function that tells whoever waits how it went."""
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - for whoever waits
        return partial(future.set_exception, error)
    return partial(future.set_result, result)


def _settle(
    future: asyncio.Future[T], outcome: Callable[[], None] | None, let_go: Callable[[], None] | None
) -> None:
    if let_go is not None:
        let_go()
    if outcome is not None and not future.done():  # or nobody waits any longer
        outcome()
