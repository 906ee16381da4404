"""Divide Redis into another number of partitions. Nothing may be pending, and nobody at work.

Each step is safe to repeat, so that a repartitioning which was interrupted is finished by starting it again. From
its beginning to its end no process takes writes: the record of the number of partitions says that it is changing.
A process that was stopped by force between its look at the record and its write may write all the same. So nothing
is deleted that does not expire anyway, and the new number is recorded only when nothing has become pending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from writebehind.errors import ConfigurationError, WritebehindError
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.keys import Layout, Named, family
from writebehind.redis.shared.load_sample import SAMPLE_EVERY_S
from writebehind.redis.shared.metrics import WORKER_LIFE_MS
from writebehind.redis.shared.partition_count import Division, PartitionCount
from writebehind.redis.store import Store
from writebehind.sequences import slices

#: Keys that are looked at, deleted or carried over in one go.
SLICE = 500
#: How often a process may wait for Redis between a look at the record and the last write that it lets in, besides
#: the life of what it saw: for the answer; for the two round trips of its next look, until which this one counts;
#: and for the write.
_WAITS = 4


class NotDrainedError(WritebehindError):
    """Redis cannot be divided anew as long as it holds what MongoDB does not have."""


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """Outcome of a repartitioning: the numbers of partitions, and how many cached keys were dropped."""

    before: int
    after: int
    dropped: int


def repartition(
    pipeline: Pipeline, after: int, *, report: Callable[[int], None] = lambda _: None
) -> Repartitioned:
    """Change the number of partitions.

    Args:
        pipeline: on the Redis in question; its own number of partitions does not matter.
        after: the new number.
        report: takes how many keys have been dropped so far, from time to time.

    Raises:
        NotDrainedError: something is pending, or dead; or somebody is at work.
        ConfigurationError: another change is not finished.
        RedisUnavailableError: Redis does not answer.
    """
    division = pipeline.store.division
    seen = division.recorded()
    if seen is None:  # nobody has used this Redis yet
        _record(division, None, Division(after))
    if seen is None or seen.fits(after):
        return Repartitioned(after, after, 0)
    if seen.target not in {None, after}:
        seen.check(after)  # which raises, and says which change to finish
    before, moving = seen.partitions, Division(seen.partitions, after)
    old = pipeline.store.divided_into(before)
    _refuse_unless_idle(old)
    _record(division, seen, moving)
    # A process that has looked at the record before acts on it for this long at most.
    time.sleep(SAMPLE_EVERY_S + _WAITS * pipeline.settings.redis_timeout_ms / 1000)
    try:
        _refuse_unless_idle(old)
    except NotDrainedError:
        if seen.target is None:  # nothing has been moved yet
            _record(division, moving, seen)
        raise
    _carry_over(old, after)
    dropped = _drop_documents(old, report)
    _drop_partitions(old, after)
    _refuse_unless_idle(old)
    _record(division, moving, Division(after))
    return Repartitioned(before, after, dropped)


def _record(division: PartitionCount, seen: Division | None, new: Division) -> None:
    if not division.change(seen, new):
        raise ConfigurationError("partitions: somebody else is changing their number: wait for that to end")


def _refuse_unless_idle(store: Store) -> None:
    if workers := store.metrics.workers():
        raise NotDrainedError(
            f"stop the workers first, and the web processes too: {', '.join(workers)} sent a heartbeat "
            f"in the last {WORKER_LIFE_MS // 1000} s"
        )
    outside = store.division.astray(store.partitions)  # first: from there it is brought home
    backlog = store.metrics.backlog()
    if pending := sum(one.pending for one in backlog):
        raise NotDrainedError(
            f"{counted(pending, 'document is', 'documents are')} pending: run `writebehind drain` first"
        )
    if dead := sum(one.dead for one in backlog):
        raise NotDrainedError(
            f"{counted(dead, 'dead letter is', 'dead letters are')} left: replay, or export and discard them first"
        )
    if outside:
        raise NotDrainedError(
            f"documents are pending or dead in partition {outside[0]}, although Redis has "
            f"{counted(store.partitions, 'partition')} only: run `writebehind drain` first"
        )


def _carry_over(old: Store, after: int) -> None:
    """The clock, so that versions never step back, and the deletions that are still to be audited."""
    latest = old.division.latest_version()
    for target in range(after):
        old.deletions.carry_over(target, latest, {})
    for source in range(old.partitions):
        for some in _slices(old.deletions.before(source, 1 << 52, limit=-1)):
            for target, members in Layout(after).grouped(some).items():
                if target != source:
                    deletions = {member: some[member] for member in members}
                    old.deletions.carry_over(target, latest, deletions)
                    old.deletions.forget(source, deletions)


def _drop_documents(store: Store, report: Callable[[int], None]) -> int:
    """Delete the copies of what MongoDB has: nobody would look for them, or worse, in a later division again."""
    dropped, cursor = 0, b"0"
    while True:
        cursor, found = store.scan(cursor, match=family(), count=SLICE)
        dropped += store.division.forget_documents(one for one in map(Named.parse, found) if one is not None)
        report(dropped)
        if cursor == b"0":
            return dropped


def _drop_partitions(old: Store, after: int) -> None:
    """Delete what partitions have without documents; the clock only of those that are no more."""
    for partition in range(old.partitions):
        old.division.forget_partition(partition, clock=partition >= after)


def _slices(deletions: dict[str, int]) -> Iterator[dict[str, int]]:
    for members in slices(list(deletions), SLICE):
        yield {member: deletions[member] for member in members}
