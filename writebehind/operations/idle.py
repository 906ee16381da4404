"""Conditions of a change of the installation's records: nothing is pending or dead, and nobody at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from writebehind.errors import WritebehindError
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.keys import Named, family
from writebehind.redis.shared.load_sample import MOST_TIMES, SAMPLE_EVERY_S
from writebehind.redis.shared.workers import WORKER_LIFE_MS
from writebehind.redis.store import Store

#: Keys that are looked at, deleted or carried over in one go.
SLICE = 500
#: How often a process may wait for Redis between a look at the record and the last write that it lets in, besides
#: the life of what it saw: for the answer; for the two round trips of its next look, until which this one counts;
#: and for the write.
_WAITS = 4


class NotDrainedError(WritebehindError):
    """Redis cannot be divided anew, or moved, as long as it holds what MongoDB does not have."""


@dataclass(frozen=True, slots=True)
class Left:
    """Documents that MongoDB does not have: those that are pending, and dead letters."""

    pending: int
    dead: int

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.pending or self.dead)


def refuse_if_workers(store: Store) -> None:
    """See that no worker is at work, and that none holds a task.

    Raises:
        NotDrainedError: one is, or does.
        RedisUnavailableError: Redis does not answer.
    """
    crew = store.workers.look()
    stopped = {one.worker for one in crew.silent if one.is_stopped}  # which may go on at any time
    if workers := sorted({*crew.alive, *crew.holding, *stopped}):
        raise NotDrainedError(
            f"stop the workers first, and the web processes too: {', '.join(workers)} did something, or held a "
            f"task, in the last {WORKER_LIFE_MS // 1000} s, or can at any time"
        )


def left(store: Store) -> Left:
    """Count the documents that MongoDB does not have.

    Raises:
        NotDrainedError: there are some where nobody looks for them.
        RedisUnavailableError: Redis does not answer.
    """
    outside = store.division.astray(store.partitions)  # first: from there it is brought home
    backlog = store.metrics.backlog()
    found = Left(sum(one.pending for one in backlog), sum(one.dead for one in backlog))
    if outside and not found:
        raise NotDrainedError(
            f"documents are pending or dead in partition {outside[0]}, although Redis has "
            f"{counted(store.partitions, 'partition')} only: run `writebehind drain` first"
        )
    return found


def refuse_unless_idle(store: Store) -> None:
    """See that no worker is alive, and that MongoDB has everything. Raises as `refuse_if_workers`."""
    refuse_if_workers(store)
    found = left(store)
    if found.pending:
        raise NotDrainedError(
            f"{counted(found.pending, 'document is', 'documents are')} pending: run `writebehind drain` first"
        )
    if found.dead:
        raise NotDrainedError(
            f"{counted(found.dead, 'dead letter is', 'dead letters are')} left: replay, or export and discard "
            "them first"
        )


def wait_for_forgotten(pipeline: Pipeline) -> None:
    """Wait until no process acts any more on a record that it has looked at before it was changed."""
    times = MOST_TIMES if pipeline.store.has_several else 1
    time.sleep(forgotten_after_s(pipeline, SAMPLE_EVERY_S * times))


def forgotten_after_s(pipeline: Pipeline, look_every_s: float) -> float:
    """After how long nobody acts any more on a record that each process looks at so often, seconds."""
    return look_every_s + _WAITS * pipeline.settings.redis_timeout_ms / 1000


def drop_documents(store: Store, report: Callable[[int], None]) -> int:
    """Delete the copies of what MongoDB has: nobody would look for them, or worse, later again; how many."""
    dropped, cursor = 0, b"0"
    while True:
        cursor, found = store.scan(cursor, match=family(), count=SLICE)
        dropped += store.division.forget_documents(one for one in map(Named.parse, found) if one is not None)
        report(dropped)
        if cursor == b"0":
            return dropped
