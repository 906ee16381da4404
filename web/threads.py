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

_Call = tuple[asyncio.Future[Any], Callable[[], Any], Callable[[], None] | None]


class Threads:
    """A fixed number of threads, which end with the process. They cost a third of what `run_in_executor` costs."""

    def __init__(self, count: int, name: str, begin: Callable[[], None] = lambda: None) -> None:
        """Start them; each calls `begin` first."""
        self._begin = begin
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        for number in range(count):
            Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    async def run(self, call: Callable[[], T], let_go: Callable[[], None] | None = None) -> T:
        """Carry out a call when a thread is free. A call that is waited for no longer by then is left out.

        Args:
            call: what to carry out.
            let_go: is called in the event loop once the thread has let go of the call, whoever waits by then.

        Raises:
            BaseException: what the call raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call, let_go))
        return await future

    def _work(self) -> None:
        self._begin()
        while True:
            future, call, let_go = self._calls.get()
            outcome = None if future.cancelled() else _carry_out(future, call)
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
