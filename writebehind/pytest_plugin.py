"""Fixtures for tests of a team's own: a pipeline on servers that are started for the tests, empty for each.

pytest loads this module wherever the package is installed, so it imports nothing before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from writebehind.operations.drain import Drained
    from writebehind.pipeline import Pipeline
    from writebehind.settings.installation import Settings

#: The database that tests write to.
DATABASE = "writebehind_test"
#: How long MongoDB may take for what is pending in a test, seconds.
FLUSH_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses of the servers of a test session. What is in them is the tests' and may be deleted."""

    redis_url: str
    mongodb_url: str

    def empty(self) -> None:
        """Delete everything in Redis, and the tests' database in MongoDB."""
        from pymongo import MongoClient  # noqa: PLC0415 - as the module says
        from redis import Redis  # noqa: PLC0415

        with Redis.from_url(self.redis_url) as redis, MongoClient[dict[str, Any]](self.mongodb_url) as mongodb:
            redis.flushall()
            mongodb.drop_database(DATABASE)


@pytest.fixture(scope="session")
def writebehind_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Valkey and a server that speaks MongoDB's protocol, for this session. They need the extra `embedded`."""
    from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis  # noqa: PLC0415

    home = tmp_path_factory.mktemp("writebehind")
    with EmbeddedRedis(home) as redis, EmbeddedMongo(home) as mongodb:
        yield Servers(redis.url, mongodb.url)


@pytest.fixture
def writebehind_overrides() -> dict[str, Any]:
    """Settings of the tests, which win over `writebehind.toml`. A fixture of the same name replaces it."""
    return {"allow_unlisted": True}


@pytest.fixture
def writebehind_settings(
    writebehind_servers: Servers, writebehind_overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The settings of a test, whose servers are empty. The environment leads to them too, until it ends."""
    from writebehind.access.seen import SeenKeys  # noqa: PLC0415 - as the module says
    from writebehind.last_known import LastKnown  # noqa: PLC0415
    from writebehind.settings.installation import load_settings  # noqa: PLC0415
    from writebehind.settings.running import servers_of  # noqa: PLC0415

    writebehind_servers.empty()
    for name, value in {
        "REDIS_URL": writebehind_servers.redis_url,
        "BROKER_URL": writebehind_servers.redis_url,
        "MONGODB_URL": writebehind_servers.mongodb_url,
        "MONGODB_DATABASE": DATABASE,
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(**writebehind_overrides)
    if (directory := settings.state_dir or settings.metrics_dir) is not None:
        # What a test before this one has left there is no loss.
        LastKnown(directory, of=servers_of(settings)).forget()
        SeenKeys(directory, servers_of(settings)).forget()
    return settings


@pytest.fixture
def writebehind_pipeline(writebehind_settings: Settings) -> Iterator[Pipeline]:
    """A pipeline whose documents only this test has. Nobody flushes it: see `writebehind_flush`."""
    from writebehind.pipeline import connect  # noqa: PLC0415

    with connect(writebehind_settings) as pipeline:
        yield pipeline


@pytest.fixture
def writebehind_flush(writebehind_pipeline: Pipeline) -> Callable[[], Drained]:
    """A function that brings all that is pending to MongoDB, and fails the test where that does not take it."""
    from writebehind.operations.drain import drain  # noqa: PLC0415
    from writebehind.plurals import counted  # noqa: PLC0415

    def flush() -> Drained:
        done = drain(writebehind_pipeline, timeout_s=FLUSH_TIMEOUT_S)
        if done.pending:
            left = counted(done.pending, "document is", "documents are")
            pytest.fail(f"{left} still pending after {FLUSH_TIMEOUT_S:g} s: {done.reason}")
        return done

    return flush
