"""Servers that Sentinels watch: the primary that they name is found, also after it has died or hung."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from rich.console import Console

from tests.integration.conftest import flush_all
from tests.servers import freeze, permitted, resume
from tests.tiers import long
from tests.topologies import EveryWire, Sentinels, Watched
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline
from writebehind.cli.status import without_redis
from writebehind.documents.durability import Durability
from writebehind.errors import NoReplicasError, RedisUnavailableError
from writebehind.operations.acl import users as needed_users
from writebehind.operations.doctor import failover
from writebehind.operations.doctor import redis as doctor
from writebehind.redis.topology.opening import open_servers

TIMEOUT_MS = 1_000


@pytest.fixture
def watched(tmp_path) -> Iterator[Sentinels]:
    with Sentinels(tmp_path) as sentinels:
        yield sentinels


@pytest.fixture
def on_watched(settings, watched, mongo_client, hints) -> Iterator[Pipeline]:
    """A pipeline on the watched servers. Nobody flushes but the test."""
    wire = EveryWire(open_servers(watched.url, TIMEOUT_MS))
    changed = settings.model_copy(update={"redis_url": watched.url})
    yield Pipeline(changed, hints=hints, wire=wire, client=mongo_client)
    wire.close()


@pytest.mark.parametrize(
    ("stop", "start"),
    [(Watched.kill, Watched.start), pytest.param(freeze, resume, marks=long)],
    ids=["killed", "hung"],
)
def test_a_failover(
    on_watched: Pipeline, watched: Sentinels, stop: Callable[[Watched], None], start: Callable[[Watched], object]
):
    """The replica has what was replicated, takes writes, and its versions go on; all is flushed."""
    users = on_watched.collection("users")
    first = users.put("u1", {"n": 1}, durability=Durability.REPLICATED)
    assert [] == on_watched.status()["lost_data"]
    old = watched.primary
    stop(old)
    try:

        def written() -> int:
            try:
                return users.put("u2", {"n": 2}).version
            except RedisUnavailableError:
                return 0

        version = wait_until(written, "the replica to take over", 20)
        assert {"_id": "u1", "n": 1} == users.get("u1")
        assert users.put("u1", {"n": 3}).version > first.version
        assert (Durability.REPLICATED, 1, True) == (
            first.durability,
            first.confirmed.replicas,
            version > first.version,
        )
    finally:
        start(old)
    wait_until(watched.is_whole, "the former primary to follow", 30)
    assert [] == on_watched.status()["lost_data"]
    for one in range(on_watched.store.partitions):
        on_watched.flusher.flush(one)
    assert (0, 0) == (on_watched.status()["pending"], on_watched.status()["dead_letters"])
    assert {"_id": "u1", "n": 3} == {k: v for k, v in users.get("u1").items() if k != "_v"}


@long
def test_its_users_need_no_more_than_they_say(on_watched: Pipeline, watched: Sentinels):
    """`doctor --acl` permits all that is asked of Sentinels, and of servers that they watch."""
    user, watching = needed_users(on_watched.settings)
    with (
        permitted(watching, watched.url, *watched.sentinels),
        permitted(user, watched.url, *watched.servers) as of_servers,
    ):
        url = f"{of_servers}?sentinel_username={watching.name}&sentinel_password=secret"
        wire = EveryWire(open_servers(url, TIMEOUT_MS))
        settings = on_watched.settings.model_copy(update={"redis_url": url})
        narrow = Pipeline(settings, wire=wire, client=on_watched._client)
        narrow.collection("users").put("u1", {"n": 1}, durability=Durability.REPLICATED)
        found = list(failover.check(narrow))
        flush_all(narrow)
        wire.close()
    assert not [one for one in found if "refuse" in one.found], found


def see_told_why(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    """See that all views name the cause, and say what to do: also while nobody asks Redis for a moment."""
    said, advice = "No replica of the primary keeps up", "see that its replicas run and reach it"
    client = create_app(pipeline).test_client()
    for _ in range(3):
        with pytest.raises(NoReplicasError, match=said) as refused:
            pipeline.collection("users").put("u1", {"n": 3})
        assert said in client.put("/v1/users/u1", json={"n": 3}).json["detail"]
    assert client.get("/readyz").json["redis"].startswith(said)
    *_, one = doctor.check(pipeline)
    assert (True, True) == (one.found.startswith(said), advice in one.advice)
    with (console := Console(width=400)).capture() as printed:
        to_do = pipeline.status_without_redis(refused.value)["to_do"]
        console.print(without_redis(None, to_do, refused.value))
    assert printed.get().startswith("Redis takes no writes, as too few replicas keep up; nobody on this host")
    assert f"redis: {said}" in printed.get()
    assert advice in printed.get()
    lost = [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "redis_lost"]
    assert advice in lost[-1]


def test_a_primary_that_may_have_been_replaced_is_not_read_from(settings, tmp_path, mongo_client, hints, caplog):
    """One that no replica follows takes no writes, and another may take its place: reads go to MongoDB."""
    fence = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
    with Sentinels(tmp_path, fence) as watched, ExitStack() as undo:
        wire = EveryWire(open_servers(watched.url, TIMEOUT_MS))
        undo.callback(wire.close)
        changed = settings.model_copy(update={"redis_url": watched.url})
        on_fenced = Pipeline(changed, hints=hints, wire=wire, client=mongo_client)
        users = on_fenced.collection("users")

        def read() -> int | None:
            found = users.get("u1")
            return found and found["n"]

        users.put("u1", {"n": 1})
        flush_all(on_fenced)
        users.put("u1", {"n": 2})
        [replica] = [one for one in watched.servers if one is not watched.primary]
        freeze(replica)
        undo.callback(resume, replica)
        wait_until(lambda: read() == 1, "what MongoDB has", 20)
        see_told_why(on_fenced, caplog)
        resume(replica)
        wait_until(lambda: read() == 2, "the replica to keep up", 20)
