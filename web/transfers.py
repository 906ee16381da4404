"""Bodies and answers on their way between clients and the application: their time limits and their memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable

from web.threads import Threads, Turn

T = TypeVar("T")

#: What a client must send or take in a second, on the average, once its first patience is used up, bytes.
LEAST_RATE = 64 << 10
#: Bodies and answers up to this many bytes count nothing: there is always room for them.
SMALL = 16 << 10
#: Who has not moved for this long makes way for others when memory is short, seconds.
STALLED_S = 1.0
#: How often deadlines are looked at, seconds: one timer for all costs less than one for each wait.
RESOLUTION_S = 0.1


class NotBegunError(TimeoutError):
    """The time is over before a thread has begun the work, which none will."""


class Transfer:
    """A request on its way: the body that a client sends, the work, the answer that it takes."""

    __slots__ = ("at_work", "deadline", "expired", "given_up", "held", "moved_at", "task")

    def __init__(self, patience_s: float) -> None:
        """Begin with this much patience."""
        self.held = 0
        self.expired = False
        #: Whether its client waits for us; and whether its connection was closed to make room for others.
        self.at_work = self.given_up = False
        self.task: asyncio.Task[object] | None = None
        self.renew(patience_s)

    def renew(self, patience_s: float) -> None:
        """Begin a part of the way with so much patience."""
        self.moved_at = monotonic()
        self.deadline = self.moved_at + patience_s

    def moved(self, size: int) -> None:
        """Note that the client has sent or taken so many bytes, which earns it time; a few earn little."""
        earned = size / LEAST_RATE
        self.moved_at = min(monotonic(), self.moved_at + earned)
        self.deadline += earned

    def expire(self) -> None:
        """Wait no longer."""
        self.expired = True
        if self.task is not None:
            self.task.cancel()


class Transfers:
    """The transfers of a process, and the memory that they share. All calls are made in one event loop."""

    def __init__(self, patience_s: float, most_bytes: int) -> None:
        """Let each part of a transfer have this much patience, and all transfers this much memory."""
        self._patience_s = patience_s
        self._left = self._most_bytes = most_bytes
        self._holding: set[Transfer] = set()
        self._waiting: set[Transfer] = set()
        self._watched = False

    def begin(self) -> Transfer:
        """A transfer, for `end` to end."""
        return Transfer(self._patience_s)

    def renew(self, transfer: Transfer) -> None:
        """Let a transfer begin another part."""
        transfer.renew(self._patience_s)

    async def wait(self, transfer: Transfer, step: Awaitable[T]) -> T:
        """Wait for a step of a transfer.

        Raises:
            TimeoutError: it has used up its time, or its client stood still while others needed the memory.
        """
        transfer.task = task = asyncio.current_task()
        self._waiting.add(transfer)
        if not self._watched:
            self._watch()
        try:
            return await step
        except asyncio.CancelledError:
            if transfer.expired and task is not None and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            transfer.task = None
            self._waiting.discard(transfer)

    async def work(self, transfer: Transfer, step: Awaitable[T]) -> T:
        """Wait for a step that is not the client's: nobody makes it give way. Raises as `wait`."""
        transfer.at_work = True
        try:
            return await self.wait(transfer, step)
        finally:
            transfer.at_work = False

    async def carry_out(self, transfer: Transfer, threads: Threads, call: Callable[[], T]) -> T:
        """Wait for the work of a transfer, for which its client is not to blame: nobody makes it give way.

        The work has the memory of the transfer until its thread is done, though nobody may wait for it by then.

        Raises:
            NotBegunError: it has used up its time, and nothing was done.
            TimeoutError: it has used up its time.
            BaseException: what the call raises.
        """
        turn = Turn()
        size, transfer.held = transfer.held, 0
        self._holding.discard(transfer)
        transfer.at_work = True
        try:
            let_go = partial(self._give_back, size) if size else None
            return await self.wait(transfer, threads.run(call, let_go, turn))
        except TimeoutError:
            if turn.take():
                raise NotBegunError from None
            raise
        finally:
            transfer.at_work = False

    def hold(self, transfer: Transfer, size: int) -> None:
        """Let a transfer have so many bytes in memory, in the place of what it had.

        Raises:
            RequestEntityTooLarge: there is never room for so much.
            ServiceUnavailable: there is no room, and nobody stands still.
        """
        if size > self._most_bytes:
            raise RequestEntityTooLarge(
                f"the answer would have {size} bytes, and {self._most_bytes} are the most that this server "
                "shows at once: read the document from MongoDB, or make it smaller there"
            )
        self.end(transfer)
        if size <= SMALL:
            return
        while size > self._left and (stalled := self._stalled()):
            self.end(stalled)
            stalled.expire()
        if size > self._left:
            raise ServiceUnavailable("too much is on its way to and from other clients: try again", retry_after=1)
        transfer.held = size
        self._left -= size
        self._holding.add(transfer)

    def end(self, transfer: Transfer) -> None:
        """Let a transfer hold nothing."""
        if transfer.held:
            self._give_back(transfer.held)
            transfer.held = 0
            self._holding.discard(transfer)

    def _give_back(self, size: int) -> None:
        self._left += size

    def _stalled(self) -> Transfer | None:
        """Whoever's client has been waited for longest."""
        before = monotonic() - STALLED_S
        still = (one for one in self._holding & self._waiting if one.moved_at < before and not one.expired)
        return min(still, key=lambda one: one.moved_at, default=None)

    def _watch(self) -> None:
        """Look at the deadlines, now and as long as anybody waits."""
        now = monotonic()
        for one in self._waiting:
            if one.deadline < now and not one.expired:
                one.expire()
        self._watched = bool(self._waiting)
        if self._watched:
            asyncio.get_running_loop().call_later(RESOLUTION_S, self._watch)
