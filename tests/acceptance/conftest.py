"""The whole system as real processes."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.acceptance.topology import bound_to_one, servers
from tests.acceptance.variants import VARIANT, VariedStack, fill
from tests.described import client_of
from tests.topologies import EveryWire
from tests.waiting import wait_until
from writebehind import Settings, load_settings
from writebehind.local.embedded import free_port
from writebehind.redis.topology.opening import open_servers

ROOT = Path(__file__).parents[2]
CONFIG = {"WRITEBEHIND_CONFIG": str(ROOT / "writebehind.toml")}
#: Variables that name servers.
SERVERS = {"REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL"}
#: A query of the collection `people`.
IN_CITY = {"filter": {"city": {"$param": "city"}}, "sort": {"rank": 1}, "parameters": {"city": "string"}}
#: Of clients that threads share. Connections do not expire: httpcore may close one that has, and that another
#: thread was just given.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
#: Of clients that are made again and again, for addresses without TLS: each would read the certificates of all
#: authorities, which takes 15 ms of CPU.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
#: Long enough for a test to do something before these documents are flushed.
SLOW_MS = 4_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is bound to the embedded Redis where the tests run on another."""
    for item in items:
        if why := bound_to_one(item.nodeid):
            item.add_marker(pytest.mark.skip(f"of the embedded Redis only: {why}"))


class System:
    """A running stack, a client of its API that threads may share, and a client of its MongoDB."""

    def __init__(self, stack: VariedStack) -> None:
        self.stack = stack
        #: Fields that make documents as large as is wanted.
        self.fill = fill(stack.variant)
        self.connect()

    def connect(self) -> None:
        """Find it where it is now."""
        self.http = client_of(self.stack.url, timeout=30, limits=LIMITS)
        self.mongo: MongoClient = MongoClient(self.stack.mongodb_url, serverSelectionTimeoutMS=30_000)

    @property
    def database(self) -> Database:
        return self.mongo[self.stack.mongodb_database]

    @property
    def servers(self) -> dict[str, str]:
        """The variables with which other processes find its servers."""
        return {"REDIS_URL": self.stack.redis_url, "MONGODB_URL": self.stack.mongodb_url, **self.broker}

    @property
    def broker(self) -> dict[str, str]:
        """The variable that other processes need where its broker has a password, which it tells nobody."""
        return {"BROKER_URL": self.stack.broker_url} if self.stack.broker_url else {}

    @property
    def settings(self) -> Settings:
        """Those that lead to its servers."""
        return load_settings(
            redis_url=self.stack.redis_url,
            broker_url=self.stack.broker_url,
            mongodb_url=self.stack.mongodb_url,
            mongodb_database=self.stack.mongodb_database,
        )

    @contextmanager
    def redis(self) -> Iterator[EveryWire]:
        """A wire to its Redis."""
        wire = EveryWire(open_servers(self.stack.redis_url, 5_000))
        try:
            yield wire
        finally:
            wire.close()

    @property
    def mongodb_pid(self) -> int:
        """The id of the process of its MongoDB, whoever has started it."""
        port = urlsplit(self.stack.mongodb_url).port
        listening = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
        return self.stack.pids().get("mongodb") or next(one.pid for one in listening if one.laddr.port == port)

    def status(self) -> dict[str, Any]:
        return self.http.get("/admin/status").raise_for_status().json()

    def put_all(self, prefix: str, count: int, collection: str = "users", **fields: object) -> dict[str, int]:
        """Write documents in one bulk; their versions by id."""
        items = [{"op": "put", "id": f"{prefix}{n}", "doc": {"n": n, **self.fill, **fields}} for n in range(count)]
        results = self.http.post(f"/v1/{collection}:bulk", json=items).raise_for_status().json()["results"]
        assert {200, 201} >= {one["status"] for one in results}
        return {one["id"]: one["version"] for one in results}

    def stored(self, prefix: str, collection: str = "users") -> dict[str, tuple[int, int]]:
        """Version and number of the documents in MongoDB whose ids begin so."""
        found = self.database[collection].find({"_id": {"$regex": f"^{prefix}"}})
        return {one["_id"]: (one["_v"], one["n"]) for one in found}

    def stored_versions(self, prefix: str, collection: str = "users") -> dict[str, int]:
        return {one: version for one, (version, _) in self.stored(prefix, collection).items()}

    def wait_until_drained(self, within: float = 30) -> None:
        wait_until(lambda: self.status()["pending"] == 0, "everything to be in MongoDB", within)

    def wait_until_ready(self, within: float = 30) -> None:
        wait_until(lambda: self.http.get("/readyz").status_code == 200, "the API to be ready", within)

    def wait_for_workers(self, within: float = 60) -> None:
        wait_until(lambda: self.status()["workers"] == 2, "both workers", within)

    def close(self) -> None:
        self.http.close()
        self.mongo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(
    directory: Path,
    *,
    procfile: Path | None = None,
    without: frozenset[str] = frozenset(),
    variant: frozenset[str] = VARIANT,
    **env: str,
) -> VariedStack:
    """Describe a stack that knows no settings but the repository's and these.

    It is started `without` some processes where no test looks at them: each takes about a second of CPU.
    """
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name in SERVERS or name.startswith("WRITEBEHIND_")]:
            patch.delenv(variable)
        # Stacks that start side by side would all find the usual ports free.
        ports = {f"WRITEBEHIND_{name}_PORT": str(free_port()) for name in ("FLOWER", "EXPORTER")}
        described = {**CONFIG, **ports, **env}
        return VariedStack(variant, directory, env=described, cwd=ROOT, procfile=procfile, without=without)


def in_threads(calls: int, call: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(calls) as threads:
        list(threads.map(call, range(calls)))


#: Two web processes, and collections of all kinds that the tests want.
SETTINGS = {
    "WRITEBEHIND_WEB_WORKERS": "2",
    "WRITEBEHIND_COLLECTIONS__slow__flush_delay_ms": str(SLOW_MS),
    "WRITEBEHIND_COLLECTIONS__people__lookup__name": "string",
    "WRITEBEHIND_COLLECTIONS__people__queries": json.dumps({"in_city": IN_CITY}),
    "WRITEBEHIND_COLLECTIONS__yielding__on_conflict": "theirs",
    "WRITEBEHIND_COLLECTIONS__yielding__flush_delay_ms": str(SLOW_MS),
    "WRITEBEHIND_COLLECTIONS__listed__ttl": "3600",
    "WRITEBEHIND_COLLECTIONS__stale__ttl": "1",
    "WRITEBEHIND_COLLECTIONS__unwanted__ttl": "3600",
    "WRITEBEHIND_COLLECTIONS__stale__stale_while_revalidate": "60",
}


@pytest.fixture(scope="package")
def system(tmp_path_factory) -> Iterator[System]:
    """The system as `writebehind up` starts it, but with two web processes; in the variant that is asked for."""
    directory = tmp_path_factory.mktemp("system")
    with (
        servers(directory / "servers") as given,
        start(directory, **SETTINGS, **given) as stack,
        System(stack) as system,
    ):
        system.wait_for_workers()
        yield system
