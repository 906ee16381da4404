"""Hints that may be lost: of which partitions, until a worker has sent others in their place.

A hint is lost with the connection of the worker that has taken it, with the worker, and with a flush task that
Redis does not answer. Its ticket stands all the same, and keeps everybody from sending another one: the sweep
finds what waits there when that has run out, after 10 to 15 s. The worker knows sooner, as it was there.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from writebehind.celery.names import FLUSH_QUEUE
from writebehind.errors import RedisUnavailableError
from writebehind.redis.keys import MOST_PARTITIONS

#: For so long hints are sent at once, seconds: a server that hangs holds up each of its partitions.
SENDS_FOR_S: Final = 2.0


class LostHints:
    """Partitions whose hint may be lost. Safe to share between threads, and with processes that are forked later.

    Flush tasks of a `prefork` pool run in children, and a thread of their parent replaces what they have lost.
    """

    def __init__(self) -> None:
        """Know of none."""
        self._consuming: Any = None
        self._noted = mmap.mmap(-1, MOST_PARTITIONS)  # a byte for each, in memory that forks share
        self._turn = 0  # the partition that is seen to first

    def note(self, *partitions: int) -> None:
        """Note that the hints of some partitions may be lost; without any, those of all."""
        for partition in partitions or range(MOST_PARTITIONS):
            self._noted[partition] = 1

    def look_at(self, consumer: Any) -> bool:
        """Note what a worker has lost whose consumer has another connection than before; whether it takes hints.

        One that has just started may be in the place of one that was killed.
        """
        consuming = getattr(consumer, "task_consumer", None)
        if not consuming or not consuming.consuming_from(FLUSH_QUEUE):
            return False
        if consuming is not self._consuming:
            self._consuming = consuming
            self.note()
        return True

    def replace(self, partitions: Iterable[int], hand_over: Callable[[Iterable[int]], object]) -> None:
        """Send hints in the place of those that may be lost, as far as Redis answers; the next call goes on.

        A partition whose hint is not sent stays noted, whatever the reason.

        Args:
            partitions: all that are in use.
            hand_over: sends hints of partitions, with tickets that overtake those before them.

        Raises:
            RedisUnavailableError: Redis does not answer, or a server of several.
        """
        noted = [partition for partition in partitions if self._noted[partition]]
        until, failure = time.monotonic() + SENDS_FOR_S, None
        for partition in sorted(noted, key=lambda one: one < self._turn):
            if time.monotonic() >= until:
                break
            self._turn = partition + 1  # the others come first then: they may be on a server that answers
            self._noted[partition] = 0  # before it is sent: what is lost from now on is noted anew
            try:
                hand_over([partition])
            except BaseException as error:
                self.note(partition)
                if not isinstance(error, RedisUnavailableError):
                    raise
                failure = error
            else:
                if self._noted[partition]:  # the broker has not taken it
                    break
        if failure is not None:
            raise failure
