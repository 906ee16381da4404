"""What is done to the system while clients use it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from tests.proxy import Proxy
from tests.servers import freeze, resume
from tests.tls import Authority, TlsFront
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, EmbeddedServer
from writebehind.local.procfile import default_procfile
from writebehind.local.stack import Stack

#: Processes of the Procfile that are hurt; Flower only watches, and is left out.
PROCESSES = ("web", "worker", "other-worker", "maintenance", "beat", "listen")
#: Short: a flusher that is frozen for seconds outlives its lease, and a load outlives the entry of a write.
SETTINGS = {
    "WRITEBEHIND_LEASE_MS": "2500",
    "WRITEBEHIND_MONGODB_TIMEOUT_MS": "1500",
    "WRITEBEHIND_REDIS_TIMEOUT_MS": "1000",
    "WRITEBEHIND_CONFIRM_TIMEOUT_MS": "500",
    "WRITEBEHIND_LOAD_TIMEOUT_MS": "2000",
    "WRITEBEHIND_SWEEP_INTERVAL": "1",
    "WRITEBEHIND_OVERDUE_MS": "1000",
    "WRITEBEHIND_TOMBSTONE_TTL": "2",
    "WRITEBEHIND_WEB_WORKERS": "2",
    "WRITEBEHIND_COLLECTIONS__registers__flush_delay_ms": "200",
    "WRITEBEHIND_COLLECTIONS__registers__ttl": "0.5",
    "WRITEBEHIND_COLLECTIONS__registers__negative_ttl": "1",
    "WRITEBEHIND_COLLECTIONS__accounts__lookup__name": "string",
    "WRITEBEHIND_COLLECTIONS__accounts__flush_delay_ms": "200",
    "WRITEBEHIND_COLLECTIONS__accounts__ttl": "0.5",
    "WRITEBEHIND_COLLECTIONS__accounts__negative_ttl": "1",
    "WRITEBEHIND_COLLECTIONS__foreign__ttl": "2",
    "WRITEBEHIND_COLLECTIONS__counters__flush_delay_ms": "200",
    "WRITEBEHIND_COLLECTIONS__counters__ttl": "2",
}
SHORTEST_S, LONGEST_S = 0.3, 7.0
#: What waits for less than a time-out is not sent again, and overtaken by nothing.
SHORTEST_STALL_S = 2.0
#: Between the beginnings of two faults, seconds.
GAPS_S = (0.2, 2.0)


class System:
    """The whole system, with proxies between its processes and its servers."""

    def __init__(self, directory: Path) -> None:
        """Describe it; everything it writes is in `directory`."""
        self._undo = ExitStack()
        self._directory = directory

    def __enter__(self) -> Self:
        enter = self._undo.enter_context
        try:
            self.redis = enter(EmbeddedRedis(self._directory, appendfsync="always"))
            self.mongo = enter(EmbeddedMongo(self._directory))
            authority = Authority(self._directory)
            tls = [enter(TlsFront(authority.server_context(), one.port)) for one in (self.redis, self.mongo)]
            self.ways = {
                "way to redis": enter(Proxy(self.redis.port)),
                # Of some processes, so that what others see goes on meanwhile.
                "way to redis by tls": enter(Proxy(tls[0].port)),
                "way to mongodb": enter(Proxy(self.mongo.port)),
                # So that one worker's writes can be late while the other's are not.
                "other worker's way to mongodb": enter(Proxy(tls[1].port)),
            }
            to_redis, by_tls, to_mongo, others = (one.port for one in self.ways.values())
            procfile = self._directory / "Procfile"
            lines = _procfile(authority.redis_url(by_tls), authority.mongodb_url(others))
            procfile.write_text(lines, "utf-8")
            config = self._directory / "writebehind.toml"
            config.touch()
            env = {
                **SETTINGS,
                "WRITEBEHIND_CONFIG": str(config),
                "REDIS_URL": f"redis://127.0.0.1:{to_redis}/0",
                "MONGODB_URL": f"mongodb://127.0.0.1:{to_mongo}/?directConnection=true",
            }
            root = Path(__file__).parents[2]
            init = [sys.executable, "-m", "writebehind", "init"]
            subprocess.run(init, env={**os.environ, **env}, cwd=root, check=True, stdout=subprocess.DEVNULL)
            self.stack = enter(
                Stack(self._directory / "stack", env=env, cwd=root, arguments=("--procfile", str(procfile)))
            )
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def _procfile(redis_url: str, mongodb_url: str) -> str:
    """The product's, without what only watches, and with a second worker that has a way to MongoDB of its own.

    It and the API reach Redis by TLS.
    """
    commands = dict(
        line.split(": ", 1) for line in default_procfile().read_text("utf-8").splitlines() if ": " in line
    )
    commands["other-worker"] = f"MONGODB_URL='{mongodb_url}' {commands['worker']}"
    for name in ("web", "other-worker"):
        commands[name] = f"REDIS_URL='{redis_url}' {commands[name]}"
    return "\n".join(f"{name}: {commands[name]}" for name in PROCESSES)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it is, what it is done to, and how it is ended."""

    kind: str
    target: str
    seconds: float
    begin: Callable[[], None]
    end: Callable[[], None]


class Trouble:
    """Makes trouble, and ends all of it. Not for several threads."""

    def __init__(self, system: System, dice: random.Random) -> None:
        """Take the system, and the dice that decide."""
        self._system = system
        self._dice = dice
        self._open: list[tuple[float, Fault]] = []
        self.counts: Counter[str] = Counter()

    def make(self, seconds: float) -> None:
        """Make trouble for some time; some of it is left when this returns."""
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            self._end_those_before(time.monotonic())
            fault = self._roll()
            if fault is not None:
                self.counts[fault.kind + " " + fault.target] += 1
                fault.begin()
                self._open.append((time.monotonic() + fault.seconds, fault))
            threading.Event().wait(self._dice.uniform(*GAPS_S))

    def end(self) -> None:
        """Heal everything."""
        self._end_those_before(float("inf"))

    def _end_those_before(self, moment: float) -> None:
        for until, fault in sorted(self._open, key=lambda one: one[0]):
            if until <= moment:
                fault.end()
                self._open.remove((until, fault))

    def _roll(self) -> Fault | None:
        target = self._dice.choice([*PROCESSES, "redis", "mongodb", *self._system.ways, *self._system.ways])
        if any(target == fault.target for _, fault in self._open):
            return None
        seconds = self._dice.uniform(SHORTEST_S, LONGEST_S)
        if target in PROCESSES:
            return self._of_process(target, seconds)
        if target in {"redis", "mongodb"}:
            return self._of_server(target, seconds)
        return self._of_way(target, self._system.ways[target], seconds)

    def _of_process(self, name: str, seconds: float) -> Fault:
        group: list[int] = []

        def send(number: int) -> None:
            for one in group:
                with suppress(ProcessLookupError):
                    os.killpg(one, number)

        def find() -> None:
            pid = self._system.stack.pids().get(name)
            if pid is not None:
                group.append(pid)

        if self._dice.random() < 0.5:
            return Fault("kill", name, 0, lambda: (find(), send(signal.SIGKILL)), lambda: None)
        return Fault("freeze", name, seconds, lambda: (find(), send(signal.SIGSTOP)), lambda: send(signal.SIGCONT))

    def _of_server(self, name: str, seconds: float) -> Fault:
        server: EmbeddedServer = self._system.redis if name == "redis" else self._system.mongo
        if self._dice.random() < 0.5:
            return Fault("kill", name, seconds, server.kill, server.start)
        return Fault("freeze", name, seconds, partial(freeze, server), partial(resume, server))

    def _of_way(self, name: str, proxy: Proxy, seconds: float) -> Fault:
        match self._dice.choices(["stall", "cut", "hang", "slow"], [3, 1, 1, 1])[0]:
            case "stall":  # what was sent is overtaken by what is sent again, or later, over a new connection
                return Fault("stall", name, max(seconds, SHORTEST_STALL_S), proxy.stall, proxy.flow)
            case "cut":
                return Fault("cut", name, 0, proxy.cut, lambda: None)
            case "hang":
                return Fault("hang", name, seconds, proxy.hang, proxy.flow)
        return Fault("slow", name, seconds, lambda: proxy.slow(0.02), lambda: proxy.slow(0))


@contextmanager
def trouble(system: System, dice: random.Random) -> Iterator[Trouble]:
    """Trouble that is over at the end, in any case."""
    made = Trouble(system, dice)
    try:
        yield made
    finally:
        made.end()
