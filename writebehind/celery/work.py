"""Facts about the work of a worker, told to Redis by a thread of its main process: what proves it, what it holds.

Celery notes there what its pool begins and ends, of whatever kind it is. So no task writes anything for this, or
waits for it, and a call by `task.apply()` is none. The thread goes on while the pool has no place left, and while
`solo` runs a task in place of the consumer. Who stops the process stops the thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from celery.worker import state

from writebehind.alive import AliveFile
from writebehind.celery.names import PING, QUEUES
from writebehind.celery.pings import MOST_S
from writebehind.redis.shared.workers import WORKER_LIFE_MS, Workers

#: Between two looks at what the pool does, seconds.
LOOK_EVERY_S: Final = 1.0
#: Proof counts for so long; and that the broker was away, for longer than until it is asked again, seconds.
PROVEN_FOR_S: Final = WORKER_LIFE_MS / 1000
EXCUSED_FOR_S: Final = 1.5 * MOST_S
#: For so long the end of the thread is waited for, seconds.
_ENDS_WITHIN_S: Final = 5.0


class Work:
    """Work of one worker's pool. One thread looks, others ask."""

    def __init__(
        self,
        consumer: Any,
        workers: Workers,
        check: Callable[[], None],
        note: Callable[[Exception], None],
        alive: AliveFile,
    ) -> None:
        """Look at the pool of a consumer.

        Args:
            consumer: Celery's.
            workers: is told of what is seen.
            check: is called before it is told; it raises what forbids that.
            note: logs why nothing could be told.
            alive: is touched while the pool works, or cannot prove it for a reason that stays for a new process.
        """
        self._alive = alive
        self._consumer = consumer
        self._workers = workers
        self._check = check
        self._note = note
        self._begun = 0
        self._held: dict[str, float] = {}
        self._is_told_held = False
        self._is_proof_told = True
        self._proven_at: float | None = None
        self._excused_at: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writebehind-work", daemon=True)
        #: Whether the worker only waits for the tasks that it holds, and takes no other.
        self.is_ending = False

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Tell nothing any more."""
        self._ended.set()
        self._thread.join(_ENDS_WITHIN_S)

    def proven_ago(self) -> float | None:
        """The time since it was last proven that the pool works, seconds; `None` for never."""
        return None if self._proven_at is None else monotonic() - self._proven_at

    def is_full(self) -> bool:
        """Whether the pool has no place left for a task."""
        return len(self._held) >= _size(self._consumer.pool)

    def excuse(self) -> None:
        """Note that the broker does not take what would prove that the pool works."""
        self._excused_at = monotonic()

    def _is_fine(self) -> bool:
        """Whether a new process in the place of this one would be no better."""
        proven_s = self.proven_ago()
        return (
            (proven_s is not None and proven_s < PROVEN_FOR_S)
            or self.is_ending
            or not getattr(self._consumer, "task_consumer", None)  # it waits for the broker
            or (self._excused_at is not None and monotonic() - self._excused_at < EXCUSED_FOR_S)
            or self.is_full()
        )

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.once()

    def once(self) -> None:
        """See what the pool does, and tell of it if Redis takes it."""
        self._look()
        if self._is_fine():
            self._alive.touch()
        try:
            self._check()
            self._tell()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may find it gone
            self._note(error)

    def _look(self) -> None:
        """See what the pool has begun and ended."""
        begun, now, before = state.all_total_count[0], monotonic(), self._held
        self._held = {one: before.get(one, now) for one in _active()}
        if begun != self._begun or before.keys() - self._held.keys():
            self._begun, self._proven_at, self._is_proof_told = begun, now, False

    def _tell(self) -> None:
        """Tell of what was seen.

        Raises:
            UnavailableError: Redis does not answer.
        """
        name, queues = self._consumer.hostname, self._consumed()
        if not self._is_proof_told:
            self._workers.record_proof(name, queues)
            self._is_proof_told = True
        if self._held:
            is_full = self.is_full() or self.is_ending
            full_s = monotonic() - max(self._held.values()) if is_full else None
            self._is_told_held = True
            self._workers.record_held(name, full_s=full_s)
            if is_full:  # it consumes no less for this
                self._workers.record_consumed(name, queues)
        elif self._is_told_held:
            self._workers.record_free(name)
            self._is_told_held = False

    def _consumed(self) -> list[str]:
        """The queues of ours that the worker consumes now; none while it has no connection."""
        consuming = getattr(self._consumer, "task_consumer", None)
        return [queue for queue in QUEUES if consuming.consuming_from(queue)] if consuming else []


def _active() -> list[str]:
    """The ids of the tasks that the pool has begun and not ended; without pings."""
    while True:
        try:
            return [one.id for one in list(state.active_requests) if one.name != PING]
        except RuntimeError:  # the pool has begun or ended one meanwhile
            continue


def _size(pool: Any) -> int:
    """So many tasks a pool can do at a time. A pool of processes may have grown or shrunk."""
    size: int = getattr(getattr(pool, "_pool", None), "_processes", None) or pool.limit or 1
    return size
