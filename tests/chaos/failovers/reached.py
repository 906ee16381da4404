"""Servers of a topology that all others reach through proxies, so that any of them can be cut off from some.

Each has an address of its own on loopback, from which it connects to others. So a proxy knows who comes: what is
between two servers can be cut, while clients reach both, and what is between clients and one server. It takes no
rights, as network namespaces would.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Self

import psutil

from tests.proxy import Proxy, Whom, nobody
from tests.topologies import (
    SERVICE,
    Asked,
    Cluster,
    ClusterNode,
    SentinelProcess,
    Sentinels,
    Watched,
)
from writebehind.local.embedded import LOOPBACK, free_port
from writebehind.operations.doctor.failover import SEEN_S

#: Sentinels take a primary for gone after so long, ms: as `doctor` asks for where replicas may lag for 1 s.
DOWN_AFTER_MS = 1_000 * (1 + SEEN_S)


class Reached(Asked):
    """A server that is reached at `port`, where a proxy listens, and comes from `address` itself."""

    _numbers = count(1)

    def __init__(self, *arguments: object, ports: int = 1, **options: object) -> None:
        """Describe it; `ports` is how many it listens on."""
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        number = next(self._numbers)
        self.address = f"127.1.{number // 250}.{number % 250 + 1}"
        self._own_ports = [free_port() for _ in range(ports)]
        self._proxies = [Proxy(one) for one in self._own_ports]
        self.port = self._proxies[0].port
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in self._proxies:
                stack.enter_context(one)
            super().__enter__()
            self._undo = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._undo:
            super().__exit__()

    def _choose_port(self, deadline: float) -> None:
        """Listen where the proxy leads to."""

    def hang(self, whom: Whom) -> None:
        """Let nothing come from some clients."""
        for one in self._proxies:
            one.hang(whom)

    def flow(self) -> None:
        """End `hang`."""
        for one in self._proxies:
            one.flow()


class ReachedNode(Reached, ClusterNode):
    """A node of a cluster."""

    def __init__(self, data_dir: Path, options: Mapping[str, str]) -> None:
        """Describe it."""
        super().__init__(data_dir, options=options, ports=2)
        self._bus = self._proxies[1].port

    def _command(self) -> list[str]:
        own, own_bus = map(str, self._own_ports)
        announced = ["--cluster-announce-ip", LOOPBACK, "--cluster-announce-port", str(self.port)]
        announced += ["--cluster-announce-bus-port", str(self._bus)]
        listens = ["--port", own, "--cluster-port", own_bus, "--bind-source-addr", self.address]
        return [*super()._command(), *listens, *announced]


class ReachedWatched(Reached, Watched):
    """A server that Sentinels watch."""

    def _command(self) -> list[str]:
        announced = ["--replica-announce-ip", LOOPBACK, "--replica-announce-port", str(self.port)]
        return [
            *super()._command(),
            *("--port", str(self._own_ports[0]), "--bind-source-addr", self.address),
            *announced,
        ]


class ReachedSentinel(Reached, SentinelProcess):
    """A Sentinel."""

    def _command(self) -> list[str]:
        config = self._home / "sentinel.conf"
        is_first = not config.exists()
        command = super()._command()
        if is_first:
            text = config.read_text("utf-8").replace(f"port {self.port}\n", f"port {self._own_ports[0]}\n", 1)
            config.write_text(
                f"{text}bind-source-addr {self.address}\n"
                f"sentinel announce-ip {LOOPBACK}\nsentinel announce-port {self.port}\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n",
                "utf-8",
            )
        return command


class ReachedCluster(Cluster):
    """A cluster of such nodes."""

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        """Describe it: three primaries with a replica each."""
        super().__init__(directory, primaries=0)
        self.nodes = [ReachedNode(directory / f"node{at}", options) for at in range(6)]
        self._primaries = 3


class ReachedSentinels(Sentinels):
    """A primary with two replicas, and three Sentinels, that are reached so."""

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        """Describe them."""
        super().__init__(directory, options)
        primary = ReachedWatched(directory / "primary", options=options)
        replicas = [ReachedWatched(directory / f"replica{at}", primary, options=options) for at in range(2)]
        self.servers = [primary, *replicas]
        self.sentinels = [ReachedSentinel(directory / f"sentinel{at}", primary) for at in range(3)]

    def is_whole(self) -> bool:
        """As of one replica."""
        return all(self._knows(one) for one in self.sentinels) and self.primary.ask("WAIT", 2, 100) == 2


class Processes:
    """Two halves of the processes that connect, in the order in which they are met; this one is in both."""

    def __init__(self) -> None:
        """Know none."""
        self._pids: dict[int, int | None] = {}
        self._halves: dict[int | None, int] = {}
        self._lock = threading.Lock()

    def without(self, half: int) -> Whom:
        """Clients of which one half, 0 or 1, does not reach what they connect to."""
        return lambda client: self._half(client[1]) == half

    def _half(self, port: int) -> int | None:
        with self._lock:
            if port not in self._pids:
                found = psutil.net_connections("tcp4")
                self._pids |= {one.laddr.port: one.pid for one in found if one.laddr and one.raddr}
            pid = self._pids.get(port)
            return None if pid == os.getpid() else self._halves.setdefault(pid, len(self._halves) % 2)


def part(
    some: Iterable[Asked], others: Iterable[Asked], kept_from_some: Whom, kept_from_others: Whom = nobody
) -> None:
    """Let nothing pass between two sides, nor from some clients to either."""
    sides = _addresses(some), _addresses(others)
    for one in _reached(some):
        one.hang(lambda who: who[0] in sides[1] or (who[0] == LOOPBACK and kept_from_some(who)))
    for one in _reached(others):
        one.hang(lambda who: who[0] in sides[0] or (who[0] == LOOPBACK and kept_from_others(who)))


def join(servers: Iterable[Asked]) -> None:
    """Let all pass again, and what was sent meanwhile arrive."""
    for one in _reached(servers):
        one.flow()


def _addresses(servers: Iterable[Asked]) -> set[str]:
    return {one.address for one in _reached(servers)}


def _reached(servers: Iterable[Asked]) -> list[Reached]:
    return [one for one in servers if isinstance(one, Reached)]
