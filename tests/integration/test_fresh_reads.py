"""Reads from members that lag behind: what they bring is never older than what the primary had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from bson import Int64, Timestamp
from pymongo import MongoClient
from pymongo.server_api import ServerApi

from tests.integration.conftest import flush_all
from tests.rewriting import RewritingProxy
from tests.router import as_router
from writebehind import Pipeline, load_settings
from writebehind.documents.ids import DocumentId
from writebehind.errors import ConfigurationError, MongoUnavailableError
from writebehind.redis.keys import partition_keys

QUERY = {"filter": {"n": {"$gte": {"$param": "n"}}}, "parameters": {"n": "int"}, "sort": {"n": 1}}
Make = Callable[..., Pipeline]


class Lagging(RewritingProxy):
    """A replica set whose secondaries have nothing, but for those who wait, and whose primary tells the time."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.now = 0
        #: Whether secondaries come to the primary's state, for those who wait.
        self.catches_up = True
        self.finds: list[dict[str, Any]] = []
        self.answer = self._answer
        self.rewrite = self._rewrite

    def _answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        self.now += 1
        if "find" not in command:
            return None
        self.finds.append(command)
        concern, mode = command.get("readConcern", {}), command.get("$readPreference", {}).get("mode", "primary")
        if mode in {"primary", "primaryPreferred"} and concern.get("level") != "majority":
            return None
        if "afterClusterTime" not in concern:
            cursor = {"id": Int64(0), "ns": f"{command['$db']}.{command['find']}", "firstBatch": []}
            return {"ok": 1.0, "cursor": cursor, "operationTime": Timestamp(1, 0)}
        if not self.catches_up:
            return {"ok": 0.0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "waiting for replication"}
        return None

    def _rewrite(self, command: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any] | None:
        if "hello" in command:  # as the driver asks a single server for nothing else than its own state
            return as_router(reply)
        if "find" not in command:
            return None
        return reply | {"operationTime": Timestamp(1_700_000_000, self.now)}


@pytest.fixture
def servers(mongo) -> Iterator[Lagging]:
    with Lagging(mongo.port) as servers:
        yield servers


@pytest.fixture
def make(servers, settings, valkey_wire, hints) -> Iterator[Make]:
    with ExitStack() as stack:

        def pipeline(**more: Any) -> Pipeline:
            url = f"mongodb://127.0.0.1:{servers.port}/?serverMonitoringMode=poll"
            changed = load_settings(
                redis_url=settings.redis_url,
                mongodb_url=url,
                mongodb_database=settings.mongodb_database,
                partitions=1,
                hot_samples=0,
                defaults={"flush_delay_ms": 0},
                collections={"users": {"lookup": {"name": "string"}, "queries": {"from": QUERY}}},
                **more,
            )
            client = stack.enter_context(MongoClient(url, server_api=ServerApi("1")))
            made = Pipeline(changed, hints=hints, wire=valkey_wire, client=client)
            users = made.collection("users")
            users.put("a", {"name": "ada", "n": 1})
            users.put("b", {"name": "bob", "n": 2})
            flush_all(made)
            for key in valkey_wire.call("KEYS", "wb:{0}:*"):
                if any(kind in key for kind in (b":entry:", b":alias:", b":query:")):
                    valkey_wire.call("DEL", key)
            servers.finds.clear()
            return made

        yield pipeline


READS: dict[str, Callable[[Any], object]] = {
    "one": lambda users: users.get("a")["n"],
    "several": lambda users: users.mget(["a", "b"])[0]["n"],
    "a lookup": lambda users: users.look_up("name", "ada")[1].entry.document["n"],
    "a query": lambda users: users.query("from", {"n": 1})[0]["n"],
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("more", [{"mongodb_read_preference": "secondary"}, {"mongodb_read_concern": "majority"}])
def test_no_fill_brings_what_is_past(make, servers, read, more):
    """A member that lags behind is waited for, whatever is read from it."""
    users = make(**more).collection("users")

    assert 1 == READS[read](users)
    asked = [one for one in servers.finds if "afterClusterTime" in one.get("readConcern", {})]
    assert asked
    if "mongodb_read_preference" in more:
        assert {"secondary"} == {one["$readPreference"]["mode"] for one in asked}
    else:
        assert {"majority"} == {one["readConcern"]["level"] for one in asked}


def test_a_member_that_does_not_catch_up(make, servers):
    """A read that waited for it in vain is not answered with what is past, and caches nothing."""
    pipeline = make(mongodb_read_preference="secondaryPreferred")
    servers.catches_up = False
    with pytest.raises(MongoUnavailableError):
        pipeline.collection("users").get("a")

    entry = partition_keys(0).entry(DocumentId.of("users", "a").member)
    assert 0 == pipeline.store._wire.call("EXISTS", entry)
    servers.catches_up = True
    assert 1 == pipeline.collection("users").get("a")["n"]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("concern", ["local", "linearizable"])
def test_the_primary_is_asked_once(make, servers, read, concern):
    """By default a read is one request to the primary, which is never behind itself."""
    users = make(mongodb_read_concern=concern).collection("users")

    assert 1 == READS[read](users)
    assert {concern} == {one["readConcern"]["level"] for one in servers.finds}
    assert not any("afterClusterTime" in one["readConcern"] for one in servers.finds)
    most = {"one": 1, "several": 1, "a lookup": 2, "a query": 2}
    assert len(servers.finds) <= most[read]


def test_what_decides_about_writes_is_the_primarys(make, servers):
    """Versions that a write is held against are read from the primary, whatever readers' setting is."""
    pipeline = make(mongodb_read_preference="nearest")
    assert {"users/s:a"} == set(pipeline.sink.versions([DocumentId.of("users", "a")]))
    assert ["local"] == [one["readConcern"]["level"] for one in servers.finds]


def test_linearizable_is_the_primarys():
    """A secondary cannot read so, and a process with such settings does not start."""
    with pytest.raises(ConfigurationError, match="mongodb_read_preference primary only"):
        load_settings(mongodb_read_concern="linearizable", mongodb_read_preference="nearest")
