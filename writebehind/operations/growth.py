"""Let the number of partitions grow, while they are read and written.

One is divided after the other; what is interrupted is finished by starting it again. See `docs/protocol.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from writebehind.errors import ConfigurationError
from writebehind.operations.idle import NotDrainedError, forgotten_after_s
from writebehind.operations.rebalance import alone
from writebehind.pipeline import Pipeline
from writebehind.redis.shared.partition_count import MOST_ONLINE, Division
from writebehind.redis.topology.lookout import LOOK_EVERY_S
from writebehind.redis.topology.peers import replicas_of
from writebehind.redis.topology.record import MoveError
from writebehind.redis.topology.splitting import new_partitions

#: While all are waited for, this process says so often that it goes on, seconds.
_RENEW_S = 1.0


@dataclass(frozen=True, slots=True)
class Growth:
    """State of a change.

    Attributes:
        divided: how many partitions are divided.
        total: how many there are to divide.
        copied: how many keys were copied of the one that is being divided.
    """

    divided: int
    total: int
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Grown:
    """Outcome of a change.

    Attributes:
        before: the number of partitions before.
        after: that of now.
        divided: how many of them this process has divided.
        longest_s: for how long writes to one partition had to wait, at most, seconds.
    """

    before: int
    after: int
    divided: int = 0
    longest_s: float = 0.0


def grow(pipeline: Pipeline, after: int, *, report: Callable[[Growth], object] = lambda _: None) -> Grown:
    """Let there be more partitions.

    Args:
        pipeline: on the Redis in question.
        after: the new number.
        report: takes how far it has come.

    Raises:
        ConfigurationError: the number cannot become that while Redis is used; or somebody else changes something.
        NotDrainedError: something stands where nobody looks for it.
        MoveError: a partition could not be divided; it is as it was, and the change is to be gone on with.
        RedisUnavailableError: Redis does not answer.
    """
    store = pipeline.store
    store.check_owner()
    division = store.division
    seen = division.recorded()
    if seen is None:
        raise ConfigurationError(
            "partitions: nothing is recorded yet: set WRITEBEHIND_PARTITIONS before the start"
        )
    if seen.fits(after):
        return Grown(after, after)
    _see_possible(pipeline, seen, after)
    change = Division(seen.partitions, after, online=True)
    with alone(store) as renew:

        def going_on() -> None:
            if not renew():
                raise MoveError("somebody else is dividing partitions")

        if not seen.online:
            if outside := division.astray(seen.partitions):
                raise NotDrainedError(
                    f"documents are pending or dead in partition {outside[0]}, where nobody looks: "
                    "run `writebehind drain` first"
                )
            division.remember_most(after)
            _record(pipeline, seen, change)
        division.see_confirmed()  # else it may be taken back by a failover, while some partitions are divided
        division.follow()
        if not store.layout.view.divided:
            _wait_for_all(pipeline, going_on)
        divided, longest_s = _divide(pipeline, going_on, report)
        _wait_for_all(pipeline, going_on)
        _record(pipeline, change, Division(after))
        division.see_confirmed()
        division.follow()
    return Grown(seen.partitions, after, divided, round(longest_s, 3))


def exposed(pipeline: Pipeline) -> list[str]:
    """Names of nodes of a cluster that a crash within a second takes from what they were just given.

    They have no replica, and write their append-only file less often than each write. Where a document was before,
    it may have been on disk.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    facts = pipeline.store.facts()
    written = pipeline.store.configured("appendfsync")
    lax = [one for one in facts if written.get(one) in {"everysec", "no"} and not [*replicas_of(facts[one])]]
    return lax if len(facts) > 1 else []


def _see_possible(pipeline: Pipeline, seen: Division, after: int) -> None:
    """See that the number may become another one while Redis is used. Raises as `grow`."""
    before = seen.partitions
    if seen.target is not None and not (seen.online and seen.target == after):
        seen.check(after)
        raise ConfigurationError(f"partitions: {before} are becoming {seen.target}: finish that first")
    if pipeline.store.rebalancing.names:
        why = "not on servers with names"
    elif after < before or after % before:
        why = f"{before} can become a multiple of that only"
    elif before >= MOST_ONLINE:
        why = f"only fewer than {MOST_ONLINE} can"
    else:
        return
    raise ConfigurationError(
        f"partitions: their number changes online in some ways only, and {why}: stop everything, and run "
        f"`writebehind drain` and `writebehind repartition {after}`"
    )


def _wait_for_all(pipeline: Pipeline, going_on: Callable[[], object]) -> None:
    """Wait until each process has looked at the record since it was changed, or will before it sends anything."""
    until = time.monotonic() + forgotten_after_s(pipeline, LOOK_EVERY_S)
    while (left_s := until - time.monotonic()) > 0:
        going_on()
        time.sleep(min(left_s, _RENEW_S))


def _divide(
    pipeline: Pipeline, going_on: Callable[[], object], report: Callable[[Growth], object]
) -> tuple[int, float]:
    """Divide what is not divided yet; how many partitions, and for how long one was frozen at most, seconds."""
    store, token = pipeline.store, uuid4().hex
    view = store.layout.view
    unmarked = store.growing.expect(view, token)
    count, longest_s = 0, 0.0
    for partition in range(view.partitions):
        copied = 0

        def note(keys: int, partition: int = partition) -> None:
            nonlocal copied
            copied += keys
            report(Growth(partition, view.partitions, copied))
            going_on()

        note(0)
        splitting = store.growing.splitting(partition, view, token, note, pipeline.settings.confirm_replicas or 0)
        is_new = partition not in view.divided | unmarked
        if partition in unmarked:
            store.growing.mark(partition, view)
            store.division.follow()
        if is_new:
            longest_s = max(longest_s, splitting.run())
            count += 1
            store.division.follow()  # as the others do
        is_left = is_new or store.growing.is_left(partition)
        if is_left:
            splitting.clean(thoroughly=not is_new)
        if is_left or partition in unmarked:
            store.letters.recount(partition, repair=True)
            pipeline.maintenance.hand_over([partition, *new_partitions(partition, view)])
    report(Growth(view.partitions, view.partitions))
    return count, longest_s


def _record(pipeline: Pipeline, seen: Division, new: Division) -> None:
    if not pipeline.store.division.change(seen, new):
        raise ConfigurationError("partitions: somebody else is changing their number: wait for that to end")
