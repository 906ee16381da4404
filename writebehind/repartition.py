"""Divide Redis into another number of partitions. Nothing may be pending, and nobody at work.

Each step is safe to repeat, so that a repartitioning which was interrupted is finished by starting it again. From
its beginning to its end no process takes writes: the record of the number of partitions says that it is changing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from writebehind import keys
from writebehind.errors import ConfigurationError, WritebehindError
from writebehind.keys import partition_keys, partition_of
from writebehind.pipeline import Pipeline
from writebehind.store import Store
from writebehind.vitals import SAMPLE_EVERY_S

#: The record while it is being changed: this, the number before and the number after.
MOVING = "moving"
#: Keys that are looked at, or deleted, in one go.
SLICE = 1_000
#: What belongs to one document and is deleted: MongoDB has it.
_CLEAN = ("entry:", "load:")


class NotDrainedError(WritebehindError):
    """Redis cannot be divided anew as long as it holds what MongoDB does not have."""


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """What was done: the numbers of partitions, and how many keys of clean documents were dropped."""

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
        RedisUnavailableError: Redis does not answer.
    """
    wire = pipeline.store.wire
    record = wire.call("GET", keys.PARTITIONS)
    before, resumed = _parse(record, after)
    if before == after and not resumed:
        return Repartitioned(before, after, 0)
    old = Store(wire, partitions=before, max_pending=0, tombstone_ttl_ms=1)
    _refuse_unless_idle(old)
    wire.call("SET", keys.PARTITIONS, f"{MOVING}:{before}:{after}")
    try:
        # A process that has looked at the record before now acts on it for this long at most.
        time.sleep(2 * SAMPLE_EVERY_S + pipeline.settings.redis_timeout_ms / 1000)
        _refuse_unless_idle(old)
    except NotDrainedError:
        wire.call("SET", keys.PARTITIONS, before)
        raise
    _carry_over(old, after)
    dropped = _drop_clean(old, report)
    _drop_keys_of_partitions(old, after)
    wire.call("SET", keys.PARTITIONS, after)
    return Repartitioned(before, after, dropped)


def _parse(record: bytes | None, after: int) -> tuple[int, bool]:
    """The number of partitions before, and whether a change to `after` was interrupted."""
    if record is None:
        return after, True  # nobody has used this Redis yet
    text = record.decode()
    if not text.startswith(MOVING):
        return int(text), False
    _, before, target = text.split(":")
    if int(target) != after:
        raise ConfigurationError(
            f"a change from {before} to {target} partitions was interrupted: finish it first with "
            f"`writebehind repartition {target}`"
        )
    return int(before), True


def _refuse_unless_idle(store: Store) -> None:
    backlog = store.status()
    pending, dead = sum(one.pending for one in backlog), sum(one.dead for one in backlog)
    if workers := store.workers():
        raise NotDrainedError(
            f"stop the workers first, and the web processes too: {', '.join(workers)} sent a heartbeat lately"
        )
    if pending:
        raise NotDrainedError(f"{pending} documents are pending: run `writebehind drain` first")
    if dead:
        raise NotDrainedError(f"there are {dead} dead letters: replay, or export and discard them first")


def _carry_over(old: Store, after: int) -> None:
    """The clock, so that versions never step back, and the deletions that are still to be audited."""
    wire = old.wire
    every = range(max(old.partitions, after))
    clocks = wire.call("MGET", *(partition_keys(one).clock for one in every))
    latest = max((int(clock) for clock in clocks if clock), default=0)
    wire.calls([("SET", partition_keys(one).clock, latest) for one in range(after)])
    for partition in range(old.partitions):
        for member, version in old.deletions(partition, before_ms=1 << 52, limit=-1).items():
            target = partition_of(member, after)
            if target != partition:
                of = partition_keys(target)
                wire.calls([("ZADD", of.deleted, version, member), ("ZADD", of.deleted_at, old.now_ms(), member)])
                old.audited(partition, {member: version})


def _drop_clean(store: Store, report: Callable[[int], None]) -> int:
    """Delete the copies of what MongoDB has: nobody would look for them, or worse, in a later division again."""
    dropped = 0
    for some in _scan(store):
        found = [key for key in some if key.partition("}:")[2].startswith(_CLEAN)]
        if found:
            dropped += store.wire.call("UNLINK", *found)
        report(dropped)
    return dropped


def _drop_keys_of_partitions(store: Store, after: int) -> None:
    for partition in range(store.partitions):
        of = partition_keys(partition)
        # An empty `deleted`, `pending` or `dead` is no key at all.
        store.wire.call("DEL", of.lease, of.scheduled, *([of.clock] if partition >= after else []))


def _scan(store: Store) -> Iterator[list[str]]:
    at = b"0"
    while True:
        at, found = store.wire.call("SCAN", at, "MATCH", "wb:{*}:*", "COUNT", SLICE)
        yield [key.decode() for key in found]
        if at == b"0":
            return
