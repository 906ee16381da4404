"""The embedded servers of one system: both, or, where the settings name others, none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from writebehind.last_known import LastKnown
from writebehind.local.embedded import EmbeddedError, EmbeddedMongo, EmbeddedRedis, EmbeddedServer
from writebehind.local.endings import ended
from writebehind.local.passwords import kept_password
from writebehind.local.supervisor import LONGEST_DELAY_S
from writebehind.settings.installation import Settings

REDIS, MONGODB = "redis", "mongodb"


class OwnServers:
    """Servers that are started with the system, started anew where they die, and stopped after it."""

    def __init__(self, settings: Settings, data_dir: Path, appendfsync: str) -> None:
        """Choose them; none is started yet.

        Raises:
            EmbeddedError: the data directory cannot be used.
        """
        self._settings = settings
        self._servers = _servers(settings, data_dir, appendfsync)
        self._restart_at = 0.0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._servers)

    def __getitem__(self, name: str) -> EmbeddedServer:
        """One of them. Raises KeyError where others are used."""
        return self._servers[name]

    @property
    def redis_url(self) -> str:
        """The URL of Redis, with its password."""
        return self._servers[REDIS].url if self._servers else self._settings.redis_url

    @property
    def mongodb_url(self) -> str:
        """The URL of MongoDB, with its password."""
        return self._servers[MONGODB].url if self._servers else self._settings.mongodb_url

    @property
    def urls(self) -> dict[str, str]:
        """Their URLs, with passwords, by name."""
        return {name: server.url for name, server in self._servers.items()}

    @property
    def titles(self) -> dict[str, str]:
        """Their names for people, by name."""
        return {name: server.title for name, server in self._servers.items()}

    @property
    def pids(self) -> dict[str, int]:
        """The processes of those that run, by name."""
        return {name: server.pid for name, server in self._servers.items() if server.is_running()}

    def start(self) -> None:
        """Start them. Raises EmbeddedError where one does not start."""
        for server in self._servers.values():
            server.start()

    def check(self, say: Callable[[str], None], last_known: LastKnown) -> None:
        """Start anew what died, now and then where that fails.

        Args:
            say: takes a line.
            last_known: what was only in Redis: it is told where Redis has died.
        """
        for name, server in self._servers.items():
            if not server.is_running() and time.monotonic() >= self._restart_at:
                self._restart(server, say, last_known.told() if name == REDIS else "")

    def stop(self) -> None:
        """Stop them, one after the other."""
        for server in self._servers.values():
            server.stop()

    def _restart(self, server: EmbeddedServer, say: Callable[[str], None], at_stake: str) -> None:
        end = "does not run" if server.status is None else ended(server.status)
        say(f"{server.title} {end}, starting it again{at_stake}")
        try:
            server.start()
            say(f"{server.title} runs again, as process {server.pid}")
        except (EmbeddedError, OSError) as error:  # such as a port that is taken, or a disk that is full
            say(f"{error}. All else goes on; it is tried again in {LONGEST_DELAY_S:.0f} s")
            self._restart_at = time.monotonic() + LONGEST_DELAY_S


def _servers(settings: Settings, data_dir: Path, appendfsync: str) -> dict[str, EmbeddedServer]:
    if {"redis_url", "mongodb_url"} & settings.model_fields_set:
        return {}
    try:
        of_redis, of_mongodb = (kept_password(data_dir / name / "password") for name in (REDIS, MONGODB))
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"the data directory cannot be used: {error}") from error
    valkey = EmbeddedRedis(
        data_dir,
        appendfsync=appendfsync,
        maxmemory_mib=settings.embedded_redis_mib,
        policy="volatile-lru",  # when it is full it evicts what has a TTL: what MongoDB does not have yet has none
        password=of_redis,
    )
    return {REDIS: valkey, MONGODB: EmbeddedMongo(data_dir, password=of_mongodb)}
