"""What only tests do to embedded servers."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from redis import Redis

from tests.waiting import wait_until
from writebehind import Settings
from writebehind.local.embedded import EmbeddedRedis, EmbeddedServer
from writebehind.operations.acl import User, users

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


class GuardedRedis(EmbeddedRedis):
    """One with a user who may do what `writebehind doctor --acl` says, and nothing else."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        super().__init__(data_dir, **options)
        (self._user,) = users(Settings())

    @property
    def guarded_url(self) -> str:
        """The address for this user."""
        return self.url.replace("://", f"://{self._user.name}:secret@")

    def _command(self) -> list[str]:
        return [*super()._command(), "--user", self._user.name, *self._user.rules, ">secret"]

    def refused(self) -> list[Any]:
        """What the user may not do, and has done since the server's start."""
        with Redis(port=self.port) as client:
            return list(client.acl_log())


@contextmanager
def permitted(user: User, url: str, *servers: EmbeddedRedis) -> Iterator[str]:
    """Let servers have a user, whose URL is yielded; and see that it did nothing that it may not do."""
    clients = [Redis(port=one.port) for one in servers]
    for one in clients:
        one.execute_command("ACL", "SETUSER", user.name, *user.rules, ">secret")
        one.acl_log_reset()
    try:
        yield url.replace("://", f"://{user.name}:secret@")
        assert [] == [refused for one in clients for refused in one.acl_log()]
    finally:
        for one in clients:
            one.acl_deluser(user.name)
            one.close()


def freeze(server: EmbeddedServer) -> None:
    """Let it hang: connections stay open, nothing is answered."""
    os.killpg(server.pid, signal.SIGSTOP)


def resume(server: EmbeddedServer) -> None:
    """End `freeze`."""
    os.killpg(server.pid, signal.SIGCONT)


@contextmanager
def http_server(port: int = 0) -> Iterator[int]:
    """Another program where a Redis or a Sentinel should be, on a port that is yielded."""

    class Silent(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Silent) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def forget_replicas(server: EmbeddedRedis) -> None:
    """Let a server be as one that has never had a replica; it has none any more."""
    with Redis(port=server.port) as client:
        client.config_set("repl-backlog-ttl", 1)
        wait_until(lambda: not client.info("replication")["repl_backlog_active"], "the backlog to be let go", 30)
        client.config_set("repl-backlog-ttl", 3_600)
