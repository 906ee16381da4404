"""Let a Redis belong to another MongoDB database. Nothing should be pending, and nobody may be at work.

From its beginning to its end no process reads or writes in this Redis: the record says that it is being moved.
Each step is safe to repeat, so that a move which was interrupted is finished, or undone, by starting it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from writebehind.errors import ConfigurationError
from writebehind.operations.idle import (
    Left,
    NotDrainedError,
    drop_documents,
    left,
    refuse_if_workers,
    refuse_unless_idle,
    wait_for_forgotten,
)
from writebehind.pipeline import Pipeline
from writebehind.redis.shared.owner import Owner
from writebehind.redis.store import Store


@dataclass(frozen=True, slots=True)
class Adopted:
    """Outcome of a move.

    Attributes:
        before: the database that Redis belonged to.
        after: the one that it belongs to now.
        dropped: how many cached keys were dropped.
        pending: documents that were pending for the old database, and go to the new one.
        dead_letters: its dead letters, which do the same when they are replayed.
    """

    before: str
    after: str
    dropped: int = 0
    pending: int = 0
    dead_letters: int = 0


def adopt(pipeline: Pipeline, *, force: bool = False, report: Callable[[int], None] = lambda _: None) -> Adopted:
    """Let Redis belong to the database of the settings.

    Args:
        pipeline: with these settings.
        force: also where something is pending or dead, which then goes to the new database.
        report: takes how many keys have been dropped so far, from time to time.

    Raises:
        NotDrainedError: a worker is alive; or, without `force`, something is pending or dead.
        ConfigurationError: somebody else moves this Redis at the same time, or its partitions are being changed.
        RedisUnavailableError: Redis does not answer.
    """
    store, after = pipeline.store, pipeline.store.database
    record = store.owner
    seen = record.first(Owner(after))
    before = seen.database
    if seen.fits(after):
        return Adopted(after, after)
    if before == after:  # a move away from it was interrupted, and nobody has written since
        store.assigned.own(anew=True)
        _record(store, seen, Owner(after))
        return Adopted(after, after)
    store = _as_divided(store)
    _see_free(store, force=force)
    moving = Owner(before, after)
    _record(store, seen, moving)
    wait_for_forgotten(pipeline)
    try:
        _see_free(store, force=force)
    except NotDrainedError:
        if seen.target is None:  # nothing has been dropped yet
            _record(store, moving, seen)
        raise
    dropped = drop_documents(store, report)
    for partition in range(store.partitions):
        store.deletions.forget_all(partition)
        store.receipts.forget_all(partition)
    store.position.forget()
    found = _see_free(store, force=force)
    store.assigned.own(anew=True)
    _record(store, moving, Owner(after))
    return Adopted(before, after, dropped, found.pending, found.dead)


def _as_divided(store: Store) -> Store:
    """The same Redis with the partitions that it has, whatever the settings say."""
    division = store.division.recorded()
    if division is None:
        return store
    division.check(division.partitions)
    return store.divided_into(division.partitions)


def _see_free(store: Store, *, force: bool) -> Left:
    """See that nobody is at work; what MongoDB does not have: nothing without `force`."""
    if force:
        refuse_if_workers(store)
        return left(store)
    refuse_unless_idle(store)
    return Left(0, 0)


def _record(store: Store, seen: Owner, new: Owner) -> None:
    if not store.owner.change(seen, new):
        raise ConfigurationError("MONGODB_DATABASE: somebody else moves this Redis: wait for that to end")
