"""Redis in a topology that fails over by itself, and what is done to it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from redis.exceptions import RedisError

from tests.chaos.failovers.reached import Processes, ReachedCluster, ReachedSentinels, join, part
from tests.proxy import Whom, everybody, nobody
from tests.servers import freeze, resume
from tests.topologies import SERVICE, Asked, Cluster, ClusterNode, Sentinels
from tests.waiting import wait_until
from writebehind import Settings
from writebehind.local.embedded import LOOPBACK
from writebehind.redis.topology.cluster import _slot

#: What `writebehind doctor` asks for, besides replicas: a primary that is cut off from them takes no writes.
FENCE = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
#: Without it, what it acknowledges as buffered is lost.
NO_FENCE: Mapping[str, str] = {}
#: Into how many the documents are divided.
PARTITIONS: int = Settings.model_fields["partitions"].default
#: How long a failover may take, and until all follow again, seconds.
WITHIN_S, WHOLE_WITHIN_S = 30, 90
#: On a machine that has much to do Sentinels may not agree, and try again after twice their `failover-timeout`.
REPLACED_WITHIN_S = 120
#: How many answers clients get before a primary comes back whose place another has taken, or who else was lost.
AWAY = (0, 300)
#: How many they get while a replica misses what is written, before its primary dies.
BEHIND = (5, 60)


#: Which clients do not reach a primary that is cut off from all other servers, and which do not reach the others.
UNREACHED: Mapping[str, Callable[[], tuple[Whom, Whom]]] = {
    "cut off": lambda: (nobody, nobody),
    "cut off, from half of the connections too": lambda: (lambda client: client[1] % 2 == 0, nobody),
    "cut off, with half of the processes": lambda: _halves(Processes()),
    "cut off, from clients too": lambda: (everybody, nobody),
}

#: What may be done to a primary.
FAULTS = ("kill", "kill behind", "freeze", *UNREACHED, "hand over")

#: Lets clients have so many answers meanwhile.
Pause = Callable[[int], None]


class Topology(ABC):
    """Servers of which each that takes writes has a replica, which takes its place."""

    #: Whether a primary that is cut off is read from as long as anybody reaches it.
    is_read_alone = False
    #: What may be done to it, besides to its primaries.
    others: Sequence[Callable[[random.Random, Pause], str]] = ()
    #: Settings of the product for it, as variables.
    settings: Mapping[str, str] = MappingProxyType({})

    def __init__(self, servers: Cluster | Sentinels, *, is_fenced: bool) -> None:
        """Take the servers; where they are not fenced, two of them may take writes at a time, which conflict."""
        self._servers = servers
        self.is_fenced = is_fenced

    @property
    def url(self) -> str:
        """The address for clients."""
        return self._servers.url

    def __enter__(self) -> Self:
        self._servers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.__exit__()

    @abstractmethod
    def primaries(self) -> list[Asked]:
        """Those that take writes, by what they say themselves."""

    @abstractmethod
    def is_whole(self) -> bool:
        """Whether all follow, and know of each other."""

    @abstractmethod
    def replaced(self, primary: Asked) -> bool:
        """Whether another server is taken for the primary by all others."""

    @abstractmethod
    def replicas_of(self, primary: Asked) -> Sequence[Asked]:
        """The servers that follow it."""

    @abstractmethod
    def hand_over(self, primary: Asked) -> None:
        """Ask for a failover, which takes place while both are well."""

    @abstractmethod
    def sides(self, primary: Asked, dice: random.Random) -> tuple[list[Asked], list[Asked]]:
        """The servers on a primary's side when the network parts, and on the other, which is the greater one."""

    def fail_over(self, fault: str, dice: random.Random, pause: Pause) -> None:
        """Let one primary be replaced by one of `FAULTS`, and wait until all follow again."""
        primary = dice.choice(self.primaries())
        undo: Callable[[], object] = _nothing
        match fault:
            case "kill" | "kill behind":
                undo = primary.start
                with self._behind(primary, dice, pause) if fault == "kill behind" else nullcontext():
                    primary.kill()
            case "freeze":
                undo = partial(resume, primary)
                freeze(primary)
            case _ if fault in UNREACHED:
                here, there = self.sides(primary, dice)
                undo = partial(join, here + there)
                part(here, there, *UNREACHED[fault]())
            case _:
                self.hand_over(primary)
        try:
            wait_until(lambda: self.replaced(primary), f"another primary after {fault}", REPLACED_WITHIN_S)
            pause(dice.randint(*AWAY))
        finally:
            undo()
        self.wait()

    @contextmanager
    def _behind(self, primary: Asked, dice: random.Random, pause: Pause) -> Iterator[None]:
        """Let one replica or more miss what is written before the end of the block."""
        replicas = self.replicas_of(primary)
        behind = dice.sample(replicas, dice.randint(1, len(replicas)))
        for one in behind:
            freeze(one)
        try:
            primary.ask("CLIENT", "KILL", "TYPE", "replica")  # else it finds all in its socket when it goes on
            pause(dice.randint(*BEHIND))
            yield
        finally:
            for one in behind:
                resume(one)

    def _lose(self, server: Asked, dice: random.Random, pause: Pause) -> None:
        """Let a server be away for a while."""
        server.kill()
        pause(dice.randint(*AWAY))
        server.start()
        self.wait()

    def wait(self) -> None:
        """Until it is whole."""

        def whole() -> bool:
            with suppress(RedisError, OSError):
                return self.is_whole()
            return False

        wait_until(whole, "all servers to follow", WHOLE_WITHIN_S)


class OfCluster(Topology):
    """Three primaries with a replica each."""

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        """Describe it."""
        self._cluster = ReachedCluster(directory, options)
        super().__init__(self._cluster, is_fenced=bool(options))
        self.others = (self._move_a_slot, self._lose_a_replica)

    def primaries(self) -> list[Asked]:
        return [one for one in self._cluster.nodes if one.is_running() and one.ask("ROLE")[0] == b"master"]

    def is_whole(self) -> bool:
        return self._cluster.is_whole() and all(
            one.ask("ROLE")[3] == b"connected" for one in self._cluster.nodes if one.ask("ROLE")[0] == b"slave"
        )

    def replaced(self, primary: Asked) -> bool:
        living = [one for one in self._cluster.nodes if one is not primary]
        return all(primary.port not in {of_slots[2][1] for of_slots in one.tell("SLOTS")} for one in living)

    def sides(self, primary: Asked, dice: random.Random) -> tuple[list[Asked], list[Asked]]:  # noqa: ARG002 - alone
        return [primary], [one for one in self._cluster.nodes if one is not primary]

    def hand_over(self, primary: Asked) -> None:
        self.replicas_of(primary)[0].tell("FAILOVER")

    def replicas_of(self, primary: Asked) -> Sequence[ClusterNode]:
        roles = {one: one.ask("ROLE") for one in self._cluster.nodes}
        return [one for one, said in roles.items() if said[0] == b"slave" and said[2] == primary.port]

    def _move_a_slot(self, dice: random.Random, _: Pause) -> str:
        """Move the slot of a partition to another primary, key by key, while it is used."""
        source, target = dice.sample(self.primaries(), 2)
        assert isinstance(source, ClusterNode)
        assert isinstance(target, ClusterNode)
        ranges = [(first, last) for first, last, of, *_ in source.tell("SLOTS") if of[1] == source.port]
        slots = map(_slot, map(str, range(PARTITIONS)))
        mine = [slot for slot in slots if any(first <= slot <= last for first, last in ranges)]
        if not mine:
            return "no slot to move"
        slot = dice.choice(mine)
        target.tell("SETSLOT", slot, "IMPORTING", source.tell("MYID"))
        source.tell("SETSLOT", slot, "MIGRATING", target.tell("MYID"))
        while keys := source.tell("GETKEYSINSLOT", slot, 20):
            for key in keys:
                source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
        for one in (target, source):
            one.tell("SETSLOT", slot, "NODE", target.tell("MYID"))
        return "move a slot"

    def _lose_a_replica(self, dice: random.Random, pause: Pause) -> str:
        self._lose(
            dice.choice([one for one in self._cluster.nodes if one.ask("ROLE")[0] == b"slave"]), dice, pause
        )
        return "lose a replica"


class OfSentinels(Topology):
    """A primary with two replicas, so that a new one has a replica at once, and three Sentinels."""

    #: Without it the primary goes on to take writes, which the other replica confirms.
    asked_for: Sequence[str] = ("COORDINATED",)

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        """Describe it."""
        self._watched = ReachedSentinels(directory, {**options, "replica-serve-stale-data": "no"})
        super().__init__(self._watched, is_fenced=bool(options))
        self.is_read_alone = not options
        self.others = (self._lose_a_sentinel, self._lose_a_replica)

    @property
    def url(self) -> str:
        """Asks last the one that is always on the greater side."""
        first, *others = self._watched.sentinels
        places = ",".join(f"{LOOPBACK}:{one.port}" for one in (*others, first))
        return f"redis+sentinel://{places}/{SERVICE}/0"

    def primaries(self) -> list[Asked]:
        return [self._watched.primary]

    def is_whole(self) -> bool:
        return self._watched.is_whole()

    def replaced(self, primary: Asked) -> bool:
        return self._watched.primary is not primary and self._watched.primary.ask("ROLE")[0] == b"master"

    def sides(self, primary: Asked, dice: random.Random) -> tuple[list[Asked], list[Asked]]:
        lonely = dice.choice((None, *self._watched.sentinels[1:]))  # a Sentinel that goes on to name this primary
        here = [primary, *([lonely] if lonely else [])]
        return here, [one for one in (*self._watched.servers, *self._watched.sentinels) if one not in here]

    def hand_over(self, primary: Asked) -> None:  # noqa: ARG002 - there is one
        def begun() -> bool:
            with suppress(RedisError):  # too soon after another one
                self._watched.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE, *self.asked_for)
                return True
            return False

        wait_until(begun, "Sentinels to begin a failover", WITHIN_S)

    def replicas_of(self, primary: Asked) -> Sequence[Asked]:
        return [one for one in self._watched.servers if one is not primary]

    def _lose_a_sentinel(self, dice: random.Random, pause: Pause) -> str:
        self._lose(dice.choice(self._watched.sentinels[1:]), dice, pause)
        return "lose a Sentinel"

    def _lose_a_replica(self, dice: random.Random, pause: Pause) -> str:
        self._lose(dice.choice(self.replicas_of(self._watched.primary)), dice, pause)
        return "lose a replica"


class OfSentinelsWhereAllConfirm(OfSentinels):
    """The same where `replicated` writes are on both replicas; a failover by hand is not coordinated."""

    asked_for = ()
    settings: Mapping[str, str] = MappingProxyType({"WRITEBEHIND_CONFIRM_REPLICAS": "2"})


def _halves(of: Processes) -> tuple[Whom, Whom]:
    return of.without(0), of.without(1)


def _nothing() -> None:
    """Nothing is to be undone."""


TOPOLOGIES: dict[str, Callable[[Path], Topology]] = {
    "cluster": partial(OfCluster, options=FENCE),
    "sentinel": partial(OfSentinels, options=FENCE),
    "sentinel-all-confirm": partial(OfSentinelsWhereAllConfirm, options=FENCE),
    "unfenced-cluster": partial(OfCluster, options=NO_FENCE),
    "unfenced-sentinel": partial(OfSentinels, options=NO_FENCE),
}
