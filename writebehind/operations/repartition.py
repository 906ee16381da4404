"""Divide Redis into another number of partitions. Nothing may be pending, and nobody at work.

Each step is safe to repeat, so that a repartitioning which was interrupted is finished by starting it again. From
its beginning to its end no process takes writes: the record of the number of partitions says that it is changing.
A process that was stopped by force between its look at the record and its write may write all the same. So nothing
is deleted that does not expire anyway, and the new number is recorded only when nothing has become pending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from writebehind.errors import ConfigurationError
from writebehind.operations.idle import (
    SLICE,
    NotDrainedError,
    drop_documents,
    refuse_unless_idle,
    wait_for_forgotten,
)
from writebehind.pipeline import Pipeline
from writebehind.redis.keys import Layout
from writebehind.redis.shared.partition_count import Division, PartitionCount
from writebehind.redis.store import Store
from writebehind.sequences import slices


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
        MoveError: replicas of Redis do not confirm that it is being changed.
        ConfigurationError: another change is not finished; or Redis belongs to another MongoDB database.
        RedisUnavailableError: Redis does not answer.
    """
    pipeline.store.check_owner()
    division = pipeline.store.division
    seen = division.first(Division(after))  # also where nobody has used this Redis yet
    if seen.fits(after):
        return Repartitioned(after, after, 0)
    if seen.target not in {None, after}:
        seen.check(after)  # which raises, and says which change to finish
    before, moving = seen.partitions, Division(seen.partitions, after)
    old = pipeline.store.divided_into(before)
    refuse_unless_idle(old)
    _record(division, seen, moving)
    wait_for_forgotten(pipeline)
    try:
        refuse_unless_idle(old)
    except NotDrainedError:
        if seen.target is None:  # nothing has been moved yet
            _record(division, moving, seen)
        raise
    division.remember_most(before)
    pipeline.store.assigned.record(max(before, after))
    _carry_over(old, after)
    dropped = drop_documents(old, report)
    _drop_partitions(old, after)
    refuse_unless_idle(old)
    _record(division, moving, Division(after))
    return Repartitioned(before, after, dropped)


def _record(division: PartitionCount, seen: Division, new: Division) -> None:
    if not division.change(seen, new):
        raise ConfigurationError("partitions: somebody else is changing their number: wait for that to end")
    division.see_confirmed()


def _carry_over(old: Store, after: int) -> None:
    """The clock, so that versions never step back, the deletions that are still to be audited, and receipts."""
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
        old.receipts.carry_over(source, Layout(after))


def _drop_partitions(old: Store, after: int) -> None:
    """Delete what partitions have without documents; the clock only of those that are no more."""
    for partition in range(old.partitions):
        old.division.forget_partition(partition, clock=partition >= after)


def _slices(deletions: dict[str, int]) -> Iterator[dict[str, int]]:
    for members in slices(list(deletions), SLICE):
        yield {member: deletions[member] for member in members}
