"""Redis in a topology that fails over by itself, and what is done to it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Self

from redis.exceptions import RedisError

from tests.servers import freeze, resume
from tests.topologies import Asked, Cluster, ClusterNode, Sentinels
from tests.waiting import wait_until
from writebehind import Settings
from writebehind.redis.topology.cluster import _slot

#: What `writebehind doctor` asks for, besides replicas: a primary that is cut off from them takes no writes.
FENCE = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
#: Without it, what it acknowledges as buffered is lost.
NO_FENCE: Mapping[str, str] = {}
#: Into how many the documents are divided.
PARTITIONS: int = Settings.model_fields["partitions"].default
#: How long a failover may take, and until all follow again, seconds.
WITHIN_S, WHOLE_WITHIN_S = 30, 90
#: How many answers clients get before a primary comes back whose place another has taken, or who else was lost.
AWAY = (0, 300)
#: How many they get while a replica misses what is written, before its primary dies.
BEHIND = (5, 60)


#: Lets clients have so many answers meanwhile.
Pause = Callable[[int], None]


class Topology(ABC):
    """Servers of which each that takes writes has a replica, which takes its place."""

    #: What may be done to it, besides to its primaries.
    others: Sequence[Callable[[random.Random, Pause], str]] = ()

    def __init__(self, servers: Cluster | Sentinels) -> None:
        """Take the servers."""
        self._servers = servers

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
    def replica_of(self, primary: Asked) -> Asked:
        """The server that follows it."""

    @abstractmethod
    def hand_over(self, primary: Asked) -> None:
        """Ask for a failover, which takes place while both are well."""

    def fail_over(self, dice: random.Random, pause: Pause) -> str:
        """Let one primary be replaced, and wait until all follow again; what was done."""
        primary = dice.choice(self.primaries())
        match what := dice.choice(("kill", "kill behind", "kill behind", "freeze", "freeze", "hand over")):
            case "kill" | "kill behind":
                undo = primary.start
                with self._behind(primary, dice, pause) if what == "kill behind" else nullcontext():
                    primary.kill()
            case "freeze":
                undo = partial(resume, primary)
                freeze(primary)
            case _:
                undo = _nothing
                self.hand_over(primary)
        try:
            wait_until(lambda: self.replaced(primary), f"another primary after {what}", WITHIN_S)
            pause(dice.randint(*AWAY))
        finally:
            undo()
        self.wait()
        return what

    @contextmanager
    def _behind(self, primary: Asked, dice: random.Random, pause: Pause) -> Iterator[None]:
        """Let the replica miss what is written before the end of the block."""
        replica = self.replica_of(primary)
        freeze(replica)
        try:
            primary.ask("CLIENT", "KILL", "TYPE", "replica")  # else it finds all in its socket when it goes on
            pause(dice.randint(*BEHIND))
            yield
        finally:
            resume(replica)

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
        self._cluster = Cluster(directory, options=options)
        super().__init__(self._cluster)
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

    def hand_over(self, primary: Asked) -> None:
        self.replica_of(primary).tell("FAILOVER")

    def replica_of(self, primary: Asked) -> ClusterNode:
        roles = {one: one.ask("ROLE") for one in self._cluster.nodes}
        [replica] = [one for one, said in roles.items() if said[0] == b"slave" and said[2] == primary.port]
        return replica

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
    """A primary with a replica, and three Sentinels."""

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        """Describe it."""
        self._watched = Sentinels(directory, {**options, "replica-serve-stale-data": "no"})
        super().__init__(self._watched)
        self.others = (self._lose_a_sentinel, self._lose_the_replica)

    def primaries(self) -> list[Asked]:
        return [self._watched.primary]

    def is_whole(self) -> bool:
        return self._watched.is_whole()

    def replaced(self, primary: Asked) -> bool:
        return self._watched.primary is not primary and self._watched.primary.ask("ROLE")[0] == b"master"

    def hand_over(self, primary: Asked) -> None:  # noqa: ARG002 - there is one
        def begun() -> bool:
            with suppress(RedisError):  # too soon after another one
                self._watched.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
                return True
            return False

        wait_until(begun, "Sentinels to begin a failover", WITHIN_S)

    def replica_of(self, primary: Asked) -> Asked:
        [replica] = [one for one in self._watched.servers if one is not primary]
        return replica

    def _lose_a_sentinel(self, dice: random.Random, pause: Pause) -> str:
        self._lose(dice.choice(self._watched.sentinels[1:]), dice, pause)
        return "lose a Sentinel"

    def _lose_the_replica(self, dice: random.Random, pause: Pause) -> str:
        self._lose(self.replica_of(self._watched.primary), dice, pause)
        return "lose the replica"


def _nothing() -> None:
    """Nothing is to be undone."""


TOPOLOGIES: dict[str, Callable[[Path], Topology]] = {
    "cluster": partial(OfCluster, options=FENCE),
    "sentinel": partial(OfSentinels, options=FENCE),
    "unfenced-cluster": partial(OfCluster, options=NO_FENCE),
    "unfenced-sentinel": partial(OfSentinels, options=NO_FENCE),
}
