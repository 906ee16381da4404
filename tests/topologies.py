"""Redis as more than one server, started for the tests: a cluster, servers that Sentinels watch, or with names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis import ConnectionPool
from redis.exceptions import ResponseError

from tests.servers import REDIS_SERVER, RedisProgram
from tests.waiting import wait_until
from writebehind.local.embedded import LOOPBACK, EmbeddedRedis, free_port
from writebehind.redis.connections import Command
from writebehind.redis.keys import SERVER
from writebehind.redis.topology.assigned import Assigned
from writebehind.redis.topology.routing import Servers
from writebehind.redis.wire import Wire

#: A node that does not answer for so long is taken for dead, ms.
NODE_TIMEOUT_MS = 1_000
SLOTS = 16_384
#: The name by which Sentinels know the servers that they watch.
SERVICE = "main"
_NONE: Mapping[str, str] = {}


class Asked(EmbeddedRedis):
    """A server that a test asks something by itself."""

    def ask(self, *command: object) -> Any:
        """Send it a command, and return the raw answer."""
        return ask(self.port, *command)


class ClusterNode(Asked):
    """One node of a cluster; `options` are more settings of it."""

    def __init__(self, data_dir: Path, *, fails_over: bool = True, options: Mapping[str, str] = _NONE) -> None:
        super().__init__(data_dir)
        self._bus = free_port()
        self._fails_over = fails_over
        self._options = options

    def _command(self) -> list[str]:
        options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(self._bus),
            # Else no node answers while one of them is away.
            "cluster-require-full-coverage": "no",
            "cluster-replica-no-failover": "no" if self._fails_over else "yes",
            **self._options,
        }
        return [*super()._command(), *_as_arguments(options)]

    def tell(self, *command: object) -> Any:
        """Send it a command about the cluster, and return the raw answer."""
        return self.ask("CLUSTER", *command)

    @property
    def place(self) -> tuple[str, int, int]:
        """The address and the ports that other nodes meet it at."""
        return LOOPBACK, self.port, self._bus


class Cluster:
    """Primaries with as many replicas each, as a Redis Cluster; which stay replicas, unless it `fails_over`."""

    def __init__(
        self,
        directory: Path,
        primaries: int = 3,
        replicas: int = 1,
        *,
        fails_over: bool = True,
        options: Mapping[str, str] = _NONE,
    ) -> None:
        self.nodes = [
            ClusterNode(directory / f"node{at}", fails_over=fails_over, options=options)
            for at in range(primaries * (1 + replicas))
        ]
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
        """Whether each node knows all others, takes none for dead, and slots for all of them are served."""
        ports = {one.port for one in self.nodes}
        return all(
            b"cluster_state:ok" in one.tell("INFO")
            and b",fail" not in one.tell("NODES")
            and ports == {node[1] for of_slots in one.tell("SLOTS") for node in of_slots[2:]}
            for one in self.nodes
        )


class Watched(Asked):
    """A server that Sentinels watch: a primary, or a replica of one."""

    def __init__(
        self,
        data_dir: Path,
        primary: Watched | None = None,
        *,
        appendfsync: str = "everysec",
        options: Mapping[str, str] = _NONE,
    ) -> None:
        super().__init__(data_dir, appendfsync=appendfsync)
        self._primary = primary
        self._options = options

    def _command(self) -> list[str]:
        of = ["--replicaof", f"{LOOPBACK} {self._primary.port}"] if self._primary else []
        return [*super()._command(), *of, *_as_arguments(self._options)]


class SentinelProcess(Asked):
    """One Sentinel."""

    def __init__(self, data_dir: Path, primary: Watched) -> None:
        super().__init__(data_dir)
        self._primary = primary

    def _command(self) -> list[str]:
        config = self._home / "sentinel.conf"
        if not config.exists():
            config.write_text(
                f"port {self.port}\nbind {LOOPBACK}\ndir {self._data}\n"
                f"sentinel monitor {SERVICE} {LOOPBACK} {self._primary.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
        return [str(self._program()), str(config), "--sentinel"]


class Sentinels:
    """A primary with replicas, and three Sentinels that watch them; `options` are more settings of all servers."""

    def __init__(self, directory: Path, options: Mapping[str, str] = _NONE, *, replicas: int = 1) -> None:
        primary = Watched(directory / "primary", options=options)
        names = ["replica", *(f"replica{at}" for at in range(1, replicas))]
        self.servers = [primary, *(Watched(directory / name, primary, options=options) for name in names)]
        self.sentinels = [SentinelProcess(directory / f"sentinel{at}", primary) for at in range(3)]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The address for clients."""
        return "redis+sentinel://" + ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels) + f"/{SERVICE}/0"

    @property
    def primary(self) -> Watched:
        """The server that the Sentinels name."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(one for one in self.servers if one.port == int(port))

    def is_whole(self) -> bool:
        """Whether the replicas follow, and each Sentinel knows of them and of the others."""
        replicas = len(self.servers) - 1
        return (
            all(self._knows(one) for one in self.sentinels) and self.primary.ask("WAIT", replicas, 100) == replicas
        )

    def _knows(self, sentinel: SentinelProcess) -> bool:
        others = sentinel.ask("SENTINEL", "SENTINELS", SERVICE)
        replicas = sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
        healthy = [one for one in replicas if one[one.index(b"flags") + 1] == b"slave"]
        return len(others) == len(self.sentinels) - 1 and len(healthy) == len(self.servers) - 1

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in (*self.servers, *self.sentinels):
                stack.enter_context(one)
            wait_until(self.is_whole, "the Sentinels to know all", 30)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class NamedServers:
    """Independent servers with names."""

    def __init__(self, directory: Path, names: Sequence[str] = ("a", "b", "c")) -> None:
        self.servers = {name: EmbeddedRedis(directory / name) for name in names}
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The address for clients."""
        return self.url_of(*self.servers)

    def ask(self, name: str, *command: object) -> Any:
        """Send one of them a command, and return the raw answer."""
        return ask(self.servers[name].port, *command)

    def url_of(self, *names: str) -> str:
        """The address of some of them."""
        return ";".join(f"{name}={self.servers[name].url}" for name in names)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in self.servers.values():
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _as_arguments(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def ask(port: int, *command: object) -> Any:
    """Send a server a command, and return the raw answer."""
    wire = Wire(ConnectionPool(host=LOOPBACK, port=port, protocol=2))
    try:
        return wire.call(*command)
    finally:
        wire.close()


class EveryWire(Wire):
    """A wire on which a test may also ask what has no key: of all servers at once.

    On servers with names a test need not record what is on them.
    """

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers)
        self.record_by(lambda: Assigned(self).record(_PARTITIONS))

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            (name, *rest) = command = commands[0]
            if name in _MERGED:
                return [_MERGED[name]([answer for (answer,) in self.on_each([command]).values()])]
            if name in _EACH:
                return [sum(super().calls([(name, one) for one in rest]))]
            if name == "RENAME":
                return [self._rename(*rest)]
        return super().calls(commands)

    def _rename(self, key: str, new: str) -> Any:
        """Move a key, which may go to another server."""
        value, ttl_ms = super().calls([("DUMP", key), ("PTTL", key)])
        if value is None:
            return ResponseError("no such key")
        answers = super().calls([("RESTORE", new, max(0, ttl_ms), value, "REPLACE"), ("DEL", key)])
        return answers[0]


#: No test has more that does without a pipeline.
_PARTITIONS = 128
#: Commands with keys that may be on different servers, whose answers add up.
_EACH = frozenset(("DEL", "EXISTS", "UNLINK"))
_MERGED: dict[str, Callable[[list[Any]], Any]] = {
    "KEYS": lambda found: [key for some in found for key in some if key != SERVER.encode()],
    "DBSIZE": sum,
    **dict.fromkeys(("FLUSHALL", "CONFIG", "SCRIPT", "CLIENT", "INFO", "TIME", "COMMAND"), lambda found: found[0]),
}


#: Those in which Redis is one server.
OF_ONE_SERVER = frozenset(("single", "redis", "rabbitmq"))


def chosen(name: str) -> Callable[[Path], EmbeddedRedis | Cluster | Sentinels | NamedServers]:
    """Redis in a directory, by the topology's name: for `redis` it is the program installed."""
    made: dict[str, Callable[[Path], EmbeddedRedis | Cluster | Sentinels | NamedServers]] = {
        "single": EmbeddedRedis,
        "rabbitmq": EmbeddedRedis,
        "redis": lambda directory: RedisProgram(directory, REDIS_SERVER or "redis-server"),
        "cluster": Cluster,
        "sentinel": Sentinels,
        "servers": NamedServers,
    }
    return made[name]
