"""What only tests do to embedded servers."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from redis import Redis

from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedRedis, EmbeddedServer

#: Redis itself, where it is installed, or `make redis` has fetched it.
REDIS_SERVER = shutil.which("redis-server") or shutil.which(
    "redis-server", path=Path(__file__).parents[1] / ".redis"
)


class RedisProgram(EmbeddedRedis):
    """Another server program, such as `/usr/bin/redis-server`."""

    def __init__(self, data_dir: Path, program: str | Path) -> None:
        super().__init__(data_dir)
        self._path = Path(program)

    def _program(self) -> Path:
        return self._path


def freeze(server: EmbeddedServer) -> None:
    """Let it hang: connections stay open, nothing is answered."""
    os.killpg(server.pid, signal.SIGSTOP)


def resume(server: EmbeddedServer) -> None:
    """End `freeze`."""
    os.killpg(server.pid, signal.SIGCONT)


def forget_replicas(server: EmbeddedRedis) -> None:
    """Let a server be as one that has never had a replica; it has none any more."""
    with Redis(port=server.port) as client:
        client.config_set("repl-backlog-ttl", 1)
        wait_until(lambda: not client.info("replication")["repl_backlog_active"], "the backlog to be let go", 30)
        client.config_set("repl-backlog-ttl", 3_600)
