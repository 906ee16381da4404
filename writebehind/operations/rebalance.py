"""Let other servers with names have the partitions, while these are read and written.

Only what must move does, one partition after the other. What is interrupted is finished by starting it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from writebehind.errors import ConfigurationError
from writebehind.operations.idle import wait_for_forgotten
from writebehind.pipeline import Pipeline
from writebehind.redis import keys
from writebehind.redis.store import Store
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.rebalancing import Moving
from writebehind.redis.topology.record import MoveError

#: Nobody else moves anything for so long after the last sign of life, ms.
LEASE_MS = 5_000
#: What has moved is dropped where it was so often, seconds.
_DROP_EVERY_S = 10.0
#: Who waits for that looks again after this, seconds.
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a rebalancing.

    Attributes:
        moved: how many partitions were moved.
        total: how many there are to move.
        place: the one that is being moved.
        copied: how many keys of it were copied.
    """

    moved: int
    total: int
    place: str = ""
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """Outcome of a rebalancing.

    Attributes:
        servers: the ones that are used now.
        moved: what has moved, and what would in a dry run.
        finished: what an interrupted one had left.
        longest_s: for how long writes to one partition had to wait, at most, seconds.
        partitions: into how many all is divided.
        pending: documents that wait for MongoDB in what would move; `None` where it has moved.
        about_bytes: what that takes of Redis's memory, if partitions are alike; `None` where it has moved.
        keys: how many keys were copied.
    """

    servers: Sequence[str]
    moved: Sequence[Moving]
    finished: Sequence[str] = ()
    longest_s: float = 0.0
    partitions: int = 0
    pending: int | None = None
    about_bytes: int | None = None
    keys: int = 0


def goal_of(names: Sequence[str], without: Sequence[str]) -> list[str]:
    """The servers that shall be used, in the order of the URL.

    Raises:
        ConfigurationError: none is left, or one is unknown; or the URL names none.
    """
    if not names:
        raise ConfigurationError(
            "REDIS_URL: only servers with names share partitions: a=redis://host/0;b=redis://host/0"
        )
    if unknown := [one for one in without if one not in names]:
        raise ConfigurationError(
            f"--without: REDIS_URL has no server {unknown[0]}, and nothing is recorded to be there: "
            f"it has {', '.join(names)}"
        )
    if not (goal := [one for one in names if one not in without]):
        raise ConfigurationError("--without: a server must be left")
    return goal


def rebalance(
    pipeline: Pipeline,
    *,
    without: Sequence[str] = (),
    dry_run: bool = False,
    report: Callable[[Progress], object] = lambda _: None,
) -> Rebalanced:
    """Let the servers of the settings have the partitions, as rendezvous hashing says.

    Args:
        pipeline: on these servers.
        without: names of servers that shall have nothing any more.
        dry_run: whether to say only what would move.
        report: takes how far it has come.

    Raises:
        ConfigurationError: the URL does not fit; or somebody else is rebalancing.
        MoveError: a partition could not be moved; it is where it was.
        RedisUnavailableError: a server does not answer.
    """
    store = pipeline.store
    moves = store.rebalancing
    store.check_recorded()  # first: it says what to do about a server that the URL lacks
    goal = goal_of(moves.names, without)
    if dry_run:
        return _foreseen(store, goal, moves.plan(goal, store.partitions))
    store.check()
    with alone(store) as renew:
        return _moved(pipeline, goal, renew, report)


def _foreseen(store: Store, goal: Sequence[str], plan: Sequence[Moving]) -> Rebalanced:
    """The outcome that a plan would have, with what is known of it without a look at all keys."""
    going = {int(one.place): one.source for one in plan if one.place != HOME}
    pending = sum(one.pending for one in store.metrics.backlog() if one.partition in going)
    on = {name: len(some) for name, some in store.servers_of(range(store.partitions)).items()}
    facts = store.facts()
    sizes = [int(facts[name].get("used_memory_dataset", 0)) / on[name] for name in going.values()]
    return Rebalanced(goal, plan, partitions=store.partitions, pending=pending, about_bytes=round(sum(sizes)))


@contextmanager
def alone(store: Store) -> Iterator[Callable[[], bool]]:
    """Be the only one who moves anything between partitions or servers; yields what says so for another while.

    Raises:
        ConfigurationError: somebody else is.
        RedisUnavailableError: Redis does not answer.
    """
    lease = store.lease(keys.REBALANCE_LEASE, LEASE_MS)
    until = time.monotonic() + LEASE_MS / 1000
    while not lease.take():  # of one that was killed it ends by then
        if time.monotonic() > until:
            raise ConfigurationError("somebody else is rebalancing: wait for that to end")
        time.sleep(_LOOK_AGAIN_S)
    try:
        yield lease.take
    finally:
        lease.release()


def _moved(
    pipeline: Pipeline, goal: Sequence[str], renew: Callable[[], bool], report: Callable[[Progress], object]
) -> Rebalanced:
    store = pipeline.store
    moves, least = store.rebalancing, pipeline.settings.confirm_replicas or 0
    most_memory = pipeline.settings.max_memory_percent / 100

    def going_on() -> None:
        if not renew():
            raise MoveError("somebody else is rebalancing")

    used = moves.used()
    finished = moves.finish(going_on, least=least)
    plan = moves.plan(goal, store.partitions)
    if plan or list(used) != list(goal):
        moves.use(list(dict.fromkeys((*used, *goal))))
    if len(used) == 1 and plan:
        wait_for_forgotten(pipeline)  # by processes that know the one server by no name, and ask nothing of it
    longest, keys_moved, dropped_at = 0.0, 0, time.monotonic()
    for at, one in enumerate(plan):
        copied = 0

        def note(count: int, at: int = at, place: str = one.place) -> None:
            nonlocal copied
            copied += count
            if count:  # else it is frozen, and whoever reports may take long
                report(Progress(at, len(plan), place, copied))
            if place != HOME:
                going_on()

        report(Progress(at, len(plan), one.place))
        longest = max(longest, moves.move(one, note, least=least, most_memory=most_memory))
        keys_moved += copied
        if time.monotonic() - dropped_at > _DROP_EVERY_S:  # disks are waited for once for all of them
            moves.finish(going_on, least=least)
            dropped_at = time.monotonic()
    moves.finish(going_on, least=least)
    moves.use(goal)
    report(Progress(len(plan), len(plan)))
    return Rebalanced(goal, plan, finished, round(longest, 3), store.partitions, keys=keys_moved)
