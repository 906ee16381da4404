"""Redis as more than one server, started for the tests: a cluster, and servers that Sentinels watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis import ConnectionPool

from tests.waiting import wait_until
from writebehind.local.embedded import LOOPBACK, EmbeddedRedis, free_port
from writebehind.redis.connections import Command
from writebehind.redis.wire import Wire

#: A node that does not answer for so long is taken for dead, ms.
NODE_TIMEOUT_MS = 1_000
SLOTS = 16_384


class ClusterNode(EmbeddedRedis):
    """One node of a cluster."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._bus = free_port()

    def _command(self) -> list[str]:
        options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(self._bus),
        }
        return [*super()._command(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def tell(self, *command: object) -> Any:
        """Send it a command about the cluster, and return the raw answer."""
        return self.ask("CLUSTER", *command)

    def ask(self, *command: object) -> Any:
        """Send it a command, and return the raw answer."""
        wire = Wire(ConnectionPool(host=LOOPBACK, port=self.port, protocol=2))
        try:
            return wire.call(*command)
        finally:
            wire.close()

    @property
    def place(self) -> tuple[str, int, int]:
        """The address and the ports that other nodes meet it at."""
        return LOOPBACK, self.port, self._bus


class Cluster:
    """Primaries with as many replicas each, as a Redis Cluster."""

    def __init__(self, directory: Path, primaries: int = 3, replicas: int = 1) -> None:
        self.nodes = [ClusterNode(directory / f"node{at}") for at in range(primaries * (1 + replicas))]
        self._primaries = primaries
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The address for clients."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{one.port}" for one in self.nodes)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in self.nodes:
                stack.enter_context(one)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        primaries, replicas = self.nodes[: self._primaries], self.nodes[self._primaries :]
        bounds = [SLOTS * at // len(primaries) for at in range(len(primaries) + 1)]
        for at, one in enumerate(primaries):
            one.tell("ADDSLOTSRANGE", bounds[at], bounds[at + 1] - 1)
            one.tell("SET-CONFIG-EPOCH", at + 1)
        for one in self.nodes[1:]:
            one.tell("MEET", *self.nodes[0].place)
        wait_until(lambda: all(self._knows(one, len(self.nodes)) for one in self.nodes), "nodes to meet", 30)
        for at, one in enumerate(replicas):
            one.tell("REPLICATE", primaries[at % len(primaries)].tell("MYID"))
        wait_until(self.is_whole, "the cluster to be whole", 30)

    def _knows(self, node: ClusterNode, count: int) -> bool:
        return len(node.tell("NODES").splitlines()) == count

    def is_whole(self) -> bool:
        """Whether each node knows all others, and slots for all of them are served."""
        ports = {one.port for one in self.nodes}
        return all(
            b"cluster_state:ok" in one.tell("INFO")
            and ports == {node[1] for of_slots in one.tell("SLOTS") for node in of_slots[2:]}
            for one in self.nodes
        )


class EveryWire(Wire):
    """A wire on which a test may also ask what has no key: of all servers at once."""

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1 and commands[0][0] in _MERGED:
            found = [answer for (answer,) in self.on_each(commands).values()]
            return [_MERGED[commands[0][0]](found)]
        return super().calls(commands)


_MERGED: dict[str, Callable[[list[Any]], Any]] = {
    "KEYS": lambda found: [key for some in found for key in some],
    "DBSIZE": sum,
    **dict.fromkeys(("FLUSHALL", "CONFIG", "SCRIPT", "CLIENT", "INFO", "TIME", "COMMAND"), lambda found: found[0]),
}


def chosen(name: str) -> Callable[[Path], EmbeddedRedis | Cluster]:
    """What makes a topology in a directory, by its name."""
    return {"single": EmbeddedRedis, "cluster": Cluster}[name]
