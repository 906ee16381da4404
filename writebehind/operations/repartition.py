"""Divide Redis into another number of partitions. Nothing may be pending, and nobody at work.

Each step is safe to repeat, so that a repartitioning which was interrupted is finished by starting it again. From
its beginning to its end no process takes writes: the record of the number of partitions says that it is changing.
A process that was stopped by force between its look at the record and its write may write all the same. So nothing
is deleted that does not expire anyway, and the new number is recorded only when nothing has become pending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from writebehind.errors import ConfigurationError, WritebehindError
from writebehind.pipeline import Pipeline
from writebehind.redis.keys import MOST_PARTITIONS, PARTITIONS, partition_keys, partition_of
from writebehind.redis.load_sample import SAMPLE_EVERY_S
from writebehind.redis.metrics import WORKER_LIFE_MS
from writebehind.redis.partition_count import Division, astray, recorded
from writebehind.redis.store import Store
from writebehind.redis.wire import Wire, script

#: Keys that are looked at, deleted or carried over in one go.
SLICE = 500
#: What is known of one document, value or query, and expires unless nobody else has it.
_OF_DOCUMENTS = ("entry:", "load:", "alias:", "aliasload:", "aliasclaims:", "claimed:", "query:", "queryload:")
#: What is carried over or looked at again: without anything pending, dead or to be audited there is no such key.
#: The rest tells of what is pending or dead, so of nothing: who waits for another document is a dead letter, or
#: pending. Or it is counted anew.
_STAYS = frozenset({"prefix", "clock", "pending", "dead", "deleted", "deleted_at"})
#: How often a process may wait for Redis between a look at the record and the last write that it lets in, besides
#: the life of what it saw: for the answer; for the two round trips of its next look, until which this one counts;
#: and for the write.
_WAITS = 4

_REDIVIDE, _CARRY, _FORGET = script("redivide"), script("carry"), script("forget")


class NotDrainedError(WritebehindError):
    """Redis cannot be divided anew as long as it holds what MongoDB does not have."""


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """What was done: the numbers of partitions, and how many keys of documents that MongoDB has were dropped."""

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
    wire = pipeline.store.wire
    seen = recorded(wire)
    if seen is None:  # nobody has used this Redis yet
        _record(wire, None, Division(after))
    if seen is None or seen.fits(after):
        return Repartitioned(after, after, 0)
    if seen.target not in {None, after}:
        seen.check(after)  # which raises, and says which change to finish
    before, moving = seen.partitions, Division(seen.partitions, after)
    old = Store(wire, partitions=before, max_pending=0, tombstone_ttl_ms=1)
    _refuse_unless_idle(old)
    _record(wire, seen, moving)
    # A process that has looked at the record before acts on it for this long at most.
    time.sleep(SAMPLE_EVERY_S + _WAITS * pipeline.settings.redis_timeout_ms / 1000)
    try:
        _refuse_unless_idle(old)
    except NotDrainedError:
        if seen.target is None:  # nothing has been moved yet
            _record(wire, moving, seen)
        raise
    _carry_over(old, after)
    dropped = _drop_documents(wire, report)
    _drop_partitions(old, after)
    _refuse_unless_idle(old)
    _record(wire, moving, Division(after))
    return Repartitioned(before, after, dropped)


def _record(wire: Wire, seen: Division | None, new: Division) -> None:
    if not wire.run(_REDIVIDE, (PARTITIONS,), ("" if seen is None else seen.record, new.record)):
        raise ConfigurationError("partitions: somebody else is changing their number: wait for that to end")


def _refuse_unless_idle(store: Store) -> None:
    if workers := store.watch.workers():
        raise NotDrainedError(
            f"stop the workers first, and the web processes too: {', '.join(workers)} sent a heartbeat "
            f"in the last {WORKER_LIFE_MS // 1000} s"
        )
    backlog = store.watch.backlog()
    if pending := sum(one.pending for one in backlog):
        raise NotDrainedError(f"{pending} documents are pending: run `writebehind drain` first")
    if dead := sum(one.dead for one in backlog):
        raise NotDrainedError(f"there are {dead} dead letters: replay, or export and discard them first")
    if outside := astray(store.wire, store.partitions):
        raise NotDrainedError(
            f"documents are pending or dead in partition {outside[0]}, although there are {store.partitions} "
            "only: run `writebehind drain` first"
        )


def _carry_over(old: Store, after: int) -> None:
    """The clock, so that versions never step back, and the deletions that are still to be audited."""
    clocks = old.wire.call("MGET", *(partition_keys(one).clock for one in range(MOST_PARTITIONS)))
    latest = max(int(clock or 0) for clock in clocks)
    for target in range(after):
        _carry(old.wire, target, latest, {})
    for source in range(old.partitions):
        for some in _slices(old.deletions(source, before_ms=1 << 52, limit=-1)):
            moved: dict[int, dict[str, int]] = {}
            for member, version in some.items():
                moved.setdefault(partition_of(member, after), {})[member] = version
            for target, deletions in moved.items():
                if target != source:
                    _carry(old.wire, target, latest, deletions)
                    old.audited(source, deletions)


def _carry(wire: Wire, target: int, latest: int, deletions: dict[str, int]) -> None:
    of = partition_keys(target)
    flat = [part for pair in deletions.items() for part in pair]
    wire.run(_CARRY, (of.clock, of.deleted, of.deleted_at), (latest, *flat))


def _drop_documents(wire: Wire, report: Callable[[int], None]) -> int:
    """Delete the copies of what MongoDB has: nobody would look for them, or worse, in a later division again."""
    dropped = 0
    for some in _scan(wire):
        found = [key for key in some if key.partition("}:")[2].startswith(_OF_DOCUMENTS)]
        dropped += sum(wire.run_many(_FORGET, [((key,), ()) for key in found])) if found else 0
        report(dropped)
    return dropped


def _drop_partitions(old: Store, after: int) -> None:
    """Delete what partitions have without documents; the clock only of those that are no more."""
    for partition in range(old.partitions):
        of = partition_keys(partition)
        gone = [getattr(of, one.name) for one in fields(of) if one.name not in _STAYS]
        old.wire.call("DEL", *gone, *([of.clock] if partition >= after else []))


def _scan(wire: Wire) -> Iterator[list[str]]:
    at = b"0"
    while True:
        at, found = wire.call("SCAN", at, "MATCH", "wb:{*}:*", "COUNT", SLICE)
        yield [key.decode() for key in found]
        if at == b"0":
            return


def _slices(deletions: dict[str, int]) -> Iterator[dict[str, int]]:
    members = list(deletions)
    for at in range(0, len(members), SLICE):
        yield {member: deletions[member] for member in members[at : at + SLICE]}
