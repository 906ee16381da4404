"""What only tests do to embedded servers."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

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
